import FineTuning
import WireProtocol

/// Figures of each metric out of the scores of rows.
struct EvaluationFigures {
    let metrics: [String]

    private typealias Row = EvaluationStatistics.Row

    /// Which pattern a metric is among the patterns.
    private func pattern(_ metric: String) -> Int? {
        guard metric.hasPrefix(EvaluateSpec.patternPrefix) else { return nil }
        return metrics.filter { $0.hasPrefix(EvaluateSpec.patternPrefix) }.firstIndex(of: metric)
    }

    private func isShare(_ metric: String) -> Bool {
        metric == "exact_match" || metric.hasPrefix(EvaluateSpec.patternPrefix)
    }

    private func row(_ score: RowScore, _ metric: String) -> Row {
        switch metric {
        case "loss": Row(sum: score.loss, weight: Double(score.labels))
        case "token_accuracy": Row(sum: Double(score.correct), weight: Double(score.labels))
        case "exact_match": Row(sum: score.isExact == true ? 1 : 0, weight: 1)
        default:
            Row(
                sum: pattern(metric).map { score.found?[$0] == true } == true ? 1 : 0, weight: 1)
        }
    }

    func values(_ scores: [RowScore]) -> [String: EvaluateResult.Figure] {
        var result: [String: EvaluateResult.Figure] = [:]
        for metric in metrics {
            let rows = scores.map { row($0, metric) }
            let figure =
                isShare(metric)
                ? EvaluationStatistics.share(rows.count { $0.sum > 0 }, of: rows.count)
                : EvaluationStatistics.figure(rows)
            result[metric] = figure.map(Self.wire)
        }
        return result
    }

    /// By how much the first scores are better; of a loss, by how much they are lower.
    func gains(_ first: [RowScore], over second: [RowScore]) -> [String: EvaluateResult.Figure] {
        var result: [String: EvaluateResult.Figure] = [:]
        for metric in metrics {
            let a = first.map { row($0, metric) }
            let b = second.map { row($0, metric) }
            let figure =
                metric == "loss"
                ? EvaluationStatistics.difference(b, a) : EvaluationStatistics.difference(a, b)
            result[metric] = figure.map(Self.wire)
        }
        return result
    }

    private static func wire(_ figure: EvaluationFigure) -> EvaluateResult.Figure {
        EvaluateResult.Figure(value: figure.value, low: figure.low, high: figure.high)
    }

    /// What `after … if` reads: the first model's figures by name with the ends of their intervals (`loss_low`, `loss_high`),
    /// its least gain over any other and the lower end of that gain's interval. Patterns are `regex`, `regex_2` and so on.
    func gateMetrics(
        models: [EvaluateResult.Model], gains: [EvaluateResult.Gain]
    ) -> [String: Double] {
        var result: [String: Double] = [:]
        for metric in metrics {
            let index = pattern(metric)
            let name = index.map { $0 == 0 ? "regex" : "regex_\($0 + 1)" } ?? metric
            let own = models.first?.metrics[metric]
            result[name] = own?.value
            result[name + "_low"] = own?.low
            result[name + "_high"] = own?.high
            let over = gains.compactMap { $0.metrics[metric] }
            result[name + "_gain"] = over.map(\.value).min()
            result[name + "_gain_low"] = over.map(\.low).min()
        }
        return result
    }
}
