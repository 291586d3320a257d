import ArgumentParser
import JSONModel
import LoraqClient
import WireProtocol

struct Events: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what happened: jobs, tasks, artifacts, workers.",
        discussion:
            "Prints the events that are kept; -f goes on with those that come, progress and all.")

    @Option(help: "Only this job's.") var job: String?
    @Option(help: ArgumentHelp("Only those after this cursor.", valueName: "event")) var after:
        String?
    @Option(
        name: .shortAndLong, parsing: .unconditional,
        help: "At most so many of those that are kept (the newest).",
        transform: Quantity.whole(1...1_000_000))
    var limit: Int?
    @Flag(name: .shortAndLong, help: "Go on with those that come; Ctrl-C ends.") var follow = false
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let id = try job.map { try session.client.job($0).id }
        // Subscribed before the stored ones are read: none falls between.
        let live = follow ? try session.client.subscribe(to: id.map { ["job/\($0)"] } ?? []) : nil
        var last = try printStored(id, after: after, limit: limit, session)
        guard let live else { return }
        // What is kept is read from the broker, so that nothing is missed that a slow reader, or a broker's restart, let
        // fall; an event that comes only says that it is time to look. What is not kept is shown as it comes.
        let watch = Stopwatch()
        var lookedAt = watch.elapsed
        while !Interrupts.isInterrupted {
            let event = try live.next(within: .milliseconds(200))
            let isKept = event.map { !["progress", "log", "chunk"].contains($0.type) } ?? false
            if let event, !isKept { try show(event.json, session) }
            let isNew = isKept && (event?.number ?? 0) > last
            if isNew || watch.elapsed - lookedAt > .seconds(2) {
                lookedAt = watch.elapsed
                last = max(last, try printStored(id, after: String(last), limit: nil, session))
            }
        }
        throw ExitCode(ExitStatus.interrupted.rawValue)
    }

    /// - Returns: The number of the last event.
    private func printStored(_ id: String?, after: String?, limit: Int?, _ session: Session) throws
        -> Int
    {
        var header = JSONObject()
        header["after"] = after.map { .string($0) }
        header["job"] = id.map { .string($0) }
        var newest: [JSONValue] = []
        var last = 0
        while true {
            let reply = try session.call(
                .events, header, policy: RequestPolicy(waitsForBroker: follow))
            let events = reply.header["events"]?.array ?? []
            last = max(last, events.compactMap { $0["event"]?.integer }.max() ?? 0)
            if let limit {
                newest = Array((newest + events).suffix(limit))
            } else {
                for event in events { try show(event, session) }
            }
            guard !events.isEmpty, let next = reply.header["next"],
                next.string?.isEmpty == false, next != header["after"]
            else { break }
            header["after"] = next
        }
        for event in newest { try show(event, session) }
        return last
    }

    private func show(_ event: JSONValue, _ session: Session) throws {
        if session.json { return try session.print(event.text()) }
        try session.print(EventLine.text(event, style: session.style))
    }
}
