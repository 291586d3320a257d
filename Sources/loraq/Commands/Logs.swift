import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

struct Logs: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the log of a job, of a worker, or of the broker.",
        discussion:
            "With --json each line is an object: message, and for a job at_ms, level and worker.")

    @Argument(help: ArgumentHelp("A job (default: last).", valueName: "job")) var job: String?
    @Option(help: ArgumentHelp("A worker instead, by its instance.", valueName: "instance"))
    var worker: String?
    @Flag(help: "The broker's own log instead.") var broker = false
    @Option(
        parsing: .unconditional, help: "Only this attempt's.",
        transform: Quantity.whole(1...1_000_000))
    var attempt: Int?
    @Flag(name: .shortAndLong, help: "Go on as it grows; Ctrl-C ends.") var follow = false
    @OptionGroup var common: CommonOptions

    mutating func validate() throws {
        let sources = [job != nil, worker != nil, broker].filter { $0 }.count
        if sources > 1 { throw ValidationError("give a job, --worker or --broker, not several") }
        if attempt != nil, worker != nil || broker {
            throw ValidationError("--attempt belongs to a job")
        }
    }

    func run(_ session: Session) throws {
        if broker { return try brokerLog(session) }
        var header = JSONObject()
        if let worker {
            header["worker"] = .string(worker)
        } else {
            header["job"] = .string(try session.client.job(job ?? "last").id)
        }
        header["attempt"] = attempt.map { .integer(Int64($0)) }
        var isEmpty = true
        var printer = LogPrinter(session, isOfJob: worker == nil)
        while true {
            let reply = try session.call(
                .logs, header, policy: RequestPolicy(waitsForBroker: follow))
            let bytes = reply.body("log") ?? []
            try printer.add(bytes)
            isEmpty = isEmpty && bytes.isEmpty
            header["after"] = reply.header["next"] ?? header["after"]
            if !bytes.isEmpty { continue }
            if !follow || reply.header["complete"]?.bool == true {
                if isEmpty { session.note("the log is empty") }
                return try printer.finish()
            }
            try Logs.pause()
        }
    }

    /// The broker's log is a file of this user's, and useful above all when no broker answers.
    private func brokerLog(_ session: Session) throws {
        let path = session.home.brokerLog
        guard FilePath.exists(path) else {
            throw ToolError(
                .failure, "there is no \(path)",
                hint: "only a broker that was started by `loraq up` logs there")
        }
        var printer = LogPrinter(session, isOfJob: false)
        try LocalLog.copy(path, follow: follow) { try printer.add($0) }
        try printer.finish()
    }

    static func pause() throws {
        MonotonicSleep.wait(.milliseconds(300))
        if Interrupts.isInterrupted { throw ExitCode(ExitStatus.interrupted.rawValue) }
    }
}
