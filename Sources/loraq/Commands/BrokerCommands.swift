import ArgumentParser
import Foundation
import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

struct Ping: SessionCommand {
    static let configuration = CommandConfiguration(abstract: "Ask whether the broker answers.")
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let start = MonotonicTime.now()
        let reply = try session.call(.ping, policy: RequestPolicy(timeout: .seconds(10)))
        let took = MonotonicTime.now() - start
        if session.json { return try session.print(json: reply.header) }
        try session.print(BrokerText.presence(reply.header, session.home, roundTrip: took))
    }
}

/// The broker in words.
enum BrokerText {
    static func presence(_ ping: JSONValue, _ home: LoraqHome, roundTrip: Duration) -> String {
        let version = ping["broker_version"]?.string ?? "?"
        let uptime = HumanText.span(milliseconds: ping["uptime_ms"]?.integer ?? 0)
        let milliseconds = HumanText.fixed(roundTrip / .milliseconds(1), digits: 1)
        return "broker \(version) at \(home.path), up \(uptime), answered in \(milliseconds) ms; "
            + jobs(ping["jobs"])
    }

    /// Counts by state: `2 running, 5 queued`.
    static func jobs(_ counts: JSONValue?) -> String {
        let parts = (counts?.object?.entries ?? []).compactMap { entry -> String? in
            guard let count = entry.value.integer, count > 0 else { return nil }
            return "\(HumanText.count(count)) \(entry.key)"
        }
        return parts.isEmpty ? "no jobs" : "jobs: " + parts.joined(separator: ", ")
    }
}

/// The programs beside this one.
struct Installation {
    let programs: String
    /// The package's `workers/`, when this is a build in its source folder.
    let sourceWorkers: String?

    init(ownPath: String?) {
        programs = FilePath.parent(of: ownPath ?? "/usr/local/bin/loraq")
        var folder = programs
        while folder != "/", FilePath.name(of: folder) != ".build" {
            folder = FilePath.parent(of: folder)
        }
        let workers = FilePath.parent(of: folder) + "/workers"
        sourceWorkers = folder != "/" && FilePath.isDirectory(workers) ? workers : nil
    }

    /// A program beside this one, or on `PATH`.
    func find(_ name: String, path: String?) -> String? {
        let beside = programs + "/" + name
        if access(beside, X_OK) == 0 { return beside }
        for folder in (path ?? "").split(separator: ":") {
            let candidate = "\(folder)/\(name)"
            if access(candidate, X_OK) == 0 { return candidate }
        }
        return nil
    }
}

struct Up: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Start the broker in the background, unless it runs already.")

    @Option(
        help: ArgumentHelp(
            "Look for worker plugins in this folder too (repeatable).", valueName: "folder"))
    var workers: [String] = []
    @Option(help: ArgumentHelp("Wait so long for its first answer.", valueName: "seconds"))
    var timeout = 30.0
    @OptionGroup var common: CommonOptions

    mutating func validate() throws {
        if !(timeout > 0 && timeout < 1e6) {
            throw ValidationError("--timeout must be above 0 seconds")
        }
    }

    func run(_ session: Session) throws {
        if EndpointProbe.look(at: session.home.controlEndpoint) == .listening {
            let reply = try session.call(.ping)
            return try report(reply.header, session, alreadyRuns: true)
        }
        let installation = Installation(ownPath: DetachedProcess.ownPath())
        let path = ProcessInfo.processInfo.environment["PATH"]
        guard let program = installation.find("loraqd", path: path) else {
            throw ToolError(
                .failure, "loraqd is neither in \(installation.programs) nor on PATH",
                hint: "build it with `make build`, or install it with `make install`")
        }
        let home = session.home
        var folders = workers.map(FilePath.absolute)
        for folder in folders where !FilePath.isDirectory(folder) {
            throw ToolError.usage("--workers: there is no folder \(folder)")
        }
        if folders.isEmpty, let source = installation.sourceWorkers { folders = [source] }
        let child: pid_t
        let logEnd: UInt64
        do throws(SystemError) {
            try DurableFile.createDirectories(home.path, mode: 0o700)
            try DurableFile.createDirectories(home.logFolder, mode: 0o700)
            try LocalLog.rotate(home.brokerLog)
            logEnd = UInt64((try? FilePath.size(of: home.brokerLog)) ?? 0)
            child = try DetachedProcess.start(
                program, ["--home", home.path] + folders.flatMap { ["--workers", $0] },
                logPath: home.brokerLog)
        } catch {
            throw ToolError(.failure, error.description, hint: "is \(home.path) yours to write?")
        }
        let reply = try firstAnswer(session, child, logEnd)
        try report(reply, session, alreadyRuns: false)
    }

    private func firstAnswer(
        _ session: Session, _ child: pid_t, _ logEnd: UInt64
    ) throws -> JSONValue {
        let deadline = MonotonicTime.now() + .milliseconds(Int64(timeout * 1000))
        while true {
            if EndpointProbe.look(at: session.home.controlEndpoint) == .listening,
                let reply = try? session.call(.ping, policy: RequestPolicy(timeout: .seconds(2)))
            {
                return reply.header
            }
            if Interrupts.isInterrupted {
                throw ToolError(
                    .interrupted, "interrupted; loraqd (process \(child)) goes on starting",
                    hint: "`loraq ping` asks whether it is there, `loraq down` ends it")
            }
            if let outcome = DetachedProcess.outcome(of: child) {
                let log = LocalLog.tail(session.home.brokerLog, from: logEnd, lines: 5)
                throw ToolError(
                    .brokerUnreachable,
                    "loraqd ended at its start (\(outcome))" + (log.isEmpty ? "" : ": \(log)"),
                    hint: "its log is \(session.home.brokerLog)")
            }
            guard MonotonicTime.now() < deadline else {
                throw ToolError(
                    .timeout,
                    "loraqd (process \(child)) did not answer within \(HumanText.span(seconds: timeout))",
                    hint: "it may still be coming up; its log is \(session.home.brokerLog)")
            }
            MonotonicSleep.wait(.milliseconds(20))
        }
    }

    private func report(_ ping: JSONValue, _ session: Session, alreadyRuns: Bool) throws {
        let home = session.home
        let pid = EndpointProbe.owner(of: home.controlEndpoint)
        if session.json {
            var object: JSONObject = [
                "home": .string(home.path), "endpoint": .string(home.controlEndpoint),
                "log": .string(home.brokerLog), "already_running": .bool(alreadyRuns),
            ]
            object["pid"] = pid.map { .integer(Int64($0)) }
            for entry in ping.object?.entries ?? [] { object[entry.key] = entry.value }
            return try session.print(json: .object(object))
        }
        let process = pid.map { ", process \($0)" } ?? ""
        let version = ping["broker_version"]?.string ?? "?"
        try session.print(
            alreadyRuns
                ? "broker \(version) runs already at \(home.path)\(process)"
                : "broker \(version) runs at \(home.path)\(process); log: \(home.brokerLog)")
    }
}

struct Down: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Stop the broker: work in hand is finished or kept, then its processes end.")

    @Option(help: ArgumentHelp("Wait so long for its end.", valueName: "seconds"))
    var timeout = 60.0
    @OptionGroup var common: CommonOptions

    mutating func validate() throws {
        if !(timeout > 0 && timeout < 1e6) {
            throw ValidationError("--timeout must be above 0 seconds")
        }
    }

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
