import ArgumentParser
import JSONModel
import LoraqClient

struct Errors: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what failed in a job, line by line.")

    @Argument(help: ArgumentHelp("A job.", valueName: "job"))
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
            if let count, output != "-" {
                try ResultWriter.report(count, of: job, in: output, session)
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
