import ArgumentParser
import JSONModel
import LoraqClient

struct Results: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write a job's results: JSONL for a batch, the result object for other jobs.",
        discussion: """
            A batch can be read while it runs: what is there is written. Lines that failed are shown by \
            `loraq errors`; --all writes both.
            """)

    @Argument(help: ArgumentHelp("A job (default: last).", valueName: "job"))
    var job = "last"
    @Flag(help: "In the order of the input, not of completion.") var ordered = false
    @Flag(help: "Failed lines too.") var all = false
    @Option(name: .shortAndLong, help: ArgumentHelp("Into this file.", valueName: "file"))
    var output: String?
    @Flag(help: "Replace the output file if it exists.") var force = false
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let job = try session.client.job(job)
        let count = try ResultWriter(session: session).write(
            job, stream: all ? .all : .results, ordered: ordered, to: output, replaces: force)
        if let output, output != "-" {
            session.note("\(HumanText.plural(count, "line")) to \(output)")
        }
        if !job.isFinal {
            session.note("the job is \(job.state): more may follow")
        } else if job.lost > 0, !all {
            session.note(
                "\(HumanText.plural(job.lost, "line")) failed: loraq errors \(job.id)")
        }
    }
}

/// Fetches a job's lines into a file or to standard output.
struct ResultWriter {
    let session: Session

    /// - Parameters:
    ///   - output: A file, or nil or `-` for standard output.
    ///   - inputs: Files that must not be written over, whatever `replaces` says.
    /// - Returns: How many lines were written.
    func write(
        _ job: JobSnapshot, stream: ResultStream.Stream, ordered: Bool, to output: String?,
        replaces: Bool, inputs: [String] = []
    ) throws -> Int {
        var lines = ResultStream(
            client: session.client, job: job.id, stream: stream,
            order: ordered ? .input : .completion,
            policy: RequestPolicy(timeout: .seconds(60), waitsForBroker: true))
        guard let output, output != "-" else {
            return try lines.readAll { try StandardStreams.write($0.lines) }.lines
        }
        let file = try OutputFile(output, replaces: replaces, inputs: inputs)
        do {
            let count = try lines.readAll { try file.write($0.lines) }.lines
            try file.commit()
            return count
        } catch {
            file.abandon()
            guard let error = error as? ClientError, error.kind == .interrupted else { throw error }
            throw ToolError(
                .interrupted, "interrupted; \(output) was not written",
                hint: "the results stay with the broker: loraq results \(job.id) -o \(output)")
        }
    }
}

struct Errors: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what failed in a job, line by line.")

    @Argument(help: ArgumentHelp("A job (default: last).", valueName: "job"))
    var job = "last"
    @Flag(help: "In the order of the input, not of completion.") var ordered = false
    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("Write the failed lines as JSONL into this file.", valueName: "file"))
    var output: String?
    @Flag(help: "Replace the output file if it exists.") var force = false
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let job = try session.client.job(job)
        if let output {
            let count = try ResultWriter(session: session).write(
                job, stream: .errors, ordered: ordered, to: output, replaces: force)
            if output != "-" {
                session.note("\(HumanText.plural(count, "line")) to \(output)")
            }
            return
        }
        var lines = ResultStream(
            client: session.client, job: job.id, stream: .errors,
            order: ordered ? .input : .completion)
        var shown = 0
        if !session.json, let error = job.error {
            try session.print(JobText.errorText(error, style: session.style))
            shown += 1
        }
        let style = session.style
        let fetched = try lines.readAll { page in
            if session.json { return try StandardStreams.write(page.lines) }
            for line in page.lines.split(separator: UInt8(ascii: "\n")) {
                try session.print(ErrorLine.text(of: Array(line), style: style))
            }
        }
        if shown + fetched.lines == 0 { session.note("no errors") }
    }
}

/// A failed line in words: `line 17 (custom_id q-17)  BAD_LINE: body.temperature must be …`.
enum ErrorLine {
    static func text(of bytes: [UInt8], style: TextStyle) -> String {
        guard let json = try? JSONValue.parse(bytes) else {
            return TextTable.oneLine(String(decoding: bytes, as: UTF8.self))
        }
        var place: [String] = []
        let error = error(in: json)
        if let line = (json["line"] ?? error?["line"])?.integer { place.append("line \(line)") }
        if let id = json["custom_id"]?.string {
            place.append("custom_id \(TextTable.oneLine(String(id.prefix(64))))")
        }
        let code = error?["code"]?.string ?? json["code"]?.string ?? "ERROR"
        let message =
            error?["message"]?.string ?? json["message"]?.string
            ?? TextTable.oneLine(String(decoding: bytes, as: UTF8.self))
        let hint = (error?["hint"]?.string).map { " (\($0))" } ?? ""
        let front = place.isEmpty ? "" : place.joined(separator: ", ") + "  "
        return front + style.red(TextTable.oneLine(code)) + ": "
            + TextTable.oneLine(message + hint)
    }

    /// The same without the place, for the only line of its job.
    static func message(of bytes: [UInt8]) -> String {
        guard let json = try? JSONValue.parse(bytes), let error = error(in: json),
            let message = error["message"]?.string
        else { return text(of: bytes, style: .plain) }
        return TextTable.oneLine("\(error["code"]?.string ?? "ERROR"): \(message)")
    }

    /// OpenAI's error line puts the error beside `response` or into its body.
    private static func error(in json: JSONValue) -> JSONValue? {
        for candidate in [json["error"], json["response"]?["body"]?["error"]] {
            if let candidate, candidate.object != nil { return candidate }
        }
        return nil
    }
}
