import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

struct Evaluate: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure models and adapters on a file of rows, side by side.",
        discussion: """
            For example: loraq evaluate tiny:a tiny:b tiny eval.jsonl --metric loss,exact_match

            Rows have the form of training data. loss and token_accuracy are over the labels, given what stands before \
            them; exact_match and regex:PATTERN are over greedy answers to what stands before the last one. Each \
            figure comes with its 95% confidence interval, and the first model is compared with the others row by row.

            As a gate: loraq submit … --after 'JOB:exact_match>=0.9', or JOB:exact_match_gain>0 (the first model over \
            every other), or JOB:loss_gain_low>0 (surely better).
            """)

    @Argument(
        help: ArgumentHelp(
            "M, M:A or A, one or several, and at the end the rows, JSONL.",
            valueName: "model … eval.jsonl"))
    var words: [String]
    @Option(
        help: ArgumentHelp(
            "loss, token_accuracy, exact_match, regex:PATTERN; with commas or repeated (default: loss). A pattern takes "
                + "all that follows.", valueName: "metric,…"))
    var metric: [String] = []
    @Option(
        parsing: .unconditional, help: "Of an answer (default: twice what the expected one has).",
        transform: Quantity.whole(1...1 << 20))
    var maxTokens: Int?
    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("Also write a line per row to this file.", valueName: "file"))
    var output: String?
    @Flag(help: "Replace the output file if it exists.") var force = false
    @Flag(help: "Do not wait: print the job's id.") var noWait = false
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Give up waiting after this long (exit code 4).", valueName: "seconds"),
        transform: Quantity.seconds)
    var timeout: Double?
    @Flag(name: .shortAndLong, help: "No progress.") var quiet = false
    @OptionGroup var submit: SubmitOptions
    @OptionGroup var common: CommonOptions

    mutating func validate() throws {
        if words.count < 2 {
            throw ValidationError("name one model or adapter at least, and then the file of rows")
        }
        if noWait, output != nil { throw ValidationError("-o needs the end: leave out --no-wait") }
    }

    /// `loss,regex:a,b` is loss and the pattern `a,b`.
    static func metrics(_ texts: [String]) -> [String] {
        var result: [String] = []
        for text in texts {
            var rest = Substring(text)
            while !rest.isEmpty {
                if rest.hasPrefix(EvaluateSpec.patternPrefix) {
                    result.append(String(rest))
                    break
                }
                let end = rest.firstIndex(of: ",") ?? rest.endIndex
                result.append(String(rest[..<end]))
                rest = end == rest.endIndex ? "" : rest[rest.index(after: end)...]
            }
        }
        return result.isEmpty ? ["loss"] : result
    }

    func run(_ session: Session) throws {
        let file = words[words.count - 1]
        let spec = EvaluateSpec(
            models: try words.dropLast().map { try Self.reference($0, session) },
            metrics: Self.metrics(metric), maxTokens: maxTokens)
        let encoded = try WireEncoder.encode(spec)
        do {
            // The same checks as the broker's, before anything is uploaded.
            _ = try BuiltInSpec(kind: .evaluate, spec: encoded)
        } catch {
            throw ToolError.usage(error.message)
        }
        var waiting = WaitOptions()
        waiting.wait = !noWait
        waiting.timeout = timeout
        waiting.quiet = quiet
        var submitting = Submitting(session: session, waiting: waiting)
        submitting.outputIsTaken = !noWait
        var request = JobRequest(kind: "evaluate", spec: encoded)
        try submit.apply(to: &request, session)
        request.inputs.append(try submitting.input("eval", file: file))
        guard let job = try submitting.run(request, title: "evaluate \(FilePath.name(of: file))")
        else { return }
        guard job.state == "succeeded" else { return try submitting.conclude(job) }
        let result = try job.result ?? Self.fetched(job, session)
        if let output { try write(lines: result, to: output, file) }
        if session.json {
            try session.print(json: result)
        } else {
            try session.print(EvaluateText.text(result, style: session.style), terminator: "")
        }
        try JobWaiter.finish([job])
    }

    /// `M`, `M:A`, or `A` where only one model has it; a model goes before an adapter of that name.
    private static func reference(_ text: String, _ session: Session) throws -> ArtifactReference {
        try NameCheck.checkReference(text, what: "a model or adapter")
        guard let reference = ArtifactReference(text: text) else {
            throw ToolError.usage("\(TextTable.oneLine(text)) names no model or adapter")
        }
        if reference.adapter != nil { return reference }
        if try !session.client.artifacts(type: "model", name: reference.name).isEmpty {
            return reference
        }
        return try AdapterMaking.reference(text, session)
    }

    /// A result that is too long to stand in the job's object.
    static func fetched(_ job: JobSnapshot, _ session: Session) throws -> JSONValue {
        var stream = ResultStream(
            client: session.client, job: job.id, stream: .results, order: .completion,
            policy: RequestPolicy(timeout: .seconds(60), waitsForBroker: true))
        var bytes: [UInt8] = []
        _ = try stream.readAll { bytes.append(contentsOf: $0.lines) }
        do {
            return try JSONValue.parse(bytes)
        } catch {
            throw ToolError(.failure, "the result of job \(job.id) is no JSON: \(error)")
        }
    }

    private func write(lines result: JSONValue, to path: String, _ input: String) throws {
        let file = try OutputFile(path, replaces: force, inputs: [input])
        do {
            for line in result["lines"]?.array ?? [] { try file.write(line.serialized() + [10]) }
            try file.commit()
        } catch {
            file.abandon()
            throw error
        }
    }
}
