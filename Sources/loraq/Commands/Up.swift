import ArgumentParser
import Foundation
import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

struct Up: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Start the broker in the background, unless it runs already.")

    @Option(
        help: ArgumentHelp(
            "Look for worker plugins in this folder too (repeatable).", valueName: "folder"))
    var workers: [String] = []
    @Option(
        help: ArgumentHelp(
            "Take clients from other machines here too, of those that `loraq keys` has let in.",
            valueName: "address:port"))
    var listen: String?
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Wait so long for its first answer (default: 30).", valueName: "seconds"),
        transform: Quantity.seconds)
    var timeout = 30.0
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        if let remote = session.home.remote {
            throw ToolError.usage(
                "\(session.home.path) speaks to the broker at \(remote.control) (its \(RemoteBroker.fileName) says so); start it there"
            )
        }
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
                program,
                ["--home", home.path] + folders.flatMap { ["--workers", $0] }
                    + (listen.map { ["--listen", $0] } ?? []),
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
