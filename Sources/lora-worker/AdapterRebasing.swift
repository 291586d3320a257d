import Datasets
import FineTuning
import JSONModel
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import Transformer
import WireProtocol
import WorkerRuntime

/// `adapter` with `rebase`: scores an adapter on another base, trains it anew there where it needs to be, and registers what is no
/// worse than it was.
///
/// Scores are kept in the work folder as they come and the training has its checkpoints there: an attempt that was killed goes on.
struct AdapterRebasing {
    let spec: AdapterRebase
    let context: JobContext
    let artifact: TaskEnvelope.Artifact
    let old: LoadedModel
    let new: LoadedModel
    let newArtifact: TaskEnvelope.Artifact
    let recipeJSON: JSONValue
    let recipe: FineTuneRecipe
    var warnings: [String]

    static func run(_ spec: AdapterRebase, _ context: JobContext) throws -> JobOutcome {
        let started = MonotonicTime.now()
        var rebasing = try AdapterRebasing(spec, context)
        var result = try rebasing.decide()
        let outcome = try rebasing.outcome(&result)
        result.seconds = (MonotonicTime.now() - started).seconds
        return JobOutcome(
            result: try WireEncoder.encode(result), metrics: Self.metrics(result),
            artifacts: outcome.map { [$0] })
    }

    // MARK: What there is

    private init(_ spec: AdapterRebase, _ context: JobContext) throws {
        self.spec = spec
        self.context = context
        let artifacts = context.envelope.artifacts
        guard let artifact = artifacts.first(where: { $0.ref == spec.adapter.text }),
            let newArtifact = artifacts.first(where: { $0.ref == spec.model.text })
        else {
            throw TaskFailure.user(
                .unknownArtifact, "there is no \(spec.adapter) or no \(spec.model)")
        }
        self.artifact = artifact
        self.newArtifact = newArtifact
        new = try context.shelf.model(newArtifact)
        old = try Self.base(of: artifact, artifacts, context)
        guard old.prepared.manifest.base != new.prepared.manifest.base else {
            throw TaskFailure.user(
                "ADAPTER_BASE",
                "\(spec.model) has the very matrices of the base of \(spec.adapter): there is nothing to rebase"
            )
        }
        warnings = []
        (recipeJSON, recipe) = try Self.recipe(of: artifact, new, &warnings)
    }

    private static func base(
        of artifact: TaskEnvelope.Artifact, _ artifacts: [TaskEnvelope.Artifact],
        _ context: JobContext
    ) throws -> LoadedModel {
        let base = artifact.meta?["base"]?.string
        for candidate in artifacts
        where candidate.type == .model && candidate.name.model == artifact.name.model {
            let model = try context.shelf.model(candidate)
            if base == model.prepared.manifest.base.text { return model }
        }
        throw TaskFailure.user(
            "ADAPTER_BASE", "the base of \(AdapterMerging.pinned(artifact)) is not at hand")
    }

    /// The recipe that the adapter was made by, as it can be followed on the new base.
    private static func recipe(
        of artifact: TaskEnvelope.Artifact, _ model: LoadedModel, _ warnings: inout [String]
    ) throws -> (JSONValue, FineTuneRecipe) {
        guard var object = artifact.meta?["recipe"]?.object else {
            throw TaskFailure.user(
                "NO_RECIPE",
                "\(AdapterMerging.pinned(artifact)) keeps no recipe: it was not trained here, so that it cannot be trained anew",
                hint: "train one for the new base with `loraq finetune`")
        }
        if let parent = object["adapter"]?.string {
            object["adapter"] = nil
            warnings.append(
                "the adapter went on from \(parent.prefix(80)), which belongs to the old base: trained anew it begins afresh"
            )
        }
        if let type = object["dtype"]?.string, type != model.decoder.elementType.rawValue {
            object["dtype"] = nil
            warnings.append(
                "the recipe's dtype is \(type.prefix(20)); the new base is prepared in \(model.decoder.elementType.rawValue)"
            )
        }
        return (.object(object), try FineTuneRecipe(.object(object)))
    }

    // MARK: Scores

    /// The losses of the rows that were asked about, by line.
    private typealias Scores = [Int: RowScore]

    private var heldOut: Bool { context.inputIfAny("eval") != nil }

    private func examples(_ model: LoadedModel) throws -> [TrainingExample] {
        let data = try TrainingDataset.read(
            path: context.inputIfAny("eval") ?? context.input("train"),
            builder: try TrainingSource.builder(recipe, model, now: context.envelope.jobTime))
        try data.requireLabels()
        return data.examples
    }

    /// Scores all rows, a part at a time; parts of an earlier attempt are read again.
    private func scores(
        _ model: LoadedModel, _ adapter: Adapter, _ name: String, message: String
    ) throws -> Scores {
        let served = try model.decoder.serve(
            adapter, digest: adapter.digest(), compute: Compute(pool: context.shelf.pool))
        let scorer = RowScorer(
            model: model, adapter: served, spec: EvaluateSpec(models: [], metrics: ["loss"]),
            patterns: [], context: context)
        let examples = try examples(model)
        var found: Scores = [:]
        for start in stride(from: 0, to: examples.count, by: EvaluateKind.chunkRows) {
            try context.checkStop()
            let rows = Array(examples[start...].prefix(EvaluateKind.chunkRows))
            let path = try context.workdir() + "/\(name)-\(start).json"
            let scored: [RowScore]
            if let kept = RowScore.read(path, lines: rows.map(\.line)) {
                scored = kept
            } else {
                scored = try scorer.score(rows)
                try RowScore.write(scored, to: path)
            }
            for score in scored { found[score.line] = score }
            context.task.report(
                done: Double(start + rows.count), total: Double(examples.count), unit: "rows",
                message: message)
        }
        return found
    }

    // MARK: The decision

    private struct Trained {
        var product: FineTuneProduct
        var adapter: Adapter
    }

    private var trained: Trained?
    private var carried: Adapter?

    private mutating func decide() throws -> RebaseResult {
        let own = try AdapterKind.reading {
            try AdapterFolder.read(artifact.path, for: old.decoder, checkingBase: false)
        }
        let before = try scores(old, own, "old", message: "scoring on the old base")
        let onNew = Set(try examples(new).map(\.line))
        let lines = before.keys.filter(onNew.contains).sorted()
        guard !lines.isEmpty else {
            throw TaskFailure.user(
                .invalidSpec, "no row can be scored on both bases",
                hint: "`loraq data check` with each of the models tells why")
        }
        if lines.count < before.count {
            warnings.append(
                "\(before.count - lines.count) of \(before.count) rows cannot be used on the new base"
            )
        }
        if !heldOut {
            warnings.append("no evaluation rows were kept: the scores are over the training rows")
        }
        let labels = Double(lines.reduce(0) { $0 + (before[$1]?.labels ?? 0) })
        func loss(_ scores: Scores) -> Double {
            lines.reduce(0) { $0 + (scores[$1]?.loss ?? .nan) } / labels
        }
        let tolerance = spec.tolerance ?? AdapterRebase.standardTolerance
        let oldLoss = loss(before)
        var result = RebaseResult(
            adapter: artifact.name.pinned(to: artifact.version),
            model: newArtifact.name.pinned(to: newArtifact.version), decision: .kept,
            loss: RebaseResult.Losses(old: oldLoss), tolerance: tolerance, rows: lines.count,
            heldOut: heldOut, seconds: 0)
        func isNoWorse(_ new: Double) -> Bool { new <= oldLoss * (1 + tolerance) }
        if let unchanged = unchanged() {
            let after = loss(
                try scores(new, unchanged, "carried", message: "scoring on the new base"))
            result.loss.carried = after
            if isNoWorse(after) {
                carried = unchanged
                result.decision = .carried
                return result
            }
        }
        let trained = try train()
        self.trained = trained
        warnings += trained.product.summary.warnings
        result.steps = trained.product.summary.steps
        result.learningRate = trained.product.summary.rate.rate
        let after = loss(
            try scores(
                new, trained.adapter, "retrained", message: "scoring what was trained anew"))
        result.loss.retrained = after
        if isNoWorse(after) { result.decision = .retrained }
        return result
    }

    /// The adapter as it is, on the new base; nil where its shapes do not fit.
    private mutating func unchanged() -> Adapter? {
        do {
            return try AdapterFolder.read(artifact.path, for: new.decoder, checkingBase: false)
        } catch {
            warnings.append("unchanged it does not fit the new base: \(error)")
            return nil
        }
    }

    private func train() throws -> Trained {
        let job = FineTuneJob(
            decoder: try FinetuneKind.decoder(recipe, new),
            base: new.prepared.manifest.base.text, baseModelName: spec.model.model.text,
            builder: try TrainingSource.builder(recipe, new, now: context.envelope.jobTime),
            recipe: recipe, trainingPath: try context.input("train"),
            evaluationPath: context.inputIfAny("eval"), folder: try context.workdir() + "/training",
            compute: try Compute(pool: context.shelf.pool), numerics: context.numerics)
        switch try job.run(FinetuneKind.control(context)) {
        case .stopped(.preempted, _): throw JobStopped.preempted
        case .stopped(.cancelled, _): throw JobStopped.cancelled
        case .finished(let product):
            return Trained(
                product: product,
                adapter: try AdapterFolder.read(product.adapterFolder, for: new.decoder))
        }
    }

    // MARK: What comes of it

    /// What is to be registered; the result names it.
    private func outcome(_ result: inout RebaseResult) throws -> TaskResult.Artifact? {
        result.warnings = warnings.isEmpty ? nil : warnings
        let artifact: TaskResult.Artifact
        switch result.decision {
        case .kept: return nil
        case .carried: artifact = try carriedArtifact(result)
        case .retrained: artifact = try retrainedArtifact(result)
        }
        result.product = FinetuneResult.Product(name: spec.product, digest: artifact.digest)
        return artifact
    }

    private func carriedArtifact(_ result: RebaseResult) throws -> TaskResult.Artifact {
        guard let carried else { throw TaskFailure.user(.invalidSpec, "nothing is carried over") }
        let folder = AdapterKind.copyFolder(in: try context.workdir())
        try DurableFile.removeTree(folder)
        try DurableFile.createDirectories(folder)
        let bytes = try [
            AdapterLoader.weightsName, AdapterLoader.configName, AdapterOrigin.fileName,
        ].reduce(0) { total, name in
            guard FilePath.exists("\(artifact.path)/\(name)") else { return total }
            return total
                + (try DurableFile.copy("\(artifact.path)/\(name)", to: "\(folder)/\(name)"))
        }
        var more: [(key: String, value: JSONValue)] = [("recipe", recipeJSON)]
        for key in ["data", "numerics", "steps", "last_loss", "learning_rate"] {
            if let value = artifact.meta?[key] { more.append((key, value)) }
        }
        return try AdapterKind.artifact(
            carried, spec.product, path: "adapter", bytes: bytes, model: new,
            more: more + common(result, loss: result.loss.carried))
    }

    private func retrainedArtifact(_ result: RebaseResult) throws -> TaskResult.Artifact {
        guard let trained else { throw TaskFailure.user(.invalidSpec, "nothing was trained") }
        let summary = trained.product.summary
        return try AdapterKind.artifact(
            trained.adapter, spec.product, path: "training/adapter",
            bytes: trained.product.adapterBytes, model: new,
            more: [
                ("recipe", recipeJSON), ("data", .string(trained.product.data)),
                ("numerics", .string(context.numerics)),
                ("steps", .integer(Int64(summary.steps))),
                ("learning_rate", .number(summary.rate.rate)),
                ("last_loss", .number(summary.lastLoss)),
            ] + common(result, loss: result.loss.retrained))
    }

    private func common(
        _ result: RebaseResult, loss: Double?
    ) -> [(key: String, value: JSONValue)] {
        var members: [(key: String, value: JSONValue)] = [
            ("job", .string(context.envelope.job.text)), ("inputs", AdapterOrigin.inputs(context)),
            ("parents", [AdapterOrigin.parent(artifact)]),
            ("rebased", .string(result.decision.rawValue)),
        ]
        if heldOut, let loss { members.append(("eval_loss", .number(loss))) }
        return members
    }

    private static func metrics(_ result: RebaseResult) -> [String: Double] {
        var metrics = [
            "loss_old": result.loss.old, "moved": result.decision == .kept ? 0 : 1,
            "seconds": result.seconds,
        ]
        metrics["loss_carried"] = result.loss.carried
        metrics["loss_retrained"] = result.loss.retrained
        return metrics
    }
}
