import LoraqClient

/// The end of a fine-tune in a line or two.
enum FinetuneSummary {
    static func text(_ job: JobSnapshot, name: String) -> String {
        let result = job.result
        var parts: [String] = []
        if let steps = result?["steps"]?.integer { parts.append(HumanText.plural(steps, "step")) }
        if let first = result?["first_loss"]?.double, let last = result?["last_loss"]?.double {
            parts.append(
                "loss \(HumanText.significant(first)) → \(HumanText.significant(last))")
        }
        if let before = result?["eval_loss_before"]?.double,
            let after = result?["eval_loss_after"]?.double
        {
            parts.append(
                "eval loss \(HumanText.significant(before)) → \(HumanText.significant(after))")
        }
        if let rate = result?["tokens_per_second"]?.double {
            parts.append(HumanText.rate(rate, unit: "tokens"))
        }
        if let seconds = result?["seconds"]?.double {
            parts.append(HumanText.span(seconds: seconds))
        }
        var text = "adapter \(name) is registered"
        if !parts.isEmpty { text += ": " + parts.joined(separator: ", ") }
        if let rate = result?["learning_rate"]?.double,
            let reason = result?["learning_rate_choice"]?["reason"]?.string
        {
            text +=
                "\nlearning rate \(HumanText.significant(rate)) (\(TextTable.oneLine(reason)))"
        }
        if let refused = result?["refused"]?.array, !refused.isEmpty {
            let count = result?["refused_rows"]?.integer ?? refused.count
            text += "\n\(HumanText.plural(count, "row")) left out, the first: "
            let first = refused[0]
            let line = first["line"]?.integer.map { "line \($0): " } ?? ""
            text += line + TextTable.oneLine(first["message"]?.string ?? "")
        }
        return text
    }
}
