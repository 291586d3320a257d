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

    @Argument(help: ArgumentHelp("A job.", valueName: "job"))
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
        if let count, let output, output != "-" {
            try ResultWriter.report(count, of: job, in: output, session)
        }
        if !job.isFinal {
            session.note("the job is \(job.state): more may follow")
        } else if job.lost > 0, !all {
            session.note(
                "\(HumanText.plural(job.lost, "line")) failed: loraq errors \(job.id)")
        }
    }
}
