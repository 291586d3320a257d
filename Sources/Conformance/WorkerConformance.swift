import Foundation
import JSONModel
import LinuxSystem
import WireProtocol

/// Tries a worker program against the protocol: the kit is its broker.
public struct WorkerConformance {
    /// What the worker is given to do.
    public struct Work: Sendable {
        /// A kind that takes lines; nil: the first of its HELLO.
        public var kind: WireName?
        /// The resource class of `kind`; nil: the only one that it gives credit for.
        public var resourceClass: WireName?
        public var spec: JSONValue = .object(JSONObject())
        /// A line of that kind; `custom_id` is put in.
        public var line: JSONValue = ["text": "one two three"]
        /// A kind of one long task, for CANCEL and PREEMPT; nil: these are not tried.
        public var longKind: WireName?
        public var longClass: WireName?
        public var longSpec: JSONValue = .object(JSONObject())
        /// Seconds that anything may take.
        public var deadlineS = 30.0
        public var plugin = WireName(known: "probe")

        public init() {}
    }

    let command: [String]
    let work: Work
    var report = ConformanceReport()
    let folder: ProbeFolder

    public init(command: [String], work: Work) throws {
        self.command = command
        self.work = work
        folder = try ProbeFolder()
    }

    /// - Throws: What is wrong with the kit or its options; what is wrong with the worker is in the report.
    public mutating func run() throws -> ConformanceReport {
        try phase(1, Self.converse)
        let reached = !report.findings.contains { $0.verdict == .fail && $0.rule == "hello" }
        if reached {
            if work.longKind != nil {
                try phase(2, Self.stopRunning)
            } else {
                report.skip(
                    [WorkerRules.cancel, WorkerRules.preempt],
                    "they need a kind of one long task (--long-kind)")
            }
            try phase(3, Self.terminated)
            try phase(4, Self.refused)
        }
        report.skip(WorkerRules.all, "an earlier failure ended the conversation")
        return report
    }

    /// One process of the worker, and a conversation with it.
    private mutating func phase(
        _ number: Int, _ scenario: (inout WorkerConformance, WorkerProbe) throws -> Void
    ) throws {
        let probe = try WorkerProbe(
            command, folder: folder, number: number, plugin: work.plugin, deadlineS: work.deadlineS)
        defer { probe.process.kill() }
        do {
            try scenario(&self, probe)
        } catch let broken as Broken {
            report.note(broken.rule, broken.why)
        }
        for fault in probe.faults { report.note(fault.rule, fault.why) }
    }

    func expect<T>(_ value: T?, _ rule: Rule, _ why: @autoclosure () -> String) throws -> T {
        guard let value else { throw Broken(rule: rule, why: why()) }
        return value
    }

    func greeted(_ probe: WorkerProbe) throws -> Message {
        try expect(
            probe.next(.hello), WorkerRules.hello,
            "no HELLO: \(probe.process.present(after: probe.deadlineS)); \(probe.process.lastWords)"
        )
    }

    /// Answers HELLO and waits for credit.
    func opened(_ probe: WorkerProbe, session: String) throws {
        try probe.welcome(each: greeted(probe), session: session)
        _ = try expect(
            probe.until { probe.credit.isEmpty ? nil : true }, WorkerRules.credit,
            "no CREDIT under the session of its WELCOME")
    }

    // MARK: The long conversation

    private static func converse(_ kit: inout WorkerConformance, _ probe: WorkerProbe) throws {
        let hello = try kit.checkHello(probe)
        try kit.checkCreditAndBeats(probe)
        let work = try kit.resolved(hello, probe)
        try kit.checkRobust(probe, work)
        let tasks = try kit.checkResults(probe, work)
        try kit.checkSessionLost(probe, tasks)
        try kit.checkUnknownKind(probe, work)
        try kit.checkDrain(probe, work)
    }

    private mutating func checkHello(_ probe: WorkerProbe) throws -> WorkerHello {
        let first = try greeted(probe)
        let hello: WorkerHello
        do { hello = try first.decode(WorkerHello.self) } catch {
            throw Broken(rule: WorkerRules.hello, why: "\(error)")
        }
        var wrong: String?
        if hello.instance != WorkerProbe.instance || hello.plugin != probe.plugin {
            wrong =
                "it calls itself \(hello.instance) of \(hello.plugin), not by LORAQ_INSTANCE and LORAQ_PLUGIN"
        } else if hello.kinds.isEmpty {
            wrong = "it names no kinds"
        } else if !hello.holding.isEmpty {
            wrong = "a fresh process holds \(hello.holding.count) tasks"
        } else if first.requestID == nil {
            wrong = "it has no request_id"
        }
        report.note(WorkerRules.hello, wrong)
        let second = try expect(
            probe.next(.hello), WorkerRules.helloAgain,
            "no second HELLO within \(Int(probe.deadlineS)) s, though the first was not answered")
        report.note(
            WorkerRules.helloAgain,
            second.requestID == first.requestID
                ? "the second HELLO has the first one's request_id" : nil)
        probe.wrongSessions = ["stale"]
        try probe.welcome(first, session: "stale")
        try probe.welcome(each: second, session: "s-1")
        return hello
    }

    private mutating func checkCreditAndBeats(_ probe: WorkerProbe) throws {
        let gotCredit = try probe.until { () -> Bool? in
            if let why = probe.firstFault(WorkerRules.staleWelcome) {
                throw Broken(rule: WorkerRules.staleWelcome, why: why)
            }
            return probe.credit.isEmpty ? nil : true
        }
        _ = try expect(gotCredit, WorkerRules.credit, "no CREDIT under the session of its WELCOME")
        report.note(WorkerRules.staleWelcome, nil)
        let total = probe.credit.values.reduce(0, +)
        let badName = probe.credit.keys.first { WireName(text: $0) == nil }
        report.note(
            WorkerRules.credit,
            badName.map { "`\($0)` is no name of a class" }
                ?? (total < 1 || total > 256 ? "\(total) in all" : nil))
        let beats = try probe.until { probe.beats >= 3 ? true : nil }
        _ = try expect(
            beats, WorkerRules.beat,
            "\(probe.beats) BEATs in \(Int(probe.deadlineS)) s, with heartbeat_ms \(WorkerProbe.heartbeatMs)"
        )
        report.note(WorkerRules.beat, nil)
    }

    /// The work with kind and class filled in from what the worker says.
    private func resolved(_ hello: WorkerHello, _ probe: WorkerProbe) throws -> Work {
        var work = work
        let kind = work.kind ?? hello.kinds[0]
        guard hello.kinds.contains(kind) else {
            throw ConformanceError(
                "the worker has no kind \(kind); it has \(hello.kinds.map(\.text).joined(separator: ", "))"
            )
        }
        work.kind = kind
        if work.resourceClass == nil {
            guard probe.credit.count == 1, let only = probe.credit.keys.first else {
                throw ConformanceError(
                    "the worker has classes \(probe.credit.keys.sorted().joined(separator: ", ")): say which one \(kind) has (--class)"
                )
            }
            work.resourceClass = WireName(text: only)
        }
        return work
    }

    private mutating func checkRobust(_ probe: WorkerProbe, _ work: Work) throws {
        let foreign = task(0, work, hasLine: true)
        try probe.send(Message(verb: "X_CONFORMANCE"))
        try probe.send(frames: [Array("junk".utf8)])
        try probe.send(frames: [Array("LQP/1".utf8), Array("TASK".utf8), Array("{no json".utf8)])
        try probe.send(
            .cancel,
            StopHeader(tasks: [AttemptName(task: foreign.task, attempt: 1)], reason: "conformance"))
        try probe.send(
            .preempt,
            StopHeader(tasks: [AttemptName(task: foreign.task, attempt: 1)], reason: "conformance"))
        try probe.send(
            tasks: [envelope(foreign, work)], lines: [line(foreign, work)], session: "somebody-else"
        )
        try probe.drain()
        let before = probe.beats
        let lives = try probe.until { probe.beats >= before + 5 ? true : nil }
        report.note(
            WorkerRules.robust,
            lives == nil ? "its BEATs stopped; \(probe.process.lastWords)" : nil)
        let taken = probe.lastBeat?.held.isEmpty == false || !probe.resultMessages.isEmpty
        report.note(WorkerRules.foreignSession, taken ? "it took the task" : nil)
        guard lives != nil else { throw Broken(rule: WorkerRules.robust, why: "its BEATs stopped") }
    }

    /// Sends a few tasks and looks at the answers, none of which is acknowledged.
    private mutating func checkResults(_ probe: WorkerProbe, _ work: Work) throws
        -> [AttemptReference]
    {
        let room = probe.credit[work.resourceClass?.text ?? ""] ?? 0
        let foreign = task(0, work, hasLine: true)
        let given = (1...max(1, min(3, room))).map { task($0, work, hasLine: true) }
        var envelopes: [TaskEnvelope] = []
        for (index, reference) in given.enumerated() {
            var envelope = envelope(reference, work)
            envelope.body = index
            envelopes.append(envelope)
        }
        try probe.send(tasks: envelopes, lines: given.map { line($0, work) })
        let found = try expect(
            answers(probe, given), WorkerRules.result,
            "not every one of \(given.count) tasks was answered within \(Int(probe.deadlineS)) s; \(probe.process.lastWords)"
        )
        if found.contains(where: { $0.result.reference == foreign }) {
            report.note(WorkerRules.foreignSession, "it took the task")
            try probe.acknowledge([foreign])
        }
        report.note(
            WorkerRules.result,
            probe.firstFault(WorkerRules.result) ?? Self.repeated(found, given + [foreign]))
        report.note(WorkerRules.body, Self.bodyFault(found))
        report.note(WorkerRules.sequence, probe.firstFault(WorkerRules.sequence))
        func isHeld() -> Bool {
            Set(probe.lastBeat?.held.map(\.reference) ?? []).isSuperset(of: given)
        }
        _ = try probe.until { isHeld() ? true : nil }
        let before = probe.beats
        _ = try probe.until { probe.beats >= before + 3 ? true : nil }
        let count = probe.lastBeat?.held.count { given.contains($0.reference) } ?? 0
        report.note(
            WorkerRules.keeps,
            isHeld()
                ? nil : "its BEATs name \(count) of \(given.count) tasks that are not acknowledged")
        return given
    }

    struct Answer {
        var result: TaskResult
        var body: [UInt8]?
    }

    /// The answers of all these tasks; nil when some do not come.
    private func answers(_ probe: WorkerProbe, _ tasks: [AttemptReference]) throws -> [Answer]? {
        var unreadable: Broken?
        let all = try probe.until { () -> [Answer]? in
            do {
                let found = try Self.read(probe.resultMessages)
                return Set(found.map(\.result.reference)).isSuperset(of: tasks) ? found : nil
            } catch let broken as Broken {
                unreadable = broken
                return []
            }
        }
        if let unreadable { throw unreadable }
        return all
    }

    static func read(_ messages: [Message]) throws -> [Answer] {
        var found: [Answer] = []
        for message in messages {
            let header: ResultHeader
            do { header = try message.decode(ResultHeader.self) } catch {
                throw Broken(rule: WorkerRules.result, why: "\(error)")
            }
            for result in header.results {
                var body: [UInt8]?
                if let index = result.body {
                    guard message.bodies.indices.contains(index) else {
                        throw Broken(
                            rule: WorkerRules.result,
                            why: "body \(index) of a message with \(message.bodies.count) bodies")
                    }
                    body = message.bodies[index].bytes
                }
                found.append(Answer(result: result, body: body))
            }
        }
        return found
    }

    private static func repeated(_ found: [Answer], _ given: [AttemptReference]) -> String? {
        if let stranger = found.first(where: { !given.contains($0.result.reference) }) {
            return
                "it answers \(stranger.result.task) attempt \(stranger.result.attempt), which it was not given so"
        }
        let times = Dictionary(grouping: found, by: \.result.task).mapValues(\.count)
        return times.first { $0.value > 1 }.map { "it answers \($0.key) \($0.value) times at once" }
    }

    private static func bodyFault(_ found: [Answer]) -> String? {
        for answer in found {
            guard let body = answer.body else {
                if answer.result.outcome == .ok {
                    return "\(answer.result.task) is ok without a body"
                }
                continue
            }
            if body.count >= WireLimits.bodyBytes { return "it has \(body.count) bytes" }
            if body.contains(10) { return "it has a line break" }
            guard let object = (try? JSONValue.parse(body))?.object else {
                return "it is no JSON object"
            }
            if object["custom_id"]?.string != customID(answer.result.task.index) {
                return
                    "custom_id is \(object["custom_id"]?.text() ?? "missing"), not that of the line"
            }
        }
        return nil
    }

    /// The broker forgets the session: what has ended is held, said, sent again, and forgotten when it is taken.
    private mutating func checkSessionLost(_ probe: WorkerProbe, _ tasks: [AttemptReference]) throws
    {
        try probe.dropHellos()
        try probe.send(
            .error(ErrorObject(.unknownSession, .retryable, "the broker was started anew")))
        let again = try expect(
            probe.next(.hello), WorkerRules.sessionLost, "no HELLO after ERROR UNKNOWN_SESSION")
        let holding = (try? again.decode(WorkerHello.self))?.holding ?? []
        let finished = Set(holding.filter { $0.finished == true }.map(\.reference))
        report.note(
            WorkerRules.sessionLost,
            finished.isSuperset(of: tasks)
                ? nil
                : "its HELLO names \(finished.count) of \(tasks.count) ended tasks as held and finished"
        )
        let seen = probe.resultMessages.count
        try probe.welcome(each: again, session: "s-2", keep: tasks)
        let resent = try probe.until { () -> Bool? in
            let found = (try? Self.read(Array(probe.resultMessages.dropFirst(seen)))) ?? []
            return Set(found.map(\.result.reference)).isSuperset(of: tasks) ? true : nil
        }
        report.note(WorkerRules.resends, resent == nil ? "they did not come again" : nil)
        guard let last = tasks.last else { return }
        try probe.acknowledge(Array(tasks.dropLast()))
        try probe.send(.beatAck, BeatAckHeader(epoch: 1, drop: [last]))
        let forgotten = try probe.until { probe.lastBeat?.held.isEmpty == true ? true : nil }
        report.note(
            WorkerRules.forgets,
            forgotten == nil ? "\(probe.lastBeat?.held.count ?? 0) are still in its BEATs" : nil)
        let grown = try probe.until { () -> Bool? in
            probe.credit.values.reduce(0, +) > tasks.count ? true : nil
        }
        report.note(
            WorkerRules.creditGrows,
            grown == nil
                ? "under the new session its credit is \(probe.credit), with \(tasks.count) held at its begin"
                : nil)
    }

    private mutating func checkUnknownKind(_ probe: WorkerProbe, _ work: Work) throws {
        let reference = task(20, work, hasLine: true)
        var envelope = envelope(reference, work)
        envelope.kind = WireName(known: "no-such-kind")
        let seen = probe.resultMessages.count
        try probe.send(tasks: [envelope], lines: [line(reference, work)])
        let found = try probe.until { () -> Answer? in
            ((try? Self.read(Array(probe.resultMessages.dropFirst(seen)))) ?? [])
                .first { $0.result.reference == reference }
        }
        if let found {
            let isUser = found.result.outcome == .error && found.result.error?.class == .user
            let sort = found.result.error.map { " of class \($0.class.rawValue)" } ?? ""
            report.note(
                WorkerRules.unknownKind,
                isUser ? nil : "its outcome is \(found.result.outcome.rawValue)\(sort)")
            try probe.acknowledge([reference])
        } else {
            report.note(WorkerRules.unknownKind, "no answer; \(probe.process.lastWords)")
        }
    }

    private mutating func checkDrain(_ probe: WorkerProbe, _ work: Work) throws {
        let reference = task(30, work, hasLine: true)
        let seen = probe.resultMessages.count
        try probe.send(tasks: [envelope(reference, work)], lines: [line(reference, work)])
        try probe.send(Message(verb: .drain))
        let done = try probe.until { () -> Bool? in
            ((try? Self.read(Array(probe.resultMessages.dropFirst(seen)))) ?? [])
                .contains { $0.result.reference == reference } ? true : nil
        }
        guard done != nil else {
            return report.note(
                WorkerRules.drain, "it did not answer the task that it had when DRAIN came")
        }
        try probe.acknowledge([reference])
        report.note(WorkerRules.drain, try farewell(probe))
    }

    /// Why its end was not in order; nil if it was.
    func farewell(_ probe: WorkerProbe) throws -> String? {
        guard let status = try probe.exitStatus(within: probe.deadlineS) else {
            return "it still runs after \(Int(probe.deadlineS)) s"
        }
        _ = try probe.until { probe.saidBye ? true : nil }
        if !probe.saidBye { return "it ended with status \(status) without BYE" }
        return status == 0 ? nil : "it said BYE and ended with status \(status)"
    }

    // MARK: Tasks

    private static let job = JobID(timestampMs: WallClock.milliseconds(), random: (7, 7))

    private static func customID(_ index: Int) -> String { "conformance-\(index)" }

    func task(_ index: Int, _ work: Work, hasLine: Bool) -> AttemptReference {
        AttemptReference(
            task: TaskID(job: Self.job, index: index), attempt: 1,
            lease: LeaseToken(high: 0xC0FFEE, low: UInt64(index)))
    }

    func envelope(_ reference: AttemptReference, _ work: Work) -> TaskEnvelope {
        TaskEnvelope(
            task: reference.task, attempt: 1, lease: reference.lease,
            kind: work.kind ?? WireName(known: "none"),
            class: work.resourceClass ?? WireName(known: "none"),
            spec: work.spec, line: reference.task.index + 1,
            customID: Self.customID(reference.task.index), body: 0)
    }

    private func line(_ reference: AttemptReference, _ work: Work) -> [UInt8] {
        var object = work.line.object ?? JSONObject()
        object["custom_id"] = .string(Self.customID(reference.task.index))
        return JSONValue.object(object).serialized()
    }
}
