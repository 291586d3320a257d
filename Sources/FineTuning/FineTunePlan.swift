import Datasets
import Kernels
import LinuxSystem
import LoRA
import Transformer

/// What a fine-tune would take, told before it is run: counted from base, recipe and data, with rates measured on this
/// machine by its own first steps.
public struct FineTunePlan: Sendable {
    /// Matrices that would be adapted.
    public var matrices: Int
    /// How many each entry of the target modules matches.
    public var targets: [String: Int]
    public var trainableParameters: Int
    /// The peak rate and how it came about.
    public var rate: RateChoice
    public var report: DatasetReport
    public var steps: Int
    public var stepsPerEpoch: Int
    /// Tokens trained over the whole run, and evaluated.
    public var trainedTokens: Int
    public var evaluatedTokens: Int
    /// Steps that were run to measure, the first of them not counted.
    public var measuredSteps: Int
    public var tokensPerSecond: Double
    public var secondsPerStep: Double
    /// Training, evaluations, and the range test of `find`.
    public var seconds: Double
    /// What the worker holds beside the base: activations, gradients, optimizer.
    public var trainingBytes: Int
    /// The final adapter, and the checkpoints kept while it trains.
    public var adapterBytes: Int
    public var checkpointBytes: Int
}

extension FineTuneJob {
    /// Most steps that a plan runs to measure their rate, and about how long it goes on.
    static let measuredSteps = 10
    static let measuredSeconds = 4.0

    /// Counts, and runs a few steps in `folder/plan`, which is removed again; the adapter they make is thrown away.
    ///
    /// - Throws: As `run`; `CancellationError` when `control` asks for a stop.
    public func plan(_ control: FineTuneControl = FineTuneControl()) throws -> FineTunePlan {
        let (start, data, evaluation) = try beginning(control)
        let rows = passRows(data, evaluation)
        let plan = BatchPlan(
            exampleCount: data.examples.count, batchSize: recipe.batchSize,
            accumulation: recipe.accumulation, shuffleSeed: nil)
        let steps = recipe.totalSteps(stepsPerEpoch: plan.stepsPerEpoch)
        let rate = try measure(start, data, evaluation, rows: rows, steps: steps, control)
        let dataTokens = data.examples.reduce(0) { $0 + $1.tokens.count }
        let trained = Int(
            (Double(dataTokens) * Double(steps) / Double(plan.stepsPerEpoch)).rounded())
        var evaluations = evaluation == nil ? 0 : 2
        if evaluation != nil, let every = recipe.evalSteps { evaluations += (steps - 1) / every }
        let evaluated =
            evaluations * (evaluation?.examples.reduce(0) { $0 + $1.tokens.count } ?? 0)
        let parameters = start.plan.parameterCount
        let model = rate.model
        let trainingSeconds = Double(trained) / rate.tokensPerSecond
        return FineTunePlan(
            matrices: start.adapter.modules.count, targets: start.targets,
            trainableParameters: parameters
                - (try shared(start, model)?.copiedCount ?? 0),
            rate: rate.choice,
            report: data.report, steps: steps, stepsPerEpoch: plan.stepsPerEpoch,
            trainedTokens: trained, evaluatedTokens: evaluated, measuredSteps: rate.steps,
            tokensPerSecond: rate.tokensPerSecond,
            secondsPerStep: trainingSeconds / Double(max(1, steps)),
            seconds: trainingSeconds + Double(evaluated) / rate.evaluatedPerSecond
                + rate.searchSeconds,
            trainingBytes: TrainingStep.byteCount(
                config: decoder.config, plan: start.plan, rows: rows,
                elementType: decoder.elementType, dropsOut: start.adapter.config.dropout > 0),
            adapterBytes: 4 * parameters,
            // Adapter and both moments.
            checkpointBytes: recipe.savedLimit * 12 * parameters)
    }

    private struct Rate {
        var model: TrainingStep
        var choice: RateChoice
        var searchSeconds: Double
        var steps: Int
        var tokensPerSecond: Double
        var evaluatedPerSecond: Double
    }

    /// Runs the first steps of the very loop that trains, on the very rows.
    private func measure(
        _ start: AdapterStart, _ data: TrainingDataset, _ evaluation: TrainingDataset?, rows: Int,
        steps: Int, _ control: FineTuneControl
    ) throws -> Rate {
        let model = try TrainingStep(
            decoder: decoder, adapter: start.adapter, compute: compute, maximumRows: rows,
            dropoutSeed: recipe.seed)
        let scratch = folder + "/plan"
        try DurableFile.removeTree(scratch)
        defer { try? DurableFile.removeTree(scratch) }
        var short = recipe
        short.maximumSteps = max(2, min(Self.measuredSteps, steps))
        short.saveSteps = short.maximumSteps ?? 1
        short.loggingSteps = 1
        let run = try FineTuneRun(
            model: model, recipe: short, training: data.examples,
            identity: RunIdentity(
                base: base, recipe: "plan", data: "plan", start: "plan", numerics: numerics,
                threads: compute.pool.threadCount, passTokens: rows),
            folder: scratch, compute: compute, rate: start.rate, shared: try shared(start, model))
        var marks: [(seconds: Double, tokens: Int)] = []
        let begun = MonotonicTime.now()
        var inner = FineTuneControl()
        inner.advanced = control.advanced
        inner.report = { progress in
            guard progress.phase == .training else { return }
            marks.append(((MonotonicTime.now() - begun).seconds, progress.tokens))
        }
        inner.stopRequested = {
            if let stop = control.stopRequested() { return stop }
            guard marks.count >= 3, let first = marks.first, let last = marks.last else {
                return nil
            }
            return last.seconds - first.seconds > Self.measuredSeconds ? .preempted : nil
        }
        _ = try run.run(inner)
        if control.stopRequested() != nil { throw CancellationError() }
        guard marks.count >= 2, let first = marks.first, let last = marks.last else {
            throw FineTuneError(.compute, "no step could be measured")
        }
        let trained =
            Double(last.tokens - first.tokens) / max(1e-6, last.seconds - first.seconds)
        return Rate(
            model: model, choice: run.rateChoice, searchSeconds: run.searchSeconds,
            steps: marks.count - 1, tokensPerSecond: trained,
            evaluatedPerSecond: try evaluationRate(model, evaluation) ?? trained)
    }

    /// Tokens a second of a forward pass over some evaluation rows.
    private func evaluationRate(
        _ model: TrainingStep, _ evaluation: TrainingDataset?
    ) throws -> Double? {
        guard let evaluation else { return nil }
        var packed = PackedRows()
        for example in evaluation.examples {
            if packed.tokens.count + example.tokens.count > model.maximumRows { break }
            packed.append(example)
        }
        let begun = MonotonicTime.now()
        _ = try model.evaluate(
            tokens: packed.tokens, spanLengths: packed.spanLengths, labels: packed.labels)
        return Double(packed.tokens.count) / max(1e-6, (MonotonicTime.now() - begun).seconds)
    }
}
