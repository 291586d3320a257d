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

    static func run(_ context: JobContext) throws -> JobOutcome {
        guard case .check(let spec) = try context.spec() else {
            throw TaskFailure.user(.invalidSpec, "this is no spec of `check`")
        }
        if spec.action == .plan { return try PlanKind.run(spec, context) }
        let model = try context.shelf.model(of: context.envelope)
        let recipe = try FineTuneRecipe(context.envelope.spec["recipe"] ?? .object(JSONObject()))
        let builder = try TrainingSource.builder(recipe, model)
        let data = try TrainingDataset.read(path: context.input("data"), builder: builder) {
            done, total in
            try context.checkStop()
            context.task.report(done: Double(done), total: Double(total), unit: "bytes")
        }
        let report = data.report
        let shown = data.examples.prefix(spec.rows ?? shownRows).map { self.shown($0, model) }
        let result = CheckResult(
            rows: report.rows, usable: report.usableRows, tokens: report.tokens,
            labels: report.labels,
            truncated: 0, duplicates: report.duplicates,
            lengths: report.lengths.map {
                CheckResult.Lengths(
                    min: $0.minimum, median: $0.median, p95: $0.percentile95, max: $0.maximum)
            },
            refused: report.refused.prefix(refusedRows).map(TrainingSource.wire), shown: shown,
            warnings: report.warnings.isEmpty ? nil : report.warnings)
        return JobOutcome(
            result: try WireEncoder.encode(result),
            metrics: ["usable": Double(report.usableRows), "refused": Double(report.refused.count)])
    }

    /// A row's text in stretches that are trained or not, exactly as they are tokenized.
    private static func shown(_ example: TrainingExample, _ model: LoadedModel) -> CheckResult.Shown
    {
        var spans: [CheckResult.Shown.Span] = []
        let labels = example.labels
        var start = 0
        while start < example.tokens.count {
            let isTrained = labels[start] >= 0
            var end = start + 1
            while end < example.tokens.count, (labels[end] >= 0) == isTrained { end += 1 }
            let text =
                model.tokenizer?.decode(
                    Array(example.tokens[start..<end]), skipSpecialTokens: false) ?? ""
            spans.append(
                CheckResult.Shown.Span(text: text, tokens: end - start, trained: isTrained))
            start = end
        }
        return CheckResult.Shown(line: example.line, spans: spans)
    }
}
