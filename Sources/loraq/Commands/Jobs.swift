import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

struct Jobs: SessionCommand {
    static let configuration = CommandConfiguration(abstract: "List jobs, newest first.")

    @Option(help: "Only jobs in this state (queued, running, succeeded, failed, …).")
    var state: String?
    @Option(help: "Only jobs of this kind (infer, finetune, …).")
    var kind: String?
    @Option(help: "Only this tenant's jobs.")
    var tenant: String?
    @Option(help: "Only jobs with this label.")
    var label: String?
    @Option(
        name: .shortAndLong, parsing: .unconditional, help: "At most so many (default: 20).",
        transform: Quantity.whole(1...1_000_000))
    var limit = 20
    @Flag(name: .shortAndLong, help: "All of them.")
    var all = false
    @OptionGroup var common: CommonOptions

    mutating func validate() throws {
        if let state, JobState(rawValue: state) == nil {
            let words = JobState.allCases.map(\.rawValue)
            let likely = Suggestion.nearest(to: state, among: words)
            throw ValidationError(
                "unknown state `\(state)`" + (likely.map { "; did you mean `\($0)`?" } ?? "")
                    + " The states are: " + words.joined(separator: ", "))
        }
    }

    func run(_ session: Session) throws {
        var filter = JSONObject()
        filter["state"] = state.map { .string($0) }
        filter["kind"] = kind.map { .string($0) }
        filter["tenant"] = tenant.map { .string($0) }
        filter["label"] = label.map { .string($0) }
        let jobs = try session.client.list(filter: filter, limit: all ? nil : limit)
        if session.json {
            return try session.print(json: .object(["jobs": .array(jobs.map(\.json))]))
        }
        if jobs.isEmpty { return session.note("no jobs") }
        try session.print(
            JobText.table(
                jobs, nowMs: WallClock.milliseconds(), style: session.style,
                width: session.terminal.outputWidth), terminator: "")
        if !all, jobs.count == limit { session.note("(the newest \(limit); --all for all)") }
    }
}
