import FineTuning
import JSONModel
import Kernels
import LinuxSystem
import ModelFiles
import WireProtocol
import WorkerRuntime

/// `check` with `plan`: what a fine-tune would take, by counting and by a few of its own steps.
enum PlanKind {
    /// What the process takes beside base and training.
    static let processBytes = 64 << 20

    static func run(_ spec: CheckSpec, _ context: JobContext) throws -> JobOutcome {
        let model = try context.shelf.model(of: context.envelope)
        let recipe = try FineTuneRecipe(context.envelope.spec["recipe"] ?? .object(JSONObject()))
        let job = FineTuneJob(
            decoder: try FinetuneKind.decoder(recipe, model),
            base: model.prepared.manifest.base.text, baseModelName: spec.model.model.text,
            builder: try TrainingSource.builder(recipe, model, now: context.envelope.jobTime),
            recipe: recipe,
            trainingPath: try context.input("data"), evaluationPath: context.inputIfAny("eval"),
            startingAdapter: try FinetuneKind.startingAdapter(recipe, context, model),
            folder: try context.workdir(), compute: try Compute(pool: context.shelf.pool),
            numerics: context.numerics)
        let plan: FineTunePlan
        do {
            plan = try job.plan(FinetuneKind.control(context))
        } catch is CancellationError {
            try context.checkStop()
            throw JobStopped.cancelled
        }
        let packed = try FilePath.size(
            of: model.prepared.folder + "/" + PreparedFileName.packed)
        var warnings = plan.report.warnings
        if !plan.report.refused.isEmpty {
            warnings.append(
                "\(plan.report.refused.count) of \(plan.report.rows) rows cannot be used; `loraq data check` tells why"
            )
        }
        let result = PlanResult(
            matrices: plan.matrices, targets: plan.targets,
            trainableParameters: plan.trainableParameters,
            parameters: model.prepared.manifest.parameterCount, learningRate: plan.rate.rate,
            learningRateChoice: FinetuneKind.wire(plan.rate),
            rows: plan.report.rows, usable: plan.report.usableRows, tokens: plan.report.tokens,
            labels: plan.report.labels, steps: plan.steps,
            epochs: Double(plan.steps) / Double(plan.stepsPerEpoch),
            measuredSteps: plan.measuredSteps, tokensPerSecond: plan.tokensPerSecond,
            secondsPerStep: plan.secondsPerStep, seconds: plan.seconds,
            memoryBytes: PlanResult.Memory(
                base: packed, training: plan.trainingBytes,
                peak: packed + plan.trainingBytes + processBytes),
            diskBytes: PlanResult.Disk(
                adapter: plan.adapterBytes, checkpoints: plan.checkpointBytes),
            numerics: context.numerics, warnings: warnings.isEmpty ? nil : warnings)
        return JobOutcome(
            result: try WireEncoder.encode(result),
            metrics: [
                "seconds": plan.seconds, "tokens_per_second": plan.tokensPerSecond,
                "peak_bytes": Double(result.memoryBytes.peak),
            ])
    }
}
