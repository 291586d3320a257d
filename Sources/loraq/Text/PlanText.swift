import JSONModel

/// A plan in words.
enum PlanText {
    static func text(_ result: JSONValue, style: TextStyle) -> String {
        var lines = FieldLines(style: style)
        let matches = (result["targets"]?.object?.entries ?? []).map {
            "\(TextTable.oneLine($0.key)) \($0.value.integer ?? 0)"
        }
        let matrices = result["matrices"]?.integer ?? 0
        lines.add("matrices", "\(HumanText.count(matrices)) (\(matches.joined(separator: ", ")))")
        let trained = result["trainable_parameters"]?.integer ?? 0
        let parameters = result["parameters"]?.integer ?? 0
        let share = Double(trained) / Double(max(1, parameters))
        lines.add(
            "trained",
            "\(HumanText.plural(trained, "parameter")), \(HumanText.percent(share)) of "
                + HumanText.count(parameters))
        if let rate = result["learning_rate"]?.double {
            let reason = result["learning_rate_choice"]?["reason"]?.string
            lines.add(
                "learning rate",
                HumanText.significant(rate) + (reason.map { " (\(TextTable.oneLine($0)))" } ?? ""))
        }
        let usable = result["usable"]?.integer ?? 0
        let rows = result["rows"]?.integer ?? 0
        lines.add(
            "data",
            "\(HumanText.count(usable)) of \(HumanText.plural(rows, "row")), "
                + "\(HumanText.plural(result["tokens"]?.integer ?? 0, "token")), "
                + "\(HumanText.plural(result["labels"]?.integer ?? 0, "label"))")
        let steps = result["steps"]?.integer ?? 0
        lines.add(
            "steps",
            "\(HumanText.count(steps)), \(HumanText.fixed(result["epochs"]?.double ?? 0, digits: 2)) epochs"
        )
        let perSecond = result["tokens_per_second"]?.double ?? 0
        lines.add(
            "time",
            "\(HumanText.span(seconds: result["seconds"]?.double ?? 0)) "
                + "(\(HumanText.significant(result["seconds_per_step"]?.double ?? 0)) s a step, "
                + "\(HumanText.count(Int(perSecond.rounded()))) tokens/s, measured over "
                + "\(HumanText.plural(result["measured_steps"]?.integer ?? 0, "step")))")
        func bytes(_ group: String, _ key: String) -> String {
            HumanText.bytes(result[group]?[key]?.integer ?? 0)
        }
        lines.add(
            "memory",
            "\(bytes("memory_bytes", "peak")) (base \(bytes("memory_bytes", "base")), shared; "
                + "training \(bytes("memory_bytes", "training")))")
        lines.add(
            "disk",
            "\(bytes("disk_bytes", "adapter")), and \(bytes("disk_bytes", "checkpoints")) for checkpoints while it runs"
        )
        for warning in result["warnings"]?.array ?? [] {
            lines.add("warning", TextTable.oneLine(warning.string ?? ""))
        }
        return lines.text
    }
}
