import Datasets
import JSONModel
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import Transformer

/// A whole fine-tune: data files and a recipe in, a PEFT folder out.
public struct FineTuneJob {
    /// The base model, as it is served.
    public var decoder: Decoder
    /// Digest of the base model.
    public var base: String
    /// Written into `adapter_config.json`; a label without effect.
    public var baseModelName: String
    /// Tokenizer and template of the model, with the options of `recipe.exampleOptions`.
    public var builder: ExampleBuilder
    public var recipe: FineTuneRecipe
    public var trainingPath: String
    public var evaluationPath: String?
    /// What `recipe.startingAdapter` names.
    public var startingAdapter: Adapter?
    /// The job's own folder, kept between attempts.
    public var folder: String
    public var compute: Compute
    /// Name of the exact way of computing.
    public var numerics: String
    /// The most tokens of one pass through the model; more is faster and takes more memory. A longer row raises it.
    public var passTokens = 2048

    public init(
        decoder: Decoder, base: String, baseModelName: String, builder: ExampleBuilder,
        recipe: FineTuneRecipe, trainingPath: String, evaluationPath: String? = nil,
        startingAdapter: Adapter? = nil, folder: String, compute: Compute, numerics: String
    ) {
        self.decoder = decoder
        self.base = base
        self.baseModelName = baseModelName
        self.builder = builder
        self.recipe = recipe
        self.trainingPath = trainingPath
        self.evaluationPath = evaluationPath
        self.startingAdapter = startingAdapter
        self.folder = folder
        self.compute = compute
        self.numerics = numerics
    }

    public enum Ending: Sendable {
        case finished(FineTuneProduct)
        /// A checkpoint was written (none at step 0); the same job started again goes on from it.
        case stopped(FineTuneStop, step: Int)
    }

    private struct Stopped: Error { let reason: FineTuneStop }

    /// Reads the data, trains, and writes the adapter to `folder/adapter`.
    ///
    /// - Throws: `FineTuneError`, `DatasetError`, `LoRAError`, `TransformerError`, `KernelError`.
    public func run(_ control: FineTuneControl = FineTuneControl()) throws -> Ending {
        do {
            let (start, data, evaluation) = try beginning(control)
            return try train(start, data, evaluation, control)
        } catch let stopped as Stopped {
            return .stopped(stopped.reason, step: 0)
        }
    }

    func read(_ path: String, _ control: FineTuneControl) throws -> TrainingDataset {
        try TrainingDataset.read(path: path, builder: builder) { _, _ in
            if let reason = control.stopRequested() { throw Stopped(reason: reason) }
            control.advanced(1)
        }
    }

    /// What a run and its plan begin with: the adapter, and data that have labels.
    func beginning(
        _ control: FineTuneControl
    ) throws -> (AdapterStart, TrainingDataset, evaluation: TrainingDataset?) {
        let start = try AdapterStart.make(
            recipe: recipe, startingAdapter: startingAdapter, decoder: decoder,
            baseModelName: baseModelName)
        let data = try read(trainingPath, control)
        try data.requireLabels()
        let evaluation = try evaluationPath.map { try read($0, control) }
        try evaluation?.requireLabels()
        return (start, data, evaluation)
    }

    private func train(
        _ start: AdapterStart, _ data: TrainingDataset, _ evaluation: TrainingDataset?,
        _ control: FineTuneControl
    ) throws -> Ending {
        let rows = passRows(data, evaluation)
        let model = try TrainingStep(
            decoder: decoder, adapter: start.adapter, compute: compute, maximumRows: rows,
            dropoutSeed: recipe.seed)
        let identity = RunIdentity(
            base: base, recipe: recipe.digest.text,
            data: Self.digest(data.examples, evaluation?.examples ?? []).text,
            start: start.adapter.digest().text, numerics: numerics,
            threads: compute.pool.threadCount, passTokens: rows)
        let run = try FineTuneRun(
            model: model, recipe: recipe, training: data.examples,
            evaluation: evaluation?.examples ?? [], identity: identity, folder: folder,
            compute: compute, rate: start.rate, shared: try shared(start, model),
            adapterConfig: start.adapter.config.peftObject()
                .serialized(pretty: true, sortedKeys: true))
        switch try run.run(control) {
        case .stopped(let reason, let step): return .stopped(reason, step: step)
        case .finished(var summary):
            summary.warnings = data.report.warnings + summary.warnings
            return .finished(
                try product(model.adapter(), start, summary, data, evaluation, identity))
        }
    }

    /// What `share_b` joins; nil without it.
    func shared(_ start: AdapterStart, _ model: TrainingStep) throws -> SharedFactors? {
        guard recipe.sharesB else { return nil }
        return try SharedFactors(start.adapter.modules, tensors: model.trainedTensors)
    }

    /// The most tokens of a pass.
    func passRows(_ data: TrainingDataset, _ evaluation: TrainingDataset?) -> Int {
        let longest = (data.examples + (evaluation?.examples ?? [])).map(\.tokens.count).max() ?? 1
        return max(longest, min(passTokens, max(data.report.tokens, 1)))
    }

    private func product(
        _ adapter: Adapter, _ start: AdapterStart, _ summary: FineTuneSummary,
        _ data: TrainingDataset, _ evaluation: TrainingDataset?, _ identity: RunIdentity
    ) throws -> FineTuneProduct {
        let path = folder + "/adapter"
        try DurableFile.removeTree(path)
        try AdapterFolder.write(adapter, to: path)
        let digest = adapter.digest()
        // What made the adapter, so that it can be made again for another base.
        let record: JSONValue = [
            "base": .string(base), "base_name": .string(baseModelName),
            "adapter": .string(digest.text), "data": .string(identity.data),
            "numerics": .string(numerics), "recipe": recipe.json,
            "rows": .integer(Int64(data.report.rows)),
            "trained_rows": .integer(Int64(data.report.usableRows)),
            "steps": .integer(Int64(summary.steps)),
            "learning_rate": .number(summary.rate.rate), "first_loss": .number(summary.firstLoss),
            "last_loss": .number(summary.lastLoss),
            "eval_loss_before": summary.evalLossBefore.map(JSONValue.number) ?? .null,
            "eval_loss_after": summary.evalLossAfter.map(JSONValue.number) ?? .null,
        ]
        try DurableFile.write(record.serialized(pretty: true), to: path + "/training.json")
        let bytes = try FilePath.entries(of: path).reduce(0) {
            $0 + (try FilePath.size(of: path + "/" + $1))
        }
        return FineTuneProduct(
            summary: summary, report: data.report, evaluationReport: evaluation?.report,
            adapterFolder: path, adapterDigest: digest, data: identity.data, adapterBytes: bytes,
            targets: start.targets)
    }

    /// Names the rows as they are trained.
    static func digest(
        _ training: [TrainingExample], _ evaluation: [TrainingExample]
    ) -> ContentDigest {
        var builder = DigestBuilder()
        for (name, examples) in [("train", training), ("eval", evaluation)] {
            builder.update(Array("\(name) \(examples.count)\n".utf8))
            for example in examples {
                builder.update(Array("\(example.tokens.count)\n".utf8))
                example.tokens.withUnsafeBytes { builder.update($0) }
                example.labels.withUnsafeBytes { builder.update($0) }
            }
        }
        return builder.finish()
    }
}

/// What a finished fine-tune leaves.
public struct FineTuneProduct: Sendable {
    public var summary: FineTuneSummary
    /// The account of the training rows.
    public var report: DatasetReport
    public var evaluationReport: DatasetReport?
    /// A PEFT folder, with `training.json` beside PEFT's two files.
    public var adapterFolder: String
    public var adapterDigest: ContentDigest
    /// Digest of all training and evaluation rows as they were trained.
    public var data: String
    public var adapterBytes: Int
    /// How many matrices each entry of the target modules matches.
    public var targets: [String: Int]
}
