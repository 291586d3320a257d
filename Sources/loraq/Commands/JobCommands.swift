import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

struct Jobs: SessionCommand {
    static let configuration = CommandConfiguration(abstract: "List jobs, newest first.")

    @Option(help: "Only jobs in this state (queued, running, succeeded, failed, …).")
    var state: String?
    @Option(help: "Only jobs of this kind (infer, finetune, …).")
    var kind: String?
    @Option(help: "Only this tenant's jobs.")
    var tenant: String?
    @Option(help: "Only jobs with this label.")
    var label: String?
    @Option(name: .shortAndLong, help: "At most so many.")
    var limit = 20
    @Flag(name: .shortAndLong, help: "All of them.")
    var all = false
    @OptionGroup var common: CommonOptions

    mutating func validate() throws {
        if let state, JobState(rawValue: state) == nil {
            let words = JobState.allCases.map(\.rawValue)
            let likely = Suggestion.nearest(to: state, among: words)
            throw ValidationError(
                "unknown state `\(state)`" + (likely.map { "; did you mean `\($0)`?" } ?? "")
                    + " The states are: " + words.joined(separator: ", "))
        }
        if limit < 1 { throw ValidationError("--limit must be at least 1, not \(limit)") }
    }

    func run(_ session: Session) throws {
        var filter = JSONObject()
        filter["state"] = state.map { .string($0) }
        filter["kind"] = kind.map { .string($0) }
        filter["tenant"] = tenant.map { .string($0) }
        filter["label"] = label.map { .string($0) }
        let jobs = try session.client.list(filter: filter, limit: all ? nil : limit)
        if session.json {
            return try session.print(json: .object(["jobs": .array(jobs.map(\.json))]))
        }
        if jobs.isEmpty { return session.note("no jobs") }
        try session.print(
            JobText.table(
                jobs, nowMs: WallClock.milliseconds(), style: session.style,
                width: session.terminal.outputWidth), terminator: "")
        if !all, jobs.count == limit { session.note("(the newest \(limit); --all for all)") }
    }
}

struct Status: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show jobs in full: state, counts, progress, result, error.",
        discussion: """
            With --json: the job's object where one selector names one job, otherwise {"jobs": […]}.
            """)

    @Argument(help: ArgumentHelp("Jobs (default: last).", valueName: "job"))
    var jobs: [String] = ["last"]
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let found = try session.client.status(jobs)
        if session.json {
            if jobs.count == 1, jobs[0] != "all", let only = found.first, found.count == 1 {
                return try session.print(json: only.json)
            }
            return try session.print(json: .object(["jobs": .array(found.map(\.json))]))
        }
        if found.isEmpty { return session.note("no jobs") }
        let now = WallClock.milliseconds()
        let texts = found.map { JobText.detail($0, nowMs: now, style: session.style) }
        try session.print(texts.joined(separator: "\n"), terminator: "")
    }
}

struct Wait: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Wait until jobs have ended, and end with their outcome as exit code.",
        discussion: "`all` stands for the jobs that have not ended yet.")

    @Argument(help: ArgumentHelp("Jobs (default: last).", valueName: "job"))
    var jobs: [String] = ["last"]
    @Option(
        help: ArgumentHelp(
            "Give up waiting after this long (the jobs go on; exit code 4).", valueName: "seconds"))
    var timeout: Double?
    @Flag(name: .shortAndLong, help: "No progress.")
    var quiet = false
    @OptionGroup var common: CommonOptions

    mutating func validate() throws {
        if let timeout, !(timeout > 0 && timeout < 1e9) {
            throw ValidationError("--timeout must be above 0 seconds")
        }
    }

    func run(_ session: Session) throws {
        var found = try session.client.status(jobs)
        // `all` means those that are under way: what failed last week is no outcome of this wait.
        if jobs == ["all"] { found.removeAll(where: \.isFinal) }
        var options = WaitOptions()
        options.wait = true
        options.timeout = timeout
        options.quiet = quiet
        if found.contains(where: { !$0.isFinal }) {
            found = try JobWaiter(session: session, options: options).wait(for: found.map(\.id))
        }
        if session.json {
            if jobs.count == 1, jobs[0] != "all", let only = found.first, found.count == 1 {
                try session.print(json: only.json)
            } else {
                try session.print(json: .object(["jobs": .array(found.map(\.json))]))
            }
        } else {
            for job in found {
                try session.print("\(job.id)  \(session.style.state(job.state))\(Wait.remark(job))")
            }
        }
        try JobWaiter.finish(found)
    }

    /// What is worth saying behind the state.
    static func remark(_ job: JobSnapshot) -> String {
        if let error = job.error { return "  \(error.code): \(TextTable.oneLine(error.message))" }
        if job.lost > 0 {
            return "  \(HumanText.plural(job.lost, "line")) failed (`loraq errors \(job.id)`)"
        }
        return job.reason.map { "  \(TextTable.oneLine($0.message))" } ?? ""
    }
}

/// `cancel`, `hold` and `release` differ in their verb only.
private func change(
    _ verb: Verb, _ jobs: [String], reason: String? = nil, _ session: Session
) throws {
    var header: JSONObject = ["jobs": .array(jobs.map { .string($0) })]
    header["reason"] = reason.map { .string($0) }
    let reply = try session.call(verb, header)
    if session.json { return try session.print(json: reply.header) }
    let changed = reply.header["jobs"]?.array ?? []
    for job in changed {
        let state = job["state"]?.string ?? ""
        try session.print("\(job["job"]?.string ?? "?")  \(session.style.state(state))")
    }
    if changed.isEmpty { session.note("no jobs") }
}

struct Cancel: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "End jobs, queued or running; results that exist stay.")

    @Argument(help: ArgumentHelp("Jobs.", valueName: "job")) var jobs: [String]
    @Option(help: "Kept with the job.") var reason: String?
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws { try change(.cancel, jobs, reason: reason, session) }
}

struct Hold: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Keep jobs from starting; what runs goes on to its end.")

    @Argument(help: ArgumentHelp("Jobs.", valueName: "job")) var jobs: [String]
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws { try change(.hold, jobs, session) }
}

struct Release: SessionCommand {
    static let configuration = CommandConfiguration(abstract: "Let held jobs start.")

    @Argument(help: ArgumentHelp("Jobs.", valueName: "job")) var jobs: [String]
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws { try change(.release, jobs, session) }
}

struct Retry: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a job's failed tasks again.")

    @Argument(help: ArgumentHelp("A job.", valueName: "job")) var job: String
    @Flag(help: "All tasks, also those that succeeded.") var all = false
    @Option(help: "`any`: go on on workers that compute with other numerics.") var numerics: String?
    @OptionGroup var common: CommonOptions
    @OptionGroup var waiting: WaitOptions

    mutating func validate() throws {
        if let numerics, numerics != "any" {
            throw ValidationError("--numerics can only be `any`, not `\(numerics)`")
        }
    }

    func run(_ session: Session) throws {
        let id = try session.client.job(job).id
        var header: JSONObject = ["job": .string(id), "only": .string(all ? "all" : "failed")]
        header["numerics"] = numerics.map { .string($0) }
        let reply = try session.call(.retry, header, policy: .once)
        let count = reply.header["tasks"]?.integer ?? 0
        if !waiting.wait {
            if session.json { return try session.print(json: reply.header) }
            return try session.print(
                "\(id)  \(session.style.state(reply.header["state"]?.string ?? ""))  "
                    + "\(HumanText.plural(count, "task")) again")
        }
        session.note("\(HumanText.plural(count, "task")) again")
        let ended = try JobWaiter(session: session, options: waiting).wait(for: [id])
        for job in ended {
            if session.json {
                try session.print(json: job.json)
            } else {
                try session.print("\(job.id)  \(session.style.state(job.state))\(Wait.remark(job))")
            }
        }
        try JobWaiter.finish(ended)
    }
}

struct Explain: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say the one thing that a job waits for.")

    @Argument(help: ArgumentHelp("A job (default: last).", valueName: "job"))
    var job = "last"
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        let id = try session.client.job(job).id
        let reply = try session.call(.explain, ["job": .string(id)])
        if session.json { return try session.print(json: reply.header) }
        let reason = reply.header["reason"]
        var lines = FieldLines(style: session.style)
        lines.add("job", id)
        lines.add("state", session.style.state(reply.header["state"]?.string ?? ""))
        lines.add("reason", reason?["message"]?.string ?? "-")
        if let code = reason?["code"]?.string { lines.add("code", code) }
        for entry in reason?["details"]?.object?.entries ?? [] {
            lines.add(entry.key, JobText.scalar(entry.value))
        }
        try session.print(lines.text, terminator: "")
    }
}
