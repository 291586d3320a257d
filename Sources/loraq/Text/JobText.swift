import JSONModel
import LoraqClient
import WireProtocol

/// Jobs in words.
enum JobText {
    /// The id's end, which is random and so tells jobs apart; commands take it as a selector.
    static func shortID(_ id: String) -> String { String(id.suffix(12)) }

    static func title(of job: JobSnapshot) -> String {
        let name = job.label.map { TextTable.oneLine(String($0.prefix(24))) } ?? shortID(job.id)
        return "\(job.kind) \(name)"
    }

    /// How far a job is, in one cell.
    static func amount(of job: JobSnapshot) -> String {
        if let progress = job.progress, job.total == 1, !job.isFinal,
            let done = progress["done"]?.double
        {
            let unit = progress["unit"]?.string.map { " \($0)" } ?? ""
            guard let total = progress["total"]?.double, total > 0 else {
                return HumanText.significant(done) + unit
            }
            return HumanText.fixed(100 * done / total, digits: 0) + "%"
        }
        guard let total = job.total else { return "…" }
        let failed = job.lost > 0 ? ", \(HumanText.count(job.lost)) failed" : ""
        return "\(HumanText.count(job.finished))/\(HumanText.count(total))\(failed)"
    }

    static func took(_ job: JobSnapshot, nowMs: Int) -> String {
        guard let start = job.startedAtMs else { return "" }
        return HumanText.span(milliseconds: max(0, (job.finishedAtMs ?? nowMs) - start))
    }

    static func table(
        _ jobs: [JobSnapshot], nowMs: Int, style: TextStyle, width: Int?
    ) -> String {
        let isNarrow = width.map { $0 < 110 } ?? false
        var table = TextTable([
            ("JOB", .left), ("KIND", .left), ("STATE", .left), ("DONE", .right), ("AGE", .right),
            ("TOOK", .right), ("LABEL", .left),
        ])
        for job in jobs {
            table.add([
                isNarrow ? shortID(job.id) : job.id, job.kind, job.state, amount(of: job),
                job.createdAtMs.map { HumanText.age(milliseconds: max(0, nowMs - $0)) } ?? "",
                took(job, nowMs: nowMs), job.label ?? "",
            ])
        }
        return table.rendered(style: style, width: width)
    }

    /// Everything worth knowing about one job, a field a line.
    static func detail(_ job: JobSnapshot, nowMs: Int, style: TextStyle) -> String {
        var lines = FieldLines(style: style)
        lines.add("job", job.id)
        lines.add("kind", job.kind)
        if let label = job.label { lines.add("label", label) }
        if job.tenant != "default" { lines.add("tenant", job.tenant) }
        if job.priority != 0 { lines.add("priority", "\(job.priority)") }
        lines.add("state", style.state(job.state) + times(job, nowMs))
        lines.add("tasks", counts(job))
        if let progress = progressText(job) { lines.add("progress", progress) }
        if let usage = flat(withoutZeros(job.usage)), !usage.isEmpty { lines.add("usage", usage) }
        let after = (job.json["after"]?.array ?? []).compactMap { $0["job"]?.string }
        if !after.isEmpty { lines.add("after", after.joined(separator: ", ")) }
        if let numerics = job.json["numerics"]?.string { lines.add("numerics", numerics) }
        if let reason = job.reason, reason.code != job.state.uppercased(),
            reason.message != job.error?.message
        {
            lines.add(job.isFinal ? "reason" : "waits for", reason.message)
        }
        if let error = job.error {
            lines.add("error", style.red("\(error.code)") + ": \(error.message)")
            if let details = flat(error.details), !details.isEmpty {
                lines.add("details", details)
            }
            if let hint = error.hint { lines.add("hint", hint) }
        }
        return lines.text + resultText(job.result, style)
    }

    /// The result object, a field a line; nested values by their size.
    private static func resultText(_ result: JSONValue?, _ style: TextStyle) -> String {
        guard let entries = result?.object?.entries, !entries.isEmpty else { return "" }
        var lines = FieldLines(style: style)
        for entry in entries where entry.key != "shown" && entry.key != "rendered" {
            let name = "  " + TextTable.oneLine(entry.key)
            switch entry.value {
            case .null: continue
            case .array(let elements):
                let words = elements.compactMap(\.string)
                lines.add(
                    name,
                    words.count == elements.count && !words.isEmpty
                        ? TextTable.oneLine(words.joined(separator: ", "))
                        : HumanText.count(elements.count))
            case .object: lines.add(name, flat(entry.value) ?? "")
            default: lines.add(name, scalar(entry.value))
            }
        }
        return style.dim("result") + "\n" + lines.text
    }

    private static func times(_ job: JobSnapshot, _ nowMs: Int) -> String {
        var parts: [String] = []
        if let created = job.createdAtMs {
            parts.append("submitted \(HumanText.age(milliseconds: max(0, nowMs - created)))")
        }
        let took = took(job, nowMs: nowMs)
        if !took.isEmpty { parts.append((job.isFinal ? "ran " : "runs for ") + took) }
        return parts.isEmpty ? "" : "  (\(parts.joined(separator: ", ")))"
    }

    private static func counts(_ job: JobSnapshot) -> String {
        guard let total = job.total else {
            return job.isFinal
                ? "the job ended before its file was read to the end"
                : "the file is being read"
        }
        var parts = ["\(HumanText.count(total)) in all"]
        for name in ["ready", "leased", "backoff", "done", "failed", "cancelled", "dead"] {
            let count = job.count(name)
            if count > 0 { parts.append("\(HumanText.count(count)) \(name)") }
        }
        return parts.joined(separator: ", ") + rate(job)
    }

    /// Lines answered per second, of a batch that is through. Lines that were refused took no time.
    private static func rate(_ job: JobSnapshot) -> String {
        guard job.total ?? 0 > 1, let start = job.startedAtMs, let end = job.finishedAtMs,
            end > start, job.count("done") > 0
        else { return "" }
        let perSecond = Double(job.count("done")) * 1000 / Double(end - start)
        return ", " + HumanText.rate(perSecond, unit: "lines")
    }

    private static func progressText(_ job: JobSnapshot) -> String? {
        guard !job.isFinal, let progress = job.progress else { return nil }
        var tracker = JobProgressTracker(title: "")
        let shown = tracker.update(job, at: .zero)
        var parts: [String] = []
        if let done = progress["done"]?.double {
            let total = progress["total"]?.double.map { "/" + HumanText.significant($0) } ?? ""
            parts.append("\(HumanText.significant(done))\(total) \(shown.unit)")
        }
        return (parts + shown.figures).joined(separator: ", ")
    }

    /// Numbers and words of an object on one line; nested values only by their size.
    static func flat(_ value: JSONValue?) -> String? {
        guard let object = value?.object else { return nil }
        return object.entries.compactMap { entry -> String? in
            switch entry.value {
            case .null: nil
            case .array(let elements): "\(entry.key) [\(elements.count)]"
            case .object: "\(entry.key) {…}"
            default: "\(entry.key) \(scalar(entry.value))"
            }
        }.joined(separator: ", ")
    }

    private static func withoutZeros(_ value: JSONValue?) -> JSONValue? {
        guard let entries = value?.object?.entries else { return nil }
        return .object(JSONObject(entries.filter { $0.value.double != 0 }))
    }

    static func scalar(_ value: JSONValue) -> String {
        switch value {
        case .string(let text): TextTable.oneLine(text)
        case .integer(let number): HumanText.count(Int(number))
        case .number(let number):
            Int(exactly: number).map(HumanText.count) ?? HumanText.significant(number)
        case .bool(let flag): flag ? "yes" : "no"
        case .null: "-"
        case .array, .object: value.text()
        }
    }
}

extension JobText {
    static func errorText(_ error: ErrorObject, style: TextStyle) -> String {
        let hint = error.hint.map { " (\(TextTable.oneLine($0)))" } ?? ""
        return style.red("\(error.code)") + ": " + TextTable.oneLine(error.message) + hint
    }
}
