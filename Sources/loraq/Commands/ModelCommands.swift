import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient

struct Models: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Base models: add, list, show, remove.",
        subcommands: [Add.self, List.self, Show.self, Remove.self], defaultSubcommand: List.self)

    struct Add: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Register a base model from a Hugging Face folder or a GGUF file.")

        @Argument(help: "The name it gets.") var name: String
        @Argument(help: "A folder with config.json and *.safetensors, or a .gguf file.")
        var path: String
        @Option(
            help: "Of the packed matrices: bfloat16 or float32 (default: as the file has them).")
        var dtype: String?
        @Flag(help: "Do not wait until it is ready.") var noWait = false
        @Option(
            help: ArgumentHelp(
                "Give up waiting after this long (the job goes on; exit code 4).",
                valueName: "seconds"))
        var timeout: Double?
        @Flag(name: .shortAndLong, help: "No progress.") var quiet = false
        @OptionGroup var submit: SubmitOptions
        @OptionGroup var common: CommonOptions

        mutating func validate() throws {
            if let dtype, !["bfloat16", "float32"].contains(dtype) {
                throw ValidationError("--dtype must be bfloat16 or float32, not `\(dtype)`")
            }
        }

        func run(_ session: Session) throws {
            try NameCheck.check(name, what: "the model's name")
            let full = FilePath.absolute(path)
            try ModelPath.check(full)
            var spec: JSONObject = ["name": .string(name), "path": .string(full)]
            spec["dtype"] = dtype.map { .string($0) }
            var request = JobRequest(kind: "prepare", spec: .object(spec))
            try submit.apply(to: &request, session)
            try Registration.run(
                request, name: name, what: "model", session,
                Registration.waiting(noWait: noWait, timeout: timeout, quiet: quiet))
        }
    }

    struct List: SessionCommand {
        static let configuration = CommandConfiguration(abstract: "List models.")
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            let models = try session.client.artifacts(type: "model")
            try ArtifactText.printList(models, key: "models", session)
        }
    }

    struct Show: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show a model: architecture, size, digest, tags.")
        @Argument(help: "M, M@2 or M#tag.") var name: String
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            try NameCheck.checkReference(name, what: "the model")
            try ArtifactText.printOne(
                session.client.artifacts(type: "model", name: name), name, "model", session)
        }
    }

    struct Remove: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Remove a model that no unfinished job needs.")
        @Argument(help: "M or M@2.") var name: String
        @Flag(help: "Its adapters too.") var force = false
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            try NameCheck.checkReference(name, what: "the model")
            try Registration.remove(name, force: force, session)
        }
    }
}

/// What a path must be to be a model, as far as the client can see; the worker looks deeper.
enum ModelPath {
    static func check(_ path: String) throws(ToolError) {
        guard FilePath.exists(path) else { throw ToolError.usage("there is no \(path)") }
        if FilePath.isDirectory(path) {
            guard FilePath.exists(path + "/config.json") else {
                throw ToolError.usage(
                    "\(path) holds no config.json",
                    hint:
                        "a model is a Hugging Face folder (config.json, *.safetensors, tokenizer.json) or a .gguf file"
                )
            }
            return
        }
        guard path.lowercased().hasSuffix(".gguf") else {
            throw ToolError.usage(
                "\(path) is neither a folder nor a .gguf file",
                hint: "for safetensors give the folder that holds config.json")
        }
    }
}

/// `models add` and `adapters add`: jobs that end with an artifact.
enum Registration {
    static func waiting(noWait: Bool, timeout: Double?, quiet: Bool) -> WaitOptions {
        var options = WaitOptions()
        options.wait = !noWait
        options.timeout = timeout
        options.quiet = quiet
        return options
    }

    static func run(
        _ request: JobRequest, name: String, what: String, _ session: Session,
        _ waiting: WaitOptions
    ) throws {
        let submitting = Submitting(session: session, waiting: waiting)
        guard let job = try submitting.run(request) else { return }
        try submitting.conclude(
            job, summary: "\(what) \(name) is ready\(about(job.result))")
    }

    /// `: llama, 134,515,008 parameters, bfloat16, 260.0 MiB` out of the result of `prepare` or `register`.
    static func about(_ result: JSONValue?) -> String {
        var parts: [String] = []
        if let family = result?["family"]?.string { parts.append(TextTable.oneLine(family)) }
        if let rank = result?["rank"]?.integer { parts.append("rank \(rank)") }
        if let targets = result?["target_modules"]?.array?.compactMap(\.string), !targets.isEmpty {
            parts.append("on " + TextTable.oneLine(targets.joined(separator: ", ")))
        }
        if let count = result?["parameters"]?.integer {
            parts.append(HumanText.plural(count, "parameter"))
        }
        if let dtype = result?["dtype"]?.string { parts.append(TextTable.oneLine(dtype)) }
        if let bytes = result?["bytes"]?.integer { parts.append(HumanText.bytes(bytes)) }
        if result?["has_template"]?.bool == false { parts.append("no chat template") }
        return parts.isEmpty ? "" : ": " + parts.joined(separator: ", ")
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
            throw ToolError(
                .failure, "there is no \(what) `\(name)`", hint: "`loraq \(what)s list` lists them")
        }
        if session.json {
            return try session.print(json: artifacts.count == 1 ? artifacts[0] : .array(artifacts))
        }
        let texts = artifacts.map { detail($0, style: session.style) }
        try session.print(texts.joined(separator: "\n"), terminator: "")
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
