import Datasets
import FineTuning
import JSONModel
import Tokenization
import WireProtocol
import WorkerRuntime

/// `check`: what a fine-tune would make of its data, without training.
enum CheckKind {
    /// Rows shown where the spec does not say.
    static let shownRows = 3
    static let refusedRows = 100
    /// Tokens that are shown one by one.
    static let shownPieces = 16_384

    static func run(_ context: JobContext) throws -> JobOutcome {
        guard case .check(let spec) = try context.spec() else {
            throw TaskFailure.user(.invalidSpec, "this is no spec of `check`")
        }
        if spec.action == .plan { return try PlanKind.run(spec, context) }
        let model = try context.shelf.model(of: context.envelope)
        guard let tokenizer = model.tokenizer else {
            throw TaskFailure.user("NO_TOKENIZER", "the model has no tokenizer")
        }
        let recipe = try FineTuneRecipe(context.envelope.spec["recipe"] ?? .object(JSONObject()))
        let builder = try TrainingSource.builder(
            recipe, model, now: context.envelope.jobTime)
        let data = try TrainingDataset.read(
            path: context.input("data"), builder: builder,
            progress: { done, total in
                try context.checkStop()
                context.task.report(done: Double(done), total: Double(total), unit: "bytes")
            })
        let report = data.report
        var pieces = shownPieces
        let shown = data.examples.prefix(spec.rows ?? shownRows).map { example in
            pieces -= example.tokens.count
            return self.shown(example, tokenizer, withPieces: pieces >= 0)
        }
        let result = CheckResult(
            rows: report.rows, usable: report.usableRows, forms: report.forms,
            turns: report.turns, trainedAnswers: report.trainedAnswers,
            untrainedAnswers: report.untrainedAnswers, tokens: report.tokens,
            labels: report.labels, truncated: 0, duplicates: report.duplicates,
            lengths: report.lengths.map(wire),
            refused: report.refused.prefix(refusedRows).map(TrainingSource.wire), shown: shown,
            warnings: report.warnings.isEmpty ? nil : report.warnings)
        return JobOutcome(
            result: try WireEncoder.encode(result),
            metrics: ["usable": Double(report.usableRows), "refused": Double(report.refused.count)])
    }

    private static func wire(_ lengths: DatasetReport.Lengths) -> CheckResult.Lengths {
        CheckResult.Lengths(
            min: lengths.minimum, median: lengths.median, p95: lengths.percentile95,
            max: lengths.maximum,
            histogram: lengths.histogram.map { .init(upto: $0.upTo, rows: $0.rows) })
    }

    /// A row's text in stretches that are trained or not, exactly as they are tokenized.
    private static func shown(
        _ example: TrainingExample, _ tokenizer: Tokenizer, withPieces: Bool
    ) -> CheckResult.Shown {
        let spans = example.runs.map { run in
            let ids = Array(example.tokens[run.tokens])
            let texts = ids.map { TokenText($0, tokenizer) }
            let pieces = zip(ids, texts).map { id, text in
                CheckResult.Shown.Span.Piece(id: Int(id), text: text.text)
            }
            return CheckResult.Shown.Span(
                text: String(decoding: texts.flatMap(\.bytes), as: UTF8.self), tokens: ids.count,
                trained: run.isTrained, pieces: withPieces ? pieces : nil)
        }
        return CheckResult.Shown(line: example.line, spans: spans)
    }
}
