import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

struct Top: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "What runs now, what waits and why, and who does it.",
        discussion: """
            On a terminal the view is redrawn in place as events come; into a pipe it is written now and then, as plain \
            lines. Ctrl-C ends it. With --json each view is one document on a line.
            """)

    @Option(
        name: .shortAndLong, parsing: .unconditional, help: "At most so many jobs (default: 20).",
        transform: Quantity.whole(1...100))
    var limit = 20
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Write a view this often at the most.", valueName: "seconds"),
        transform: Quantity.number(0.1...3_600))
    var interval: Double?
    @Flag(help: "One view, then end.") var once = false
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let isLive = session.terminal.outputIsTerminal && !session.json
        let pause = Duration.milliseconds(Int64((interval ?? (isLive ? 0.5 : 10)) * 1_000))
        // Subscribed before the first look: what changes after it is heard.
        let events = try session.client.subscribe(to: [])
        var heard = TopEvents()
        while true {
            let view = try TopView.load(session, limit: limit, recent: heard.recent)
            try show(view, session, isLive: isLive)
            if once { return }
            try wait(for: events, &heard, pause: pause)
        }
    }

    private func show(_ view: TopView, _ session: Session, isLive: Bool) throws {
        if session.json { return try session.print(view.json.text()) }
        let text = view.text(style: session.style, width: session.terminal.outputWidth)
        // Home, each line cleared to its end, then all below.
        let drawn =
            isLive
            ? "\u{1B}[H" + text.replacing("\n", with: "\u{1B}[K\n") + "\u{1B}[J" : text + "\n"
        try session.print(drawn, terminator: "")
    }

    /// Waits for something to happen, and at least the pause; without events a view is made every few seconds too, since
    /// lines of a batch end without one.
    private func wait(
        for events: EventSubscription, _ heard: inout TopEvents, pause: Duration
    ) throws {
        let watch = Stopwatch()
        let longest = max(pause, .seconds(2))
        var isChanged = false
        while watch.elapsed < (isChanged ? pause : longest) {
            if Interrupts.isInterrupted { throw ExitCode(ExitStatus.interrupted.rawValue) }
            let rest = (isChanged ? pause : longest) - watch.elapsed
            guard rest > .zero else { return }
            if let event = try events.next(within: min(rest, .milliseconds(200))) {
                heard.add(event)
                isChanged = true
            }
        }
    }
}

/// The last things that happened, as events told them.
struct TopEvents {
    private(set) var recent: [JSONValue] = []
    static let count = 5

    mutating func add(_ event: BrokerEvent) {
        guard !["progress", "log", "chunk"].contains(event.type) else { return }
        recent.append(event.json)
        recent.removeFirst(max(0, recent.count - Self.count))
    }
}

/// One view of a broker.
struct TopView {
    var counts: [(state: String, count: Int)]
    var jobs: [JobSnapshot]
    var workers: JSONValue
    var recent: [JSONValue]

    /// In the order in which they matter to somebody who looks.
    private static let states = ["running", "splitting", "queued", "waiting", "held"]

    static func load(_ session: Session, limit: Int, recent: [JSONValue]) throws -> TopView {
        let ping = try session.call(.ping)
        var counts: [(String, Int)] = []
        for state in JobState.allCases.map(\.rawValue) {
            if let count = ping.header["jobs"]?[state]?.integer, count > 0 {
                counts.append((state, count))
            }
        }
        var jobs: [JobSnapshot] = []
        for state in states where jobs.count < limit {
            guard counts.contains(where: { $0.0 == state }) else { continue }
            jobs += try session.client.list(
                filter: ["state": .string(state)], limit: limit - jobs.count)
        }
        return TopView(
            counts: counts, jobs: jobs, workers: try session.call(.workers).header, recent: recent)
    }

    func text(style: TextStyle, width: Int?) -> String {
        let words = counts.map { "\(HumanText.count($0.count)) \($0.state)" }
        var text = "jobs: " + (words.isEmpty ? "none" : words.joined(separator: ", ")) + "\n\n"
        if !jobs.isEmpty {
            var table = TextTable([
                ("JOB", .left), ("KIND", .left), ("STATE", .left), ("PRIO", .right),
                ("TENANT", .left),
                ("DONE", .right), ("HELD", .right), ("WAITS FOR", .left),
            ])
            for job in jobs {
                table.add([
                    job.label ?? JobText.shortID(job.id), job.kind, job.state, "\(job.priority)",
                    job.tenant, JobText.amount(of: job), HumanText.count(job.count("leased")),
                    job.state == "running" ? "" : job.reason?.message ?? "",
                ])
            }
            text += table.rendered(style: style, width: width) + "\n"
        }
        text += WorkerText.text(workers, style: style, width: width)
        if !recent.isEmpty {
            text +=
                "\n" + recent.map { EventLine.text($0, style: style) }.joined(separator: "\n")
                + "\n"
        }
        return text
    }

    var json: JSONValue {
        var object = JSONObject()
        for entry in counts { object[entry.state] = .integer(Int64(entry.count)) }
        return .object([
            "counts": .object(object), "jobs": .array(jobs.map(\.json)),
            "workers": workers["workers"] ?? .array([]), "events": .array(recent),
        ])
    }
}
