import ArgumentParser
import Foundation
import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

/// What happens after a submit, the same for every command that submits.
struct Submitting {
    let session: Session
    let waiting: WaitOptions
    /// Standard output is taken by results: the id goes to standard error.
    var outputIsTaken = false

    /// Submits, prints the id, and waits if asked to.
    ///
    /// - Returns: The job in its final state, or nil where nothing is waited for.
    func run(_ request: JobRequest) throws -> JobSnapshot? {
        var waiter = JobWaiter(session: session, options: waiting)
        if waiting.wait {
            waiter.events = try session.client.subscribe(to: ["job/\(request.id)"])
        }
        let accepted = try session.client.submit(request)
        if accepted.duplicate { session.note("the job was submitted before") }
        guard waiting.wait else {
            if session.json {
                try session.print(
                    json: .object([
                        "job": .string(accepted.job), "state": .string(accepted.state),
                        "duplicate": .bool(accepted.duplicate),
                    ]))
            } else {
                try session.print(accepted.job)
            }
            return nil
        }
        if !session.json {
            if outputIsTaken { session.note(accepted.job) } else { try session.print(accepted.job) }
        }
        return try waiter.wait(for: [accepted.job]).first
    }

    /// Prints the end of a job that was waited for and sets the exit code.
    func conclude(_ job: JobSnapshot, summary: String? = nil) throws {
        if session.json, !outputIsTaken {
            try session.print(json: job.json)
        } else if let error = job.error {
            session.note(JobText.errorText(error, style: session.terminal.errorStyle))
        } else if job.state != "succeeded" {
            session.note("the job is \(job.state)\(Wait.remark(job))")
        } else {
            if let summary { session.note(summary) }
            for warning in job.result?["warnings"]?.array ?? [] {
                session.note("warning: " + TextTable.oneLine(warning.string ?? ""))
            }
        }
        try JobWaiter.finish([job])
    }

    /// A file as an input: sent along if it is small, uploaded as a blob otherwise.
    func input(_ name: String, file: String) throws -> JobRequest.Input {
        let size = try InputFile.check(file, what: "\(name) file")
        let display = ProgressDisplay.standard(quiet: waiting.quiet || size < 8 << 20)
        let watch = Stopwatch()
        var rate = RateMeter()
        var phase = UploadProgress.Phase.reading
        let upload = BlobUpload(client: session.client) { progress in
            if progress.phase != phase { rate = RateMeter() }
            phase = progress.phase
            rate.add(Double(progress.done), at: watch.elapsed)
            var shown = JobProgress(
                title: progress.phase == .reading ? "reading \(file)" : "uploading \(file)",
                state: "uploading", done: Double(progress.done) / 1_048_576,
                total: Double(progress.total) / 1_048_576, unit: "MiB")
            if let perSecond = rate.perSecond, perSecond > 0 {
                shown.figures.append(HumanText.bytes(Int(perSecond)) + "/s")
                shown.remainingSeconds = Double(progress.total - progress.done) / perSecond
            }
            display.show(shown, at: watch.elapsed)
        }
        defer { display.erase() }
        return .blob(name: name, digest: try upload.send(file).digest)
    }
}

/// A name that a person gives: of one short alphabet, never a path.
enum NameCheck {
    static func check(_ name: String, what: String) throws(ToolError) {
        guard WireName(text: name) == nil else { return }
        throw ToolError.usage("\(what) must be \(WireName.form), not `\(TextTable.oneLine(name))`")
    }

    static func checkReference(_ text: String, what: String) throws(ToolError) {
        guard ArtifactReference(text: text) == nil else { return }
        throw ToolError.usage(
            "\(what) must be \(ArtifactReference.form), not `\(TextTable.oneLine(text))`")
    }
}

struct Finetune: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Train an adapter on a JSONL file.",
        discussion: """
            Lines are chat `messages`, `prompt`/`completion`, `text`, Alpaca or ShareGPT. Hyperparameters \
            have PEFT's and TRL's names, in a YAML recipe or by --set: \
            loraq finetune tiny train.jsonl --name a --set r=8 --set learning_rate=5e-4
            """)

    @Argument(help: "The base model.") var model: String
    @Argument(help: ArgumentHelp("Training data, JSONL.", valueName: "train.jsonl"))
    var train: String
    @Option(help: "The adapter's name, unique within its model.") var name: String
    @Option(
        name: .customLong("eval"), help: ArgumentHelp("Held-out data, JSONL.", valueName: "file"))
    var evaluation: String?
    @Option(help: ArgumentHelp("Hyperparameters, YAML.", valueName: "file")) var recipe: String?
    @Option(
        name: .customLong("set"),
        help: ArgumentHelp(
            "One hyperparameter, over the recipe's (repeatable).", valueName: "name=value"))
    var settings: [String] = []
    @OptionGroup var submit: SubmitOptions
    @OptionGroup var waiting: WaitOptions
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        try NameCheck.checkReference(model, what: "the model")
        let adapter = try adapterName()
        let recipe = try RecipeDraft(file: recipe, settings: settings)
        try InputFile.check(train, what: "training file")
        if let evaluation { try InputFile.check(evaluation, what: "evaluation file") }
        let submitting = Submitting(session: session, waiting: waiting)
        var request = JobRequest(
            kind: "finetune",
            spec: .object([
                "model": .string(model), "name": .string(adapter),
                "recipe": try recipe.checked(model: model),
            ]))
        try submit.apply(to: &request, session)
        request.inputs.append(try submitting.input("train", file: train))
        if let evaluation { request.inputs.append(try submitting.input("eval", file: evaluation)) }
        guard let job = try submitting.run(request) else { return }
        try submitting.conclude(
            job, summary: FinetuneSummary.text(job, name: "\(model):\(adapter)"))
    }

    /// `--name A`; `M:A` is understood where M is the model.
    private func adapterName() throws(ToolError) -> String {
        let plain = name.hasPrefix(model + ":") ? String(name.dropFirst(model.count + 1)) : name
        try NameCheck.check(plain, what: "--name")
        return plain
    }
}

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

struct Batch: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a JSONL file of requests, each line with its own model and adapter.",
        discussion: """
            Lines are OpenAI batch lines: {"custom_id", "method", "url", "body"}, with body.model = "M" or \
            "M:A". Lines that cannot be understood fail alone; --strict refuses the whole file.
            """)

    @Argument(help: ArgumentHelp("Requests, JSONL (`-`: standard input).", valueName: "in.jsonl"))
    var input: String
    @Option(help: ArgumentHelp("For lines without a model of their own.", valueName: "M[:A]"))
    var model: String?
    @Option(help: "Lines of a plugin's own kind.") var kind = "infer"
    @Option(
        help: ArgumentHelp("With --kind: the spec for all lines, a JSON file.", valueName: "file"))
    var spec: String?
    @Flag(help: "Refuse the file if any line is bad.") var strict = false
    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            "Write the results here when the job has ended (waits).", valueName: "file"))
    var output: String?
    @Option(
        help: ArgumentHelp("Write the lines that failed here (waits).", valueName: "file"))
    var errorOutput: String?
    @Flag(help: "With -o: in the order of the input.") var ordered = false
    @Flag(help: "Replace output files that exist.") var force = false
    @OptionGroup var submit: SubmitOptions
    @OptionGroup var waiting: WaitOptions
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        if let model { try NameCheck.checkReference(model, what: "--model") }
        try NameCheck.check(kind, what: "--kind")
        let spooled = input == "-" ? try SpooledInput() : nil
        let file = spooled?.path ?? input
        try InputFile.check(file, what: "batch file")
        for target in [output, errorOutput].compactMap({ $0 }) where target != "-" {
            try OutputFile.check(target, replaces: force, inputs: [file])
        }
        var waiting = self.waiting
        waiting.wait = waiting.wait || output != nil || errorOutput != nil
        var submitting = Submitting(session: session, waiting: waiting)
        submitting.outputIsTaken = output == "-" || errorOutput == "-"
        var request = JobRequest(kind: kind, spec: try jobSpec())
        try submit.apply(to: &request, session)
        request.inputs.append(try submitting.input("lines", file: file))
        guard let job = try submitting.run(request) else { return }
        try write(job, session, file)
        try submitting.conclude(job, summary: summary(job))
    }

    private func jobSpec() throws -> JSONValue {
        var object = JSONObject()
        if let spec { object = try SpecFile.read(spec) }
        if let model { object["model"] = .string(model) }
        if strict { object["strict"] = true }
        return .object(object)
    }

    private func write(_ job: JobSnapshot, _ session: Session, _ file: String) throws {
        let writer = ResultWriter(session: session)
        if let output {
            _ = try writer.write(
                job, stream: .results, ordered: ordered, to: output, replaces: force,
                inputs: [file])
        }
        if let errorOutput {
            _ = try writer.write(
                job, stream: .errors, ordered: ordered, to: errorOutput, replaces: force,
                inputs: [file])
        }
    }

    private func summary(_ job: JobSnapshot) -> String {
        var text =
            "\(HumanText.count(job.count("done"))) of \(HumanText.plural(job.total ?? 0, "line"))"
        text += " answered"
        if let start = job.startedAtMs, let end = job.finishedAtMs, end > start {
            let seconds = Double(end - start) / 1000
            text += " in \(HumanText.span(seconds: seconds))"
            text += ", " + HumanText.rate(Double(job.finished) / seconds, unit: "lines")
            if let tokens = job.usage?["completion_tokens"]?.double {
                text += ", " + HumanText.rate(tokens / seconds, unit: "tokens")
            }
        }
        if let output, output != "-" { text += "; results in \(output)" }
        if job.lost > 0, errorOutput == nil {
            text += "\n\(HumanText.plural(job.lost, "line")) failed: loraq errors \(job.id)"
        }
        return text
    }
}

/// Standard input on disk, so that it can be read twice; gone with the process.
final class SpooledInput {
    let path: String

    init() throws {
        let folder = FileManager.default.temporaryDirectory.path
        path = "\(folder)/loraq-input-\(UUID().uuidString).jsonl"
        let file = try OutputFile(path, replaces: false)
        do {
            while let piece = try FileHandle.standardInput.read(upToCount: 1 << 20), !piece.isEmpty
            {
                try file.write([UInt8](piece))
            }
            try file.commit()
        } catch {
            file.abandon()
            throw error
        }
    }

    deinit { unlink(path) }
}

/// A spec: a JSON object in a file, on standard input (`-`), or written out on the command line.
enum SpecFile {
    static func read(_ path: String) throws -> JSONObject {
        let bytes: [UInt8]
        if path.drop(while: \.isWhitespace).hasPrefix("{") {
            bytes = Array(path.utf8)
        } else if path == "-" {
            bytes = [UInt8](try FileHandle.standardInput.read(upToCount: 1 << 20) ?? Data())
        } else {
            bytes = Array(try InputFile.smallText(path, limit: 1 << 20, what: "spec").utf8)
        }
        let value: JSONValue
        do {
            value = try JSONValue.parse(bytes)
        } catch {
            throw ToolError.usage("spec \(path.prefix(80)): not JSON: \(error)")
        }
        guard let object = value.object else {
            throw ToolError.usage(
                "spec \(path.prefix(80)): a spec is a JSON object, this is \(value.kindName)")
        }
        return object
    }
}

struct Submit: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Submit a job of any kind.",
        discussion: "For example: loraq submit check spec.json --input data=train.jsonl --wait")

    @Argument(help: "The kind: infer, finetune, prepare, adapter, check, or a plugin's own.")
    var kind: String
    @Argument(
        help: ArgumentHelp("The spec, a JSON object (`-`: standard input).", valueName: "spec.json")
    )
    var spec: String
    @Option(
        help: ArgumentHelp(
            "A file of data under the name the kind gives it (repeatable).", valueName: "name=file")
    )
    var input: [String] = []
    @OptionGroup var submit: SubmitOptions
    @OptionGroup var waiting: WaitOptions
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        try NameCheck.check(kind, what: "the kind")
        var files: [(name: String, path: String)] = []
        for text in input {
            guard let equals = text.firstIndex(of: "=") else {
                throw ToolError.usage("--input \(text): expected name=file")
            }
            let name = String(text[..<equals])
            try NameCheck.check(name, what: "--input \(text): the name")
            let path = String(text[text.index(after: equals)...])
            try InputFile.check(path, what: "\(name) file")
            files.append((name, path))
        }
        var request = JobRequest(kind: kind, spec: .object(try SpecFile.read(spec)))
        let submitting = Submitting(session: session, waiting: waiting)
        try submit.apply(to: &request, session)
        for file in files {
            request.inputs.append(try submitting.input(file.name, file: file.path))
        }
        guard let job = try submitting.run(request) else { return }
        try submitting.conclude(job, summary: JobText.flat(job.result))
    }
}
