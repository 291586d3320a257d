import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient

struct Logs: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the log of a job, of a worker, or of the broker.")

    @Argument(help: ArgumentHelp("A job (default: last).", valueName: "job")) var job: String?
    @Option(help: ArgumentHelp("A worker instead, by its instance.", valueName: "instance"))
    var worker: String?
    @Flag(help: "The broker's own log instead.") var broker = false
    @Option(help: "Only this attempt's.") var attempt: Int?
    @Flag(name: .shortAndLong, help: "Go on as it grows; Ctrl-C ends.") var follow = false
    @OptionGroup var common: CommonOptions

    mutating func validate() throws {
        let sources = [job != nil, worker != nil, broker].filter { $0 }.count
        if sources > 1 { throw ValidationError("give a job, --worker or --broker, not several") }
        if let attempt, attempt < 1 { throw ValidationError("attempts count from 1") }
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
        while true {
            let reply = try session.call(
                .logs, header, policy: RequestPolicy(waitsForBroker: follow))
            let bytes = reply.body("log") ?? []
            if !bytes.isEmpty { try StandardStreams.write(bytes) }
            isEmpty = isEmpty && bytes.isEmpty
            header["after"] = reply.header["next"] ?? header["after"]
            if !bytes.isEmpty { continue }
            if !follow || reply.header["complete"]?.bool == true {
                if isEmpty { session.note("the log is empty") }
                return
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
        try LocalLog.copy(path, follow: follow) { try StandardStreams.write($0) }
    }

    static func pause() throws {
        MonotonicSleep.wait(.milliseconds(300))
        if Interrupts.isInterrupted { throw ExitCode(ExitStatus.interrupted.rawValue) }
    }
}

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

/// An event on one line: when, what, about what, and the rest of its fields.
enum EventLine {
    static func text(_ event: JSONValue, style: TextStyle) -> String {
        var parts: [String] = []
        if let at = event["at_ms"]?.integer { parts.append(style.dim(LocalTime.clock(at))) }
        let type = TextTable.oneLine(event["type"]?.string ?? "?")
        parts.append(type + String(repeating: " ", count: max(0, 20 - type.count)))
        if let task = event["task"]?.string {
            parts.append(short(task))
        } else if let job = event["job"]?.string {
            parts.append(JobText.shortID(job))
        }
        if let worker = event["worker"]?.string { parts.append(TextTable.oneLine(worker)) }
        let shown: Set<String> = ["event", "type", "at_ms", "job", "task", "worker"]
        var rest = JSONObject()
        for entry in event.object?.entries ?? [] where !shown.contains(entry.key) {
            if let nested = entry.value.object {
                for inner in nested.entries { rest[inner.key] = inner.value }
            } else {
                rest[entry.key] = entry.value
            }
        }
        if let text = JobText.flat(.object(rest)), !text.isEmpty { parts.append(text) }
        return parts.joined(separator: "  ")
    }

    private static func short(_ task: String) -> String {
        guard let slash = task.lastIndex(of: "/") else { return JobText.shortID(task) }
        return JobText.shortID(String(task[..<slash])) + String(task[slash...])
    }
}

struct Workers: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Worker processes: list, scale, drain.",
        subcommands: [List.self, Scale.self, Drain.self], defaultSubcommand: List.self)

    struct List: SessionCommand {
        static let configuration = CommandConfiguration(abstract: "List workers and plugins.")
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            let reply = try session.call(.workers)
            if session.json { return try session.print(json: reply.header) }
            try session.print(
                WorkerText.text(
                    reply.header, style: session.style, width: session.terminal.outputWidth),
                terminator: "")
        }
    }

    struct Scale: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Set how many instances of a plugin run.")
        @Argument(help: "The plugin's name.") var name: String
        @Argument(help: "How many.") var instances: Int
        @OptionGroup var common: CommonOptions

        mutating func validate() throws {
            if instances < 0 { throw ValidationError("the number must be at least 0") }
        }

        func run(_ session: Session) throws {
            try NameCheck.check(name, what: "the plugin")
            let reply = try session.call(
                .scale, ["plugin": .string(name), "instances": .integer(Int64(instances))])
            if session.json { return try session.print(json: reply.header) }
            try session.print("\(name): \(HumanText.plural(instances, "instance"))")
        }
    }

    struct Drain: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let workers finish what they hold and take nothing new.")
        @Argument(help: "One worker's instance (default: all).") var instance: String?
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            var header = JSONObject()
            header["worker"] = instance.map { .string($0) }
            let reply = try session.call(.drain, header)
            if session.json { return try session.print(json: reply.header) }
            let names = (reply.header["draining"]?.array ?? []).compactMap(\.string)
            try session.print(
                names.isEmpty ? "nothing to drain" : "draining " + names.joined(separator: ", "))
        }
    }
}

/// Workers in words.
enum WorkerText {
    static func text(_ header: JSONValue, style: TextStyle, width: Int?) -> String {
        let workers = header["workers"]?.array ?? []
        var table = TextTable([
            ("WORKER", .left), ("STATE", .left), ("PID", .right), ("HELD", .right),
            ("MEMORY", .right), ("RESTARTS", .right), ("NUMERICS", .left), ("LAST EXIT", .left),
        ])
        for worker in workers {
            table.add([
                worker["instance"]?.string ?? "?", worker["state"]?.string ?? "?",
                worker["pid"]?.integer.map { "\($0)" } ?? "",
                worker["held"]?.integer.map(HumanText.count) ?? "",
                worker["rss_bytes"]?.integer.map(HumanText.bytes) ?? "",
                worker["restarts"]?.integer.map(HumanText.count) ?? "",
                worker["numerics"]?.string ?? "", worker["last_exit"]?.string ?? "",
            ])
        }
        var text = table.isEmpty ? "no workers\n" : table.rendered(style: style, width: width)
        for plugin in header["plugins"]?.array ?? [] {
            let name = TextTable.oneLine(plugin["name"]?.string ?? "?")
            if let message = plugin["error"]?["message"]?.string {
                text += "\nplugin \(name) cannot be used: \(TextTable.oneLine(message))\n"
            } else if plugin["instances"]?.integer == 0 {
                text += "\nplugin \(name) has no instances (loraq workers scale \(name) 1)\n"
            }
        }
        return text
    }
}
