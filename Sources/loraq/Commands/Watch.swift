import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

struct Watch: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Watch a fine-tune: its curve, live, until it ends.",
        discussion: """
            On a terminal the curve of the loss is drawn in place, with evaluations, learning rate, tokens a second and \
            the time left. Into a pipe: a line per evaluation and one now and then. With --json each measurement is a \
            line as the worker wrote it (those that a resumed run makes again come again), and the last is the job. \
            Ends with the job and its outcome as exit code; Ctrl-C ends the watching, not the job.
            """)

    @Argument(help: ArgumentHelp("A fine-tune.", valueName: "job")) var job = "last"
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Redraw, or write a line, this often at the most (default: 0.25; into a pipe 10).",
            valueName: "seconds"), transform: Quantity.number(0.05...3_600))
    var interval: Double?
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let found = try session.client.job(job)
        try Watch.check(found)
        // Subscribed before the first look: what happens after it is heard.
        let events = try session.client.subscribe(to: ["job/\(found.id)"])
        let isLive = session.terminal.outputIsTerminal && !session.json
        let pause = Duration.milliseconds(Int64((interval ?? (isLive ? 0.25 : 10)) * 1_000))
        var display = WatchDisplay(session: session, isLive: isLive, pause: pause)
        var feed = MetricsFeed(session: session, job: found.id)
        while true {
            // The state first: what a job that has ended wrote is all there.
            let snapshot = try Watch.look(found.id, session)
            try feed.refresh()
            try display.show(snapshot, feed)
            if snapshot.isFinal { return try display.end(snapshot, feed) }
            try display.wait(for: events, snapshot, &feed)
        }
    }

    static func look(_ id: String, _ session: Session) throws -> JobSnapshot {
        let jobs = try session.client.status(
            [id], policy: RequestPolicy(timeout: .seconds(31_536_000), waitsForBroker: true))
        guard let job = jobs.first else {
            throw ToolError(.failure, "the broker does not know job \(id) any more")
        }
        return job
    }

    static func check(_ job: JobSnapshot) throws(ToolError) {
        guard job.kind == "finetune" else {
            throw ToolError.usage(
                "job \(job.id) is no fine-tune: its kind is `\(TextTable.oneLine(job.kind))`",
                hint: "`loraq wait \(job.id)` follows it; `loraq jobs` lists the others")
        }
    }
}

/// Shows what a feed brings: drawn in place, as lines, or as JSON lines.
struct WatchDisplay {
    let session: Session
    let isLive: Bool
    let pause: Duration
    private let watch = Stopwatch()
    private var shownAt: Duration?
    private var shownState = ""
    private var shownSize: (Int, Int) = (0, 0)
    private var evaluationsShown = -1

    init(session: Session, isLive: Bool, pause: Duration) {
        self.session = session
        self.isLive = isLive
        self.pause = pause
    }

    private func view(_ job: JobSnapshot, _ feed: MetricsFeed) -> WatchView {
        WatchView(
            job: job, course: feed.course, style: session.style,
            showsUnicode: session.terminal.showsUnicode)
    }

    mutating func show(_ job: JobSnapshot, _ feed: MetricsFeed) throws {
        if session.json {
            for line in feed.fresh { try session.print(line.text()) }
            return
        }
        if isLive {
            let size = Terminal.size(of: 1)
            shownSize = size
            shownAt = watch.elapsed
            let text = view(job, feed).screen(width: size.columns, height: size.rows)
            // Home, each line cleared to its end, then all below.
            try session.print(
                "\u{1B}[H" + text.replacing("\n", with: "\u{1B}[K\n") + "\u{1B}[J", terminator: "")
            return
        }
        for evaluation in feed.course.evaluations where evaluation.step > evaluationsShown {
            try session.print(WatchView.evaluationLine(evaluation))
            evaluationsShown = evaluation.step
        }
        let isDue = shownAt.map { watch.elapsed - $0 >= pause } ?? true
        guard !job.isFinal, isDue || job.state != shownState else { return }
        try session.print(view(job, feed).line)
        shownAt = watch.elapsed
        shownState = job.state
    }

    func end(_ job: JobSnapshot, _ feed: MetricsFeed) throws {
        if session.json {
            try session.print(job.json.text())
        } else if !isLive {
            let view = view(job, feed)
            try session.print(view.line)
            if let note = view.noteText { try session.print(note) }
        }
        try JobWaiter.finish([job])
    }

    /// Waits for news, for a window of another size, and no longer than a second: events may be missed.
    ///
    /// - Throws: `.interrupted` after Ctrl-C.
    func wait(
        for events: EventSubscription, _ job: JobSnapshot, _ feed: inout MetricsFeed
    ) throws {
        let begun = watch.elapsed
        var isNews = false
        // What comes quickly is drawn together.
        let least = isLive || session.json ? min(pause, .seconds(1)) : .milliseconds(100)
        while watch.elapsed - begun < (isNews ? least : .seconds(1)) {
            if Interrupts.isInterrupted { throw Watch.interrupted(job) }
            if let event = try events.next(within: .milliseconds(50)) {
                isNews = true
                if event.type == "progress" { feed.take(progress: event.json) }
                if event.type.hasPrefix("job.") { return }
                continue
            }
            if isLive, Terminal.size(of: 1) != shownSize { return }
        }
    }
}

extension Watch {
    static func interrupted(_ job: JobSnapshot) -> ToolError {
        ToolError(
            .interrupted, "interrupted; \(job.id) goes on",
            hint: "come back with `loraq watch \(job.id)`, or end it with `loraq cancel \(job.id)`")
    }
}
