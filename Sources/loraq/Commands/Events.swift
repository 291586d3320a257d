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
    @Option(name: .shortAndLong, help: "At most so many of those that are kept (the newest).")
    var limit: Int?
    @Flag(name: .shortAndLong, help: "Go on with those that come; Ctrl-C ends.") var follow = false
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let id = try job.map { try session.client.job($0).id }
        // Subscribed before the stored ones are read: none falls between.
        let live = follow ? try session.client.subscribe(to: id.map { ["job/\($0)"] } ?? []) : nil
        var last = try printStored(id, session)
        guard let live else { return }
        while !Interrupts.isInterrupted {
            guard let event = try live.next(within: .milliseconds(200)) else { continue }
            let isKept = !["progress", "log", "chunk"].contains(event.type)
            if isKept, let number = event.number {
                if number <= last { continue }
                last = number
            }
            try show(event.json, session)
        }
        throw ExitCode(ExitStatus.interrupted.rawValue)
    }

    /// - Returns: The number of the last event.
    private func printStored(_ id: String?, _ session: Session) throws -> Int {
        var header = JSONObject()
        header["after"] = after.map { .string($0) }
        header["job"] = id.map { .string($0) }
        var newest: [JSONValue] = []
        var last = 0
        while true {
            let reply = try session.call(.events, header)
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
