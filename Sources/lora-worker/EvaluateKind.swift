import Datasets
import FineTuning
import JSONModel
import Kernels
import LinuxSystem
import ModelFiles
import PatternMatching
import Transformer
import WireProtocol
import WorkerRuntime

/// `evaluate`: rows of a file in the form of training data, through several models and adapters.
struct EvaluateKind {
    /// Rows whose scores are kept together: what an attempt that was killed has done, the next one reads again.
    static let chunkRows = 64
    /// Of all lines in the result.
    static let lineBytes = 3 << 20
    static let refusedRows = 100

    let spec: EvaluateSpec
    let context: JobContext
    let patterns: [PythonPattern]

    static func run(_ context: JobContext) throws -> JobOutcome {
        guard case .evaluate(let spec) = try context.spec() else {
            throw TaskFailure.user(.invalidSpec, "this is no spec of `evaluate`")
        }
        let patterns = try spec.metrics.filter { $0.hasPrefix(EvaluateSpec.patternPrefix) }.map {
            metric in
            do {
                return try PythonPattern(String(metric.dropFirst(EvaluateSpec.patternPrefix.count)))
            } catch {
                throw TaskFailure.user(
                    .invalidSpec, "spec.metrics: \(metric.prefix(80)) is no pattern: \(error)")
            }
        }
        return try EvaluateKind(spec: spec, context: context, patterns: patterns).run()
    }

    /// One model's scores by line, and what the answers should have been.
    private struct Scores {
        var name: ArtifactReference
        var byLine: [Int: RowScore] = [:]
        var report: DatasetReport
    }

    private func run() throws -> JobOutcome {
        let started = MonotonicTime.now()
        var all: [Scores] = []
        for (index, reference) in spec.models.enumerated() {
            all.append(try scores(reference, place: index))
        }
        guard let first = all.first else {
            throw TaskFailure.user(.invalidSpec, "spec.models: names no model")
        }
        // What any model had to refuse is left out for all: figures side by side are over the same rows.
        let lines = first.byLine.keys.filter { line in
            all.allSatisfy { $0.byLine[line] != nil }
        }.sorted()
        let table = all.map { scores in lines.compactMap { scores.byLine[$0] } }
        let figures = EvaluationFigures(metrics: spec.metrics)
        let models = zip(all, table).map {
            EvaluateResult.Model(model: $0.name, metrics: figures.values($1))
        }
        let gains = zip(all, table).dropFirst().map {
            EvaluateResult.Gain(over: $0.name, metrics: figures.gains(table[0], over: $1))
        }
        var result = EvaluateResult(
            rows: first.report.rows, usable: lines.count,
            refused: first.report.refused.prefix(Self.refusedRows).map(TrainingSource.wire),
            models: models, gains: gains.isEmpty ? nil : gains, lines: [],
            seconds: (MonotonicTime.now() - started).seconds, numerics: context.numerics,
            warnings: warnings(first.report, usable: lines.count))
        try addLines(lines, table, to: &result)
        return JobOutcome(
            result: try WireEncoder.encode(result),
            metrics: figures.gateMetrics(models: models, gains: gains))
    }

    private func warnings(_ report: DatasetReport, usable: Int) -> [String]? {
        var warnings = report.warnings
        if usable < report.rows {
            warnings.append("\(report.rows - usable) of \(report.rows) rows could not be measured")
        }
        return warnings.isEmpty ? nil : warnings
    }

    private func addLines(
        _ lines: [Int], _ table: [[RowScore]], to result: inout EvaluateResult
    ) throws {
        var room = Self.lineBytes
        for (row, line) in lines.enumerated() {
            let first = table[0][row]
            let entry = EvaluateResult.Line(
                line: line, labels: first.labels, expected: first.expected, prompt: first.prompt,
                answers: table.map { $0[row].wire(metrics: spec.metrics) })
            room -= try WireEncoder.encode(entry).serialized().count + 1
            if room < 0 { break }
            result.lines.append(entry)
        }
        let left = lines.count - result.lines.count
        result.linesLeftOut = left > 0 ? left : nil
    }

    // MARK: One model

    private func scores(_ reference: ArtifactReference, place: Int) throws -> Scores {
        let (model, artifact) = try model(of: reference)
        let adapter: ServedAdapter?
        if artifact.type == .adapter {
            guard let digest = ContentDigest(text: artifact.digest.text) else {
                throw TaskFailure(
                    ErrorObject(.internalError, .internal, "the adapter's digest is malformed"))
            }
            adapter = try model.adapter(folder: artifact.path, digest: digest).adapter
        } else {
            adapter = nil
        }
        let recipe = try FineTuneRecipe(.object(JSONObject()))
        let wanted = spec.lines.map(Set.init)
        let data = try TrainingDataset.read(
            path: try context.input("eval"),
            builder: try TrainingSource.builder(recipe, model, now: context.envelope.jobTime),
            lines: { wanted?.contains($0) ?? true })
        try data.requireLabels()
        let scorer = RowScorer(
            model: model, adapter: adapter, spec: spec, patterns: patterns, context: context)
        var found = Scores(
            name: artifact.name.pinned(to: artifact.version), report: data.report)
        let chunks = stride(from: 0, to: data.examples.count, by: Self.chunkRows)
        let total = data.examples.count * spec.models.count
        for start in chunks {
            try context.checkStop()
            let rows = Array(data.examples[start...].prefix(Self.chunkRows))
            let path = try context.workdir() + "/scores-\(place)-\(start).json"
            let scored: [RowScore]
            if let kept = RowScore.read(path, lines: rows.map(\.line)) {
                scored = kept
            } else {
                scored = try scorer.score(rows)
                try RowScore.write(scored, to: path)
            }
            for score in scored { found.byLine[score.line] = score }
            context.task.report(
                done: Double(place * data.examples.count + start + rows.count),
                total: Double(total), unit: "rows", message: "evaluating \(found.name)")
        }
        return found
    }

    /// The base of a reference, and the artifact that it names.
    private func model(
        of reference: ArtifactReference
    ) throws -> (LoadedModel, TaskEnvelope.Artifact) {
        let artifacts = context.envelope.artifacts
        guard let artifact = artifacts.first(where: { $0.ref == reference.text }) else {
            throw TaskFailure.user(.unknownArtifact, "there is no \(reference)")
        }
        guard artifact.type == .adapter else {
            return (try context.shelf.model(artifact), artifact)
        }
        let base = artifact.meta?["base"]?.string
        for candidate in artifacts
        where candidate.type == .model && candidate.name.model == reference.model {
            let model = try context.shelf.model(candidate)
            if base == nil || base == model.prepared.manifest.base.text { return (model, artifact) }
        }
        throw TaskFailure.user(
            "ADAPTER_BASE", "the base of \(reference) is not among the models named here",
            hint: "evaluate adapters of one version of a model together, or name versions (`M@2`)")
    }
}
