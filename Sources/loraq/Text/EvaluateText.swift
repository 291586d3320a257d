import JSONModel

/// Figures of an evaluation, a row a model.
enum EvaluateText {
    static func text(_ result: JSONValue, style: TextStyle) -> String {
        let models = result["models"]?.array ?? []
        let metrics = models.first?["metrics"]?.object?.keys.map { String($0) } ?? []
        var table = TextTable(
            [("MODEL", .left)] + metrics.map { (TextTable.oneLine($0), .left) })
        for model in models {
            table.add(
                [TextTable.oneLine(model["model"]?.string ?? "?")]
                    + metrics.map { cell(model["metrics"]?[$0], metric: $0, signed: false) })
        }
        var text = table.rendered(style: style, width: nil)
        let usable = result["usable"]?.integer ?? 0
        let rows = result["rows"]?.integer ?? 0
        text +=
            "over \(HumanText.count(usable)) of \(HumanText.plural(rows, "row")); 95% confidence intervals\n"
        let first = TextTable.oneLine(models.first?["model"]?.string ?? "?")
        for gain in result["gains"]?.array ?? [] {
            let parts = metrics.map {
                "\($0) \(cell(gain["metrics"]?[$0], metric: $0, signed: true))"
            }
            text +=
                "\(first) over \(TextTable.oneLine(gain["over"]?.string ?? "?")), row by row: "
                + parts.joined(separator: "; ") + "\n"
        }
        for warning in result["warnings"]?.array ?? [] {
            text += "warning: \(TextTable.oneLine(warning.string ?? ""))\n"
        }
        return text
    }

    /// `0.932 (0.871 to 0.967)`
    private static func cell(_ figure: JSONValue?, metric: String, signed: Bool) -> String {
        guard let value = figure?["value"]?.double, let low = figure?["low"]?.double,
            let high = figure?["high"]?.double
        else { return "-" }
        let digits = metric == "loss" ? 4 : 3
        func number(_ value: Double) -> String {
            (signed && value > 0 ? "+" : "") + HumanText.fixed(value, digits: digits)
        }
        return "\(number(value)) (\(number(low)) to \(number(high)))"
    }
}
