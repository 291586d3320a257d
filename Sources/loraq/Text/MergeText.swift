import JSONModel

/// What a merged export wrote, and how far it is from the unmerged model.
enum MergeText {
    static func summary(_ result: JSONValue, folder: String) -> String {
        var parts: [String] = []
        if let count = result["matrices"]?.integer {
            parts.append("\(HumanText.count(count)) matrices changed")
        }
        if result["untied_head"]?.bool == true { parts.append("the head no longer tied") }
        if let dtype = result["dtype"]?.string { parts.append(TextTable.oneLine(dtype)) }
        if let bytes = result["bytes"]?.integer { parts.append(HumanText.bytes(bytes)) }
        let name = TextTable.oneLine(result["adapter"]?.string ?? "the adapter")
        var lines = ["\(name) is merged in \(folder): " + parts.joined(separator: ", ")]
        if let drift = result["drift"] { lines += self.lines(drift) }
        return lines.joined(separator: "\n")
    }

    private static func lines(_ drift: JSONValue) -> [String] {
        let prompts = drift["prompts"]?.integer ?? 0
        let tokens = drift["tokens"]?.integer ?? 0
        var lines = [
            "over \(HumanText.plural(prompts, "prompt")), \(HumanText.plural(tokens, "token")):"
        ]
        let rows: [(key: String, text: String)] = [
            ("merged", "merged against unmerged"),
            ("storage", "merged against merged in float32 (what the stored type costs)"),
            ("serving", "unmerged against merged in float32"),
        ]
        for row in rows {
            guard let value = drift[row.key], !value.isNull else { continue }
            let largest = HumanText.significant(value["max"]?.double ?? .nan)
            let rms = HumanText.significant(value["rms"]?.double ?? .nan)
            let same = HumanText.percent(value["same_top"]?.double ?? .nan)
            lines.append(
                "  \(row.text): logits within \(largest), rms \(rms), same likeliest token \(same)")
        }
        var losses: [String] = []
        for key in ["unmerged", "merged", "float32"] {
            guard let value = drift["nll"]?[key]?.double else { continue }
            losses.append("\(key) \(HumanText.fixed(value, digits: 4))")
        }
        if !losses.isEmpty { lines.append("  NLL a token: " + losses.joined(separator: ", ")) }
        return lines
    }
}
