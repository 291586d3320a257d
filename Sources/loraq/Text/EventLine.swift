import JSONModel

/// An event on one line: when, what, about what, and the rest of its fields.
enum EventLine {
    static func text(_ event: JSONValue, style: TextStyle) -> String {
        var parts: [String] = []
        if let at = event["at_ms"]?.integer { parts.append(style.dim(LocalTime.clock(at))) }
        let type = TextTable.oneLine(event["type"]?.string ?? "?")
        parts.append(type + String(repeating: " ", count: max(0, 20 - type.count)))
        if let task = event["task"]?.string {
            parts.append(short(task))
        } else if let job = event["job"]?.string {
            parts.append(JobText.shortID(job))
        }
        if let worker = event["worker"]?.string { parts.append(TextTable.oneLine(worker)) }
        let shown: Set<String> = ["event", "type", "at_ms", "job", "task", "worker"]
        var rest = JSONObject()
        for entry in event.object?.entries ?? [] where !shown.contains(entry.key) {
            if let nested = entry.value.object {
                for inner in nested.entries { rest[inner.key] = inner.value }
            } else {
                rest[entry.key] = entry.value
            }
        }
        if let text = JobText.flat(.object(rest)), !text.isEmpty { parts.append(text) }
        return parts.joined(separator: "  ")
    }

    private static func short(_ task: String) -> String {
        guard let slash = task.lastIndex(of: "/") else { return JobText.shortID(task) }
        return JobText.shortID(String(task[..<slash])) + String(task[slash...])
    }
}
