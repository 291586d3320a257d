import ArgumentParser
import Broker
import BrokerCore
import Foundation
import Glibc
import LinuxSystem
import Logging

/// The broker as a process of its own.
@main
struct Loraqd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "loraqd",
        abstract: "The loraq broker: queues jobs durably and hands them to workers.",
        discussion: """
            loraqd stays in the foreground and logs to standard error; `loraq up`
            starts it in the background. Once its sockets are bound it writes the
            one line `ready` to standard output. All its state lies under its home
            folder: the queue (jobs.sqlite), uploads (blobs/), models and adapters,
            results (runs/), worker logs (logs/), sockets (run/). Kill it
            at any time and start it again: every acknowledged job goes on, and
            workers that still run are taken over, not started twice.

            PLUGINS
              A worker plugin is a folder with a worker.json. Plugins are looked for
              in <home>/workers, then in each --workers folder, or without that
              option in ../share/loraq/workers beside the program's folder. Of two
              of one name the first is taken.

            SIGNALS
              SIGTERM, SIGINT  end in order: workers are asked to end, and killed
                               after 10 seconds
              a second one     end at once; workers go on, and a new broker takes
                               them over

            ENVIRONMENT
              LORAQ_HOME       home folder, unless --home is given
              PATH, HOME, LANG, LC_ALL, TZ, TMPDIR, OPENBLAS_CORETYPE,
              OPENBLAS_L2_SIZE, LORAQ_ISA, LORAQ_BROKER_GRACE_MS
                               passed on to workers; nothing else is

            EXIT STATUS
              0   ended in order
              1   could not start, or failed
              3   another broker runs for this home
              64  wrong arguments
            """,
        version: BrokerVersion.current)

    @Option(
        help: ArgumentHelp(
            "The folder that holds everything (default: $LORAQ_HOME, else ~/.local/share/loraq).",
            valueName: "folder"))
    var home: String?

    @Option(
        help: ArgumentHelp(
            "Look for worker plugins in this folder (repeatable).", valueName: "folder"))
    var workers: [String] = []

    @Option(
        help: ArgumentHelp(
            "Take clients from other machines here too, by CURVE: of those that `loraq keys` has let in. Events are on the port after it.",
            valueName: "address:port"))
    var listen: String?

    @Flag(help: "Start no workers; those that are started by hand may connect.")
    var noWorkers = false

    @Flag(help: "Stay in the foreground. The norm, and accepted for clarity.")
    var foreground = false

    @Option(
        help: ArgumentHelp(
            "What to log: trace, debug, info, notice, warning, error or critical.",
            valueName: "level"))
    var logLevel = "info"

    @Option(
        help: ArgumentHelp("Keep ended jobs, their results and events so long.", valueName: "days"))
    var retentionDays = 90

    @Option(
        help: ArgumentHelp(
            "Memory that workers and tasks with a stated need may use together, in MiB (default: 80 % of the machine's).",
            valueName: "mebibytes"))
    var memory: Int?

    @Option(
        help: ArgumentHelp(
            "Another value for one of the limits in docs/operations.md (repeatable).",
            valueName: "name=number"))
    var limit: [String] = []

    @Option(
        help: ArgumentHelp(
            "Workers beat at this interval.", valueName: "milliseconds", visibility: .hidden))
    var heartbeatMs = 1_000

    @Option(
        help: ArgumentHelp(
            "A worker that is silent for so long loses what it holds.", valueName: "milliseconds",
            visibility: .hidden))
    var leaseMs = 10_000

    func validate() throws {
        guard Logger.Level(rawValue: logLevel) != nil else {
            throw ValidationError("--log-level: there is no level `\(logLevel)`")
        }
        guard (1...36_500).contains(retentionDays) else {
            throw ValidationError("--retention-days must be 1 to 36500")
        }
        if let listen, ListenAddress(text: listen) == nil {
            throw ValidationError(
                "--listen must be ADDRESS:PORT, like 0.0.0.0:7420, not `\(listen)`")
        }
        _ = try limits()
        if home?.isEmpty == true { throw ValidationError("--home must name a folder") }
        if let memory, !(1...1 << 30).contains(memory) {
            throw ValidationError("--memory must be 1 to \(1 << 30) MiB")
        }
        guard (10...3_600_000).contains(heartbeatMs) else {
            throw ValidationError("--heartbeat-ms must be 10 to 3600000")
        }
        guard (2 * heartbeatMs...86_400_000).contains(leaseMs) else {
            throw ValidationError(
                "--lease-ms must be at least twice --heartbeat-ms, and at most 86400000")
        }
        for folder in workers where !FilePath.isDirectory(folder) {
            throw ValidationError("--workers: there is no folder \(folder)")
        }
    }

    func run() throws {
        let log = PlainLogHandler.logger(level: Logger.Level(rawValue: logLevel) ?? .info)
        try Failpoint.arm(ProcessInfo.processInfo.environment[Failpoint.variable])
        let signals = ProcessSettings.apply(log)
        let server: BrokerServer
        do {
            server = try BrokerServer(configuration: try brokerConfiguration(), log: log)
        } catch let error as BrokerStartError {
            log.critical("\(error)")
            throw ExitCode(error.code == .alreadyRunning ? 3 : 1)
        }
        try FileHandle.standardOutput.write(contentsOf: Data("ready\n".utf8))
        log.notice("loraqd \(BrokerVersion.current) is ready")
        try signals.watch { count in
            if count > 1 {
                log.warning("a second signal: ending at once")
                _exit(1)
            }
            server.stop()
        }
        server.waitUntilStopped()
    }

    private func brokerConfiguration() throws -> BrokerConfiguration {
        let environment = ProcessInfo.processInfo.environment
        let program = FilePath.parent(of: ProcessSettings.ownPath())
        var configuration = BrokerConfiguration(
            home: try homeFolder(environment), programDirectory: program, environment: environment)
        configuration.workerFolders =
            workers.isEmpty
            ? [FilePath.parent(of: program) + "/share/loraq/workers"]
            : workers.map(FilePath.absolute)
        configuration.startsWorkers = !noWorkers
        configuration.listen = listen.flatMap(ListenAddress.init(text:))
        configuration.retentionDays = retentionDays
        configuration.limits = try limits()
        configuration.limits.memoryBudget =
            memory.map { $0 << 20 } ?? HostResources.memoryBytes() / 5 * 4
        configuration.limits.heartbeatMilliseconds = heartbeatMs
        configuration.limits.leaseMilliseconds = leaseMs
        return configuration
    }

    private func limits() throws -> Limits {
        var limits = Limits()
        for word in limit {
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, let value = Int(parts[1]),
                limits.set(String(parts[0]), to: value)
            else {
                throw ValidationError(
                    "--limit \(word): it must be NAME=NUMBER with a number from 1 to \(Limits.largest) and one of the names "
                        + Limits.settableNames.joined(separator: ", "))
            }
        }
        return limits
    }

    private func homeFolder(_ environment: [String: String]) throws -> String {
        if let chosen = home ?? environment["LORAQ_HOME"], !chosen.isEmpty {
            return FilePath.absolute(chosen)
        }
        guard let user = environment["HOME"], !user.isEmpty else {
            throw ValidationError("neither LORAQ_HOME nor HOME is set; give --home FOLDER")
        }
        return FilePath.absolute(user + "/.local/share/loraq")
    }
}
