import ArgumentParser
import LoraqClient
import WireProtocol

struct Wait: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Wait until jobs have ended, and end with their outcome as exit code.",
        discussion: "`all` stands for the jobs that have not ended yet.")

    @Argument(help: ArgumentHelp("Jobs.", valueName: "job"))
    var jobs: [String] = ["last"]
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Give up waiting after this long (the jobs go on; exit code 4).", valueName: "seconds"),
        transform: Quantity.seconds)
    var timeout: Double?
    @Flag(name: .shortAndLong, help: "No progress.")
    var quiet = false
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        var found = try session.client.status(jobs)
        // `all` means those that are under way: what failed last week is no outcome of this wait.
        if jobs == ["all"] { found.removeAll(where: \.isFinal) }
        var options = WaitOptions()
        options.wait = true
        options.timeout = timeout
        options.quiet = quiet
        if found.contains(where: { !$0.isFinal }) {
            var waiter = JobWaiter(session: session, options: options)
            waiter.selectors = jobs
            found = try waiter.wait(for: found.map(\.id))
        }
        if session.json {
            if jobs.count == 1, jobs[0] != "all", let only = found.first, found.count == 1 {
                try session.print(json: only.json)
            } else {
                try session.print(json: .object(["jobs": .array(found.map(\.json))]))
            }
        } else {
            for job in found {
                try session.print("\(job.id)  \(session.style.state(job.state))\(Wait.remark(job))")
            }
            try session.print(try SweepText.tables(found, session), terminator: "")
        }
        try JobWaiter.finish(found)
    }

    /// What is worth saying behind the state.
    static func remark(_ job: JobSnapshot) -> String {
        if let error = job.error { return "  \(error.code): \(TextTable.oneLine(error.message))" }
        if job.lost > 0 {
            return "  \(HumanText.plural(job.lost, "line")) failed (`loraq errors \(job.id)`)"
        }
        return job.reason.map { "  \(TextTable.oneLine($0.message))" } ?? ""
    }
}
