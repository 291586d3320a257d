import Foundation
import JSONModel
import WireProtocol
import ZeroMQ

/// The broker's side of the dispatch and results sockets, for one worker process, step by step.
final class WorkerProbe {
    static let heartbeatMs = 100
    static let instance = "probe-1"

    let process: ProbedProcess
    let deadlineS: Double
    let plugin: WireName
    private let context: Context
    private var dispatch: Socket
    private var results: Socket
    /// Routing id of the worker; the newest.
    private var peer: [UInt8] = []
    private var waiting: [Message] = []
    private(set) var resultMessages: [Message] = []
    /// The session in force, which messages are checked against.
    var session = ""
    /// The first fault seen in any message, by rule.
    private(set) var faults: [(rule: Rule, why: String)] = []
    private var lastSequence = 0
    private(set) var lastBeat: BeatHeader?
    private(set) var beats = 0
    private(set) var credit: [String: Int] = [:]
    private(set) var saidBye = false
    /// Answers HELLOs as they come; nil: they wait for `next`. A worker that is slow to hear an answer says HELLO once more,
    /// and the newest is the one that counts.
    var onHello: ((Message) throws -> Void)?

    init(
        _ command: [String], folder: ProbeFolder, number: Int, plugin: WireName, deadlineS: Double
    ) throws {
        self.deadlineS = deadlineS
        self.plugin = plugin
        context = try Context()
        dispatch = try Socket(context, .router)
        results = try Socket(context, .pull)
        let ends = (folder.endpoint("dispatch\(number)"), folder.endpoint("results\(number)"))
        _ = try dispatch.bind(ends.0)
        _ = try results.bind(ends.1)
        process = try ProbedProcess(
            command,
            environment: [
                "LORAQ_DISPATCH": ends.0, "LORAQ_RESULTS": ends.1,
                "LORAQ_INSTANCE": Self.instance, "LORAQ_PLUGIN": plugin.text, "LORAQ_THREADS": "1",
                "LORAQ_BROKER_GRACE_MS": "60000",
            ], output: folder.url.appendingPathComponent("worker-\(number).log"))
    }

    // MARK: Receiving

    /// Reads what has come, for a moment.
    func pump() throws {
        if let frames = try dispatch.receive(within: .milliseconds(20)) {
            peer = frames.first ?? []
            take(Array(frames.dropFirst()), fromResults: false)
        }
        while let frames = try results.receive(within: .zero) { take(frames, fromResults: true) }
    }

    /// Reads all that has come.
    func drain() throws {
        while let frames = try dispatch.receive(within: .zero) {
            peer = frames.first ?? []
            take(Array(frames.dropFirst()), fromResults: false)
        }
        while let frames = try results.receive(within: .zero) { take(frames, fromResults: true) }
    }

    /// How long the last messages of a process that has ended may be on their way, in seconds.
    private static let afterEndS = 2.0

    /// Pumps until `condition` gives something, or the time is over.
    func until<T>(_ seconds: Double? = nil, _ condition: () throws -> T?) throws -> T? {
        let begun = Date()
        let end = begun.addingTimeInterval(seconds ?? deadlineS)
        repeat {
            if let value = try condition() { return value }
            try pump()
            if !process.isRunning, Date() > begun.addingTimeInterval(Self.afterEndS) {
                return try condition()
            }
        } while Date() < end
        return try condition()
    }

    /// The next message with this verb.
    func next(_ verb: Verb, within seconds: Double? = nil) throws -> Message? {
        try until(seconds) {
            guard let index = waiting.firstIndex(where: { $0.verb == verb }) else { return nil }
            return waiting.remove(at: index)
        }
    }

    private func take(_ frames: [[UInt8]], fromResults: Bool) {
        do {
            let message = try Message(frames: frames)
            try note(message, fromResults: fromResults)
        } catch {
            faults.append((fromResults ? WorkerRules.result : WorkerRules.hello, "\(error)"))
        }
    }

    private func note(_ message: Message, fromResults: Bool) throws {
        switch message.verb {
        case .result, .progress, .log, .chunk:
            guard fromResults else {
                throw WireError(.badFrame, "\(message.verb) came on the dispatch socket")
            }
            checkSequence(message)
            if message.verb == .result { resultMessages.append(message) }
        case .beat:
            let beat = try message.decode(BeatHeader.self)
            if beat.rssBytes <= 0 { fault(WorkerRules.beat, "rss_bytes is \(beat.rssBytes)") }
            checkSession(beat.session)
            guard beat.session == session else { return }
            checkProgress(beat)
            lastBeat = beat
            beats += 1
            try send(.beatAck, BeatAckHeader(epoch: 1))
        case .credit:
            let header = try message.decode(CreditHeader.self)
            checkSession(header.session)
            if header.session == session { credit = header.classes }
        case .bye: saidBye = true
        case .hello where onHello != nil: try onHello?(message)
        default: waiting.append(message)
        }
    }

    func fault(_ rule: Rule, _ why: String) { faults.append((rule, why)) }

    func firstFault(_ rule: Rule) -> String? { faults.first { $0.rule.name == rule.name }?.why }

    /// Sessions that were offered under an older HELLO: to use one is a fault.
    var wrongSessions: Set<String> = []

    private func checkSession(_ named: String) {
        guard wrongSessions.contains(named) else { return }
        fault(
            WorkerRules.staleWelcome,
            "it speaks under session \(named), which was the answer to an older HELLO")
    }

    private func checkSequence(_ message: Message) {
        guard message.verb != .chunk, message.header["session"]?.string == session else { return }
        let number = message.header["seq"]?.integer ?? 0
        if number != lastSequence + 1 {
            fault(
                WorkerRules.sequence,
                "\(message.verb) has seq \(number) after \(lastSequence) under one session")
        }
        lastSequence = number
    }

    private func checkProgress(_ beat: BeatHeader) {
        for held in beat.held {
            guard let before = lastBeat?.held.first(where: { $0.reference == held.reference }),
                held.progress < before.progress
            else { continue }
            fault(WorkerRules.beat, "the progress of \(held.task) went back")
        }
    }

    // MARK: Sending

    func send(
        _ verb: Verb, _ header: some Encodable, requestID: String? = nil,
        bodies: [Message.Body] = []
    ) throws {
        try send(Message(verb, header, requestID: requestID, bodies: bodies))
    }

    func send(_ message: Message) throws { try send(frames: message.frames()) }

    func send(frames: [[UInt8]]) throws {
        guard !peer.isEmpty else { return }
        _ = try dispatch.send([peer] + frames, within: .seconds(1))
    }

    /// Answers a HELLO. The session named becomes the one in force unless it is a wrong one.
    func welcome(_ request: Message, session: String, keep: [AttemptReference] = []) throws {
        if !wrongSessions.contains(session) {
            self.session = session
            lastSequence = 0
            lastBeat = nil
            credit = [:]
        }
        try send(
            .welcome,
            WorkerWelcome(
                epoch: 1, session: session, heartbeatMs: Self.heartbeatMs, leaseMs: 60_000,
                keep: keep
            ),
            requestID: request.requestID)
    }

    /// Answers a HELLO and all that come after it, each with a session of its own.
    func welcome(each request: Message, session: String, keep: [AttemptReference] = []) throws {
        var number = 1
        try welcome(request, session: session, keep: keep)
        onHello = { [unowned self] again in
            number += 1
            try welcome(again, session: "\(session)-\(number)", keep: keep)
        }
    }

    /// Forgets HELLOs that nobody answered; those that come wait for `next` again.
    func dropHellos() throws {
        try drain()
        onHello = nil
        waiting.removeAll { $0.verb == .hello }
    }

    /// Sends tasks; with lines as bodies where they have one.
    func send(tasks: [TaskEnvelope], lines: [[UInt8]], session: String? = nil) throws {
        var message = try Message(
            .task, TaskHeader(session: session ?? self.session, tasks: tasks),
            bodies: lines.map { Message.Body("line", $0) })
        message.header = Self.withUnknownField(message.header)
        try send(message)
    }

    /// A field of a later version, in the header and in each task.
    private static func withUnknownField(_ header: JSONValue) -> JSONValue {
        guard var object = header.object else { return header }
        let tasks = (object["tasks"]?.array ?? []).map { task -> JSONValue in
            guard var fields = task.object else { return task }
            fields["x_conformance"] = ["a": [1, .null]]
            return .object(fields)
        }
        object["tasks"] = .array(tasks)
        object["x_conformance"] = true
        return .object(object)
    }

    func acknowledge(_ references: [AttemptReference]) throws {
        try send(
            .resultAck,
            ResultAckHeader(
                results: references.map {
                    .init(task: $0.task, attempt: $0.attempt, status: .accepted)
                }))
    }

    /// Whether the process ended within the time; `nil` status while it runs.
    func exitStatus(within seconds: Double) throws -> Int32? {
        try until(seconds) { process.isRunning ? nil : process.status }
    }
}
