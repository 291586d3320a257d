import ArgumentParser
import JSONModel
import LoraqClient
import WireProtocol

struct Down: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Stop the broker: work in hand is finished or kept, then its processes end.")

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Wait so long for its end (default: 60).", valueName: "seconds"),
        transform: Quantity.seconds)
    var timeout = 60.0
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let endpoint = session.home.controlEndpoint
        guard EndpointProbe.look(at: endpoint) == .listening else {
            if session.json { return try session.print(json: .object(["was_running": false])) }
            return try session.print("no broker runs at \(session.home.path)")
        }
        let pid = EndpointProbe.owner(of: endpoint)
        let reply = try session.call(.drain, ["stop": true])
        let draining = (reply.header["draining"]?.array ?? []).compactMap(\.string)
        try waitForEnd(session, pid, draining)
        if session.json {
            var object: JSONObject = ["was_running": true]
            object["pid"] = pid.map { .integer(Int64($0)) }
            return try session.print(json: .object(object))
        }
        try session.print("the broker\(pid.map { " (process \($0))" } ?? "") has ended")
    }

    private func waitForEnd(_ session: Session, _ pid: Int?, _ draining: [String]) throws {
        let display = ProgressDisplay.standard(quiet: session.json)
        defer { display.erase() }
        let watch = Stopwatch()
        let endpoint = session.home.controlEndpoint
        while true {
            let isListening = EndpointProbe.look(at: endpoint) == .listening
            let isRunning = pid.map(DetachedProcess.isRunning) ?? isListening
            if !isRunning, !isListening { return }
            // Another broker took the socket over: the one that was asked has ended.
            if let pid, !isRunning, EndpointProbe.owner(of: endpoint) != pid { return }
            if Interrupts.isInterrupted {
                throw ToolError(.interrupted, "interrupted; the broker goes on ending")
            }
            guard watch.elapsed < .milliseconds(Int64(timeout * 1000)) else {
                throw ToolError(
                    .timeout,
                    "the broker\(pid.map { " (process \($0))" } ?? "") still runs after \(HumanText.span(seconds: timeout))",
                    hint: "`loraq workers` shows what is held; its log is \(session.home.brokerLog)"
                )
            }
            var progress = JobProgress(title: "stopping", state: "waiting", unit: "s")
            if !draining.isEmpty {
                progress.figures.append("for " + draining.prefix(4).joined(separator: ", "))
            }
            progress.figures.append(HumanText.span(seconds: watch.elapsed / .seconds(1)))
            if watch.elapsed > .seconds(1) { display.show(progress, at: watch.elapsed) }
            MonotonicSleep.wait(.milliseconds(50))
        }
    }
}
