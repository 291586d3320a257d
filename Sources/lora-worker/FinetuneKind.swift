import ChatTemplate
import Datasets
import FineTuning
import JSONModel
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import Tokenization
import Transformer
import WireProtocol
import WorkerRuntime

/// `finetune`: data and a recipe become an adapter.
enum FinetuneKind {
    static func run(_ context: JobContext) throws -> JobOutcome {
        guard case .finetune(let spec) = try context.spec() else {
            throw TaskFailure.user(.invalidSpec, "this is no spec of `finetune`")
        }
        let model = try context.shelf.model(of: context.envelope)
        let recipe = try FineTuneRecipe(context.envelope.spec["recipe"] ?? .object(JSONObject()))
        let job = FineTuneJob(
            decoder: try decoder(recipe, model), base: model.prepared.manifest.base.text,
            baseModelName: spec.model.model.text,
            builder: try TrainingSource.builder(recipe, model, now: context.envelope.jobTime),
            recipe: recipe, trainingPath: try context.input("train"),
            evaluationPath: context.inputIfAny("eval"),
            startingAdapter: try startingAdapter(recipe, context, model),
            folder: try context.workdir(),
            compute: try Compute(pool: context.shelf.pool), numerics: context.numerics)
        switch try job.run(control(context)) {
        case .stopped(.preempted, _): throw JobStopped.preempted
        case .stopped(.cancelled, _): throw JobStopped.cancelled
        case .finished(let product):
            return try outcome(product, spec: spec, recipe: recipe, model: model, context: context)
        }
    }

    /// The base in the type that the recipe asks for: the mapped one, or one unpacked to float32.
    static func decoder(_ recipe: FineTuneRecipe, _ model: LoadedModel) throws -> Decoder {
        guard let name = recipe.elementTypeName, name != model.decoder.elementType.rawValue else {
            return model.decoder
        }
        throw TaskFailure.user(
            .invalidSpec,
            "recipe.dtype: is \(name), but the model is prepared in \(model.decoder.elementType.rawValue)",
            hint: "add the model once more under another name with --dtype \(name)")
    }

    static func startingAdapter(
        _ recipe: FineTuneRecipe, _ context: JobContext, _ model: LoadedModel
    ) throws -> Adapter? {
        guard let name = recipe.startingAdapter else { return nil }
        let artifact = context.envelope.artifacts.first { $0.type == .adapter }
        guard let artifact else {
            throw TaskFailure.user(.unknownArtifact, "recipe.adapter: there is no adapter \(name)")
        }
        return try AdapterKind.reading {
            try AdapterFolder.read(artifact.path, for: model.decoder)
        }
    }

    static func control(_ context: JobContext) -> FineTuneControl {
        FineTuneControl(
            stopRequested: {
                switch context.task.stopReason {
                case nil: nil
                case .preempted: .preempted
                case .cancelled, .dropped: .cancelled
                }
            },
            report: { progress in
                var metrics = [
                    "learning_rate": progress.learningRate, "epoch": progress.epoch,
                    "tokens": Double(progress.tokens),
                    "tokens_per_second": progress.tokensPerSecond,
                ]
                metrics["loss"] = progress.loss
                metrics["grad_norm"] = progress.gradientNorm
                metrics["eval_loss"] = progress.evalLoss
                context.task.report(
                    done: Double(progress.step), total: Double(progress.totalSteps), unit: "steps",
                    metrics: metrics, message: progress.phase.rawValue)
            },
            advanced: { context.task.advance(by: max(1, $0)) })
    }

    static func wire(_ choice: RateChoice) -> LearningRateChoice? {
        guard let how = LearningRateChoice.How(rawValue: choice.how.rawValue) else { return nil }
        return LearningRateChoice(
            how: how, reason: choice.reason,
            curve: choice.curve.map { curve in
                zip(curve.points, curve.smoothed).map {
                    LearningRateChoice.Point(
                        learningRate: $0.rate, relativeLoss: $0.relative, smoothed: $1)
                }
            })
    }

    private static func outcome(
        _ product: FineTuneProduct, spec: FinetuneSpec, recipe: FineTuneRecipe, model: LoadedModel,
        context: JobContext
    ) throws -> JobOutcome {
        let summary = product.summary
        let reference = ArtifactReference(model: spec.model.model, adapter: spec.name)
        let adapter = try AdapterFolder.read(product.adapterFolder, for: model.decoder)
        let name = FilePath.name(of: product.adapterFolder)
        let artifact = try AdapterKind.artifact(
            adapter, reference, path: name, bytes: product.adapterBytes, model: model,
            more: [
                ("job", .string(context.envelope.job.text)),
                ("last_loss", .number(summary.lastLoss)),
            ] + AdapterOrigin.meta(of: product, context))
        // What `prepare` noted of the model, such as an end token that was never trained, concerns its adapters too.
        let warnings = summary.warnings + model.prepared.manifest.notes
        let shown = 100
        let result = FinetuneResult(
            adapter: FinetuneResult.Product(name: reference, digest: artifact.digest),
            rows: product.report.rows, trainedRows: product.report.usableRows,
            refused: product.report.refused.prefix(shown).map(TrainingSource.wire),
            refusedRows: product.report.refused.count > shown ? product.report.refused.count : nil,
            turns: product.report.turns, trainedAnswers: product.report.trainedAnswers,
            untrainedAnswers: product.report.untrainedAnswers,
            tokens: summary.tokens, labelTokens: summary.labels, steps: summary.steps,
            skippedSteps: summary.skippedSteps.isEmpty ? nil : summary.skippedSteps.count,
            epochs: summary.epochs, firstLoss: summary.firstLoss, lastLoss: summary.lastLoss,
            evalLossBefore: summary.evalLossBefore, evalLossAfter: summary.evalLossAfter,
            learningRate: summary.rate.rate,
            learningRateChoice: wire(summary.rate),
            trainableParameters: summary.trainableParameters,
            targets: product.targets, seconds: summary.seconds,
            tokensPerSecond: summary.tokensPerSecond,
            peakBytes: summary.peakBytes, dtype: model.decoder.elementType.rawValue,
            numerics: context.numerics, resumedFromStep: summary.resumedFromStep,
            warnings: warnings.isEmpty ? nil : warnings)
        var metrics = [
            "first_loss": summary.firstLoss, "last_loss": summary.lastLoss,
            "seconds": summary.seconds,
            "tokens_per_second": summary.tokensPerSecond,
        ]
        metrics["eval_loss"] = summary.evalLossAfter
        metrics["eval_loss_before"] = summary.evalLossBefore
        return JobOutcome(
            result: try WireEncoder.encode(result),
            usage: ["tokens": Double(summary.tokens), "label_tokens": Double(summary.labels)],
            metrics: metrics, artifacts: [artifact])
    }
}

/// What training data needs of a model.
enum TrainingSource {
    static func builder(
        _ recipe: FineTuneRecipe, _ model: LoadedModel, now: LocalTime
    ) throws -> ExampleBuilder {
        guard let tokenizer = model.tokenizer else {
            throw TaskFailure.user("NO_TOKENIZER", "the model has no tokenizer")
        }
        let options = try recipe.exampleOptions(
            config: model.decoder.config, tokenizerEnd: model.tokenizerEnd)
        // Without a usable template rows with messages are refused one by one, by line.
        let renderer: TrainingRenderer? =
            if case .success = model.template { TrainingRenderer(model: model, now: now) } else {
                nil
            }
        return ExampleBuilder(tokenizer: tokenizer, renderer: renderer, options: options)
    }

    static func wire(_ row: Datasets.RefusedRow) -> WireProtocol.RefusedRow {
        WireProtocol.RefusedRow(
            line: row.line, code: ErrorCode(row.code.rawValue), message: row.message)
    }
}
