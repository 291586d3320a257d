import JSONModel
import LinuxSystem
import WireProtocol

/// Models and adapters in words.
enum ArtifactText {
    static func printList(_ artifacts: [JSONValue], key: String, _ session: Session) throws {
        if session.json {
            var object = JSONObject()
            object[key] = .array(artifacts)
            return try session.print(json: .object(object))
        }
        if artifacts.isEmpty { return session.note("no \(key)") }
        try session.print(
            table(
                artifacts, nowMs: WallClock.milliseconds(), style: session.style,
                width: session.terminal.outputWidth), terminator: "")
    }

    static func table(
        _ artifacts: [JSONValue], nowMs: Int, style: TextStyle, width: Int?
    ) -> String {
        var table = TextTable([
            ("NAME", .left), ("VERSION", .right), ("SIZE", .right), ("AGE", .right),
            ("DIGEST", .left), ("TAGS", .left), ("ABOUT", .left),
        ])
        for artifact in artifacts {
            let tags = (artifact["tags"]?.array ?? []).compactMap(\.string)
            let digest = artifact["digest"]?.string ?? ""
            table.add([
                artifact["name"]?.string ?? "?",
                artifact["version"]?.integer.map { "@\($0)" } ?? "",
                artifact["bytes"]?.integer.map(HumanText.bytes) ?? "",
                artifact["created_at_ms"]?.integer.map {
                    HumanText.age(milliseconds: max(0, nowMs - $0))
                } ?? "",
                String(digest.dropFirst("sha256:".count).prefix(12)), tags.joined(separator: ","),
                about(artifact["meta"]),
            ])
        }
        return table.rendered(style: style, width: width)
    }

    /// The few fields of a worker's `meta` that tell artifacts apart at a glance, whatever else it holds.
    private static func about(_ meta: JSONValue?) -> String {
        let keys = [
            "family", "parameters", "dtype", "rank", "lora_alpha", "target_modules",
        ]
        return keys.compactMap { key -> String? in
            guard let value = meta?[key], !value.isNull else { return nil }
            switch value {
            case .array(let elements):
                return elements.compactMap(\.string).map(lastPart).joined(separator: ",")
            case .object: return nil
            case .integer, .number: return "\(key) \(JobText.scalar(value))"
            default: return JobText.scalar(value)
            }
        }.joined(separator: " ")
    }

    private static func lastPart(_ name: String) -> String {
        String(name.split(separator: ".").last ?? "")
    }

    static func printOne(
        _ artifacts: [JSONValue], _ name: String, _ what: String, _ session: Session
    ) throws {
        guard !artifacts.isEmpty else {
            throw missing(name, what)
        }
        if session.json {
            return try session.print(json: artifacts.count == 1 ? artifacts[0] : .array(artifacts))
        }
        let texts = artifacts.map { detail($0, style: session.style) }
        try session.print(texts.joined(separator: "\n"), terminator: "")
    }

    static func missing(_ name: String, _ what: String, _ remark: String = "") -> ToolError {
        ToolError(
            ErrorObject(
                .unknownArtifact, .user, "there is no \(what) `\(name)`\(remark)",
                hint: "`loraq \(what)s list` lists them"))
    }

    static func detail(_ artifact: JSONValue, style: TextStyle) -> String {
        var lines = FieldLines(style: style)
        let version = artifact["version"]?.integer.map { "@\($0)" } ?? ""
        lines.add("name", (artifact["name"]?.string ?? "?") + version)
        lines.add("digest", artifact["digest"]?.string ?? "-")
        if let bytes = artifact["bytes"]?.integer { lines.add("size", HumanText.bytes(bytes)) }
        if let job = artifact["job"]?.string { lines.add("made by", "job \(job)") }
        let tags = (artifact["tags"]?.array ?? []).compactMap(\.string)
        if !tags.isEmpty { lines.add("tags", tags.joined(separator: ", ")) }
        for entry in artifact["meta"]?.object?.entries ?? [] {
            lines.add(TextTable.oneLine(entry.key), JobText.scalar(entry.value))
        }
        return lines.text
    }
}
