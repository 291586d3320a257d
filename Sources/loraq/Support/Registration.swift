import JSONModel
import LoraqClient
import WireProtocol

/// `models add` and `adapters add`: jobs that end with an artifact.
enum Registration {
    static func run(
        _ request: JobRequest, name: String, what: String, _ session: Session,
        _ waiting: WaitOptions
    ) throws {
        let submitting = Submitting(session: session, waiting: waiting)
        guard let job = try submitting.run(request, title: "\(what) \(name)") else { return }
        try submitting.conclude(
            job, summary: "\(what) \(name) is ready\(about(job.result))")
    }

    /// `: llama, 134,515,008 parameters, bfloat16, 260.0 MiB` out of the result of `prepare` or `register`.
    static func about(_ result: JSONValue?) -> String {
        var parts: [String] = []
        if let family = result?["family"]?.string { parts.append(TextTable.oneLine(family)) }
        if let ranks = result?["ranks"]?.array?.compactMap(\.integer), ranks.count == 2 {
            parts.append("ranks \(ranks[0]) to \(ranks[1])")
        } else if let rank = result?["rank"]?.integer {
            parts.append("rank \(rank)")
        }
        if let targets = result?["target_modules"]?.array?.compactMap(\.string), !targets.isEmpty {
            parts.append("on " + TextTable.oneLine(targets.joined(separator: ", ")))
        }
        if let count = result?["parameters"]?.integer {
            parts.append(HumanText.plural(count, "parameter"))
        }
        if let dtype = result?["dtype"]?.string { parts.append(TextTable.oneLine(dtype)) }
        if let bytes = result?["bytes"]?.integer { parts.append(HumanText.bytes(bytes)) }
        if let energy = result?["energy"], let kept = energy["kept"]?.double {
            var text = "\(HumanText.percent(kept)) of the energy kept"
            if let module = energy["lowest_module"]?.string, let lowest = energy["lowest"]?.double {
                text += " (least, \(HumanText.percent(lowest)), on \(TextTable.oneLine(module)))"
            }
            parts.append(text)
        }
        if result?["has_template"]?.bool == false { parts.append("no chat template") }
        return parts.isEmpty ? "" : ": " + parts.joined(separator: ", ")
    }

    /// Puts a tag on a version, or takes it off; it moves there from another version.
    static func tag(_ name: String, _ tag: String, removes: Bool, _ session: Session) throws {
        try NameCheck.check(tag, what: "the tag")
        var header: JSONObject = ["artifact": .string(name), "tag": .string(tag)]
        if removes { header["remove"] = true }
        let reply = try session.call(.tag, header, policy: .once)
        if session.json { return try session.print(json: reply.header) }
        let artifact = reply.header["artifact"]
        let version = artifact?["version"]?.integer.map { "@\($0)" } ?? ""
        let tags = (artifact?["tags"]?.array ?? []).compactMap(\.string)
        try session.print(
            "\(artifact?["name"]?.string ?? name)\(version)  "
                + (tags.isEmpty ? "no tags" : "tags: " + tags.joined(separator: ", ")))
    }

    static func remove(_ name: String, force: Bool, _ session: Session) throws {
        var header: JSONObject = ["artifact": .string(name)]
        if force { header["force"] = true }
        let reply = try session.call(.remove, header, policy: .once)
        if session.json { return try session.print(json: reply.header) }
        for reference in reply.header["removed"]?.array ?? [] {
            try session.print("removed \(reference.string ?? "?")")
        }
    }
}
