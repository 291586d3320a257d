import ArgumentParser
import LinuxSystem
import LoraqClient

struct Status: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show jobs in full: state, counts, progress, result, error.",
        discussion: """
            With --json: the job's object where one selector names one job, otherwise {"jobs": […]}.
            """)

    @Argument(help: ArgumentHelp("Jobs.", valueName: "job"))
    var jobs: [String] = ["last"]
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let found = try session.client.status(jobs)
        if session.json {
            if jobs.count == 1, jobs[0] != "all", let only = found.first, found.count == 1 {
                return try session.print(json: only.json)
            }
            return try session.print(json: .object(["jobs": .array(found.map(\.json))]))
        }
        if found.isEmpty { return session.note("no jobs") }
        let now = WallClock.milliseconds()
        let texts = found.map { JobText.detail($0, nowMs: now, style: session.style) }
        try session.print(
            texts.joined(separator: "\n") + SweepText.tables(found, session), terminator: "")
    }
}
