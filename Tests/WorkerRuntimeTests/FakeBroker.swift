import Glibc
import JSONModel
import LinuxSystem
import WireProtocol
import ZeroMQ

@testable import WorkerRuntime

/// The broker's end of the two sockets, driven step by step by a test.
final class FakeBroker {
    struct Timeout: Error, CustomStringConvertible {
        let description: String
    }

    let folder: String
    private let context: Context
    private let router: Socket
    private let pull: Socket
    /// The routing id of the worker that spoke last.
    private var peer: [UInt8] = []
    /// Messages that came while another was waited for.
    private var waiting: [Message] = []
    let session: String

    static let deadline = Duration.seconds(20)

    init(folder: String, session: String) throws {
        self.folder = folder
        self.session = session
        context = try Context()
        router = try Socket(context, .router)
        try router.bind("ipc://\(folder)/dispatch")
        pull = try Socket(context, .pull)
        try pull.bind("ipc://\(folder)/results")
    }

    static func makeFolder() throws -> String {
        var template = Array("/tmp/loraq-wr-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Timeout(description: "mkdtemp failed") }
        return String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    static func configuration(folder: String, capacity: Int = 8) -> WorkerConfiguration {
        WorkerConfiguration(
            dispatchEndpoint: "ipc://\(folder)/dispatch",
            resultsEndpoint: "ipc://\(folder)/results",
            instance: "test-1", plugin: name("test"), pluginVersion: "1", kinds: [name("echo")],
            numerics: "none", capacity: [name("slot"): capacity])
    }

    static func name(_ text: String) -> WireName { WireName(known: text) }

    // MARK: Dispatch

    func send(_ verb: Verb, _ header: some Encodable, bodies: [Message.Body] = []) throws {
        _ = try router.send([peer] + Message(verb, header, bodies: bodies).frames())
    }

    /// The next message with that verb; beats and credits that come first are put aside.
    func next(_ verb: Verb) throws -> Message {
        if let index = waiting.firstIndex(where: { $0.verb == verb }) {
            return waiting.remove(at: index)
        }
        let end = MonotonicTime.now() + Self.deadline
        while MonotonicTime.now() < end {
            guard let frames = try router.receive(within: .milliseconds(100)) else { continue }
            peer = frames[0]
            let message = try Message(frames: Array(frames.dropFirst()))
            if message.verb == verb { return message }
            if message.verb != .beat { waiting.append(message) }
        }
        throw Timeout(description: "no \(verb) came; waiting: \(waiting.map(\.verb))")
    }

    /// The next `CREDIT` that promises `total` of the class `slot`.
    func credit(of total: Int) throws {
        while true {
            let credit = try next(.credit).decode(CreditHeader.self)
            if credit.classes["slot"] == total { return }
        }
    }

    /// Answers the next `HELLO`.
    @discardableResult
    func welcome(heartbeatMs: Int = 20, keep: Bool = true) throws -> WorkerHello {
        let message = try next(.hello)
        let hello = try message.decode(WorkerHello.self)
        let holding = hello.holding.map(\.reference)
        let welcome = WorkerWelcome(
            epoch: 1, session: session, heartbeatMs: heartbeatMs, leaseMs: 60_000,
            keep: keep ? holding : [], drop: keep ? [] : holding)
        _ = try router.send([peer] + message.reply(.welcome, welcome).frames())
        return hello
    }

    func task(_ index: Int, attempt: Int = 1, text: String) throws -> AttemptReference {
        let reference = Self.reference(index, attempt: attempt)
        let envelope = TaskEnvelope(
            task: reference.task, attempt: attempt, lease: reference.lease,
            kind: Self.name("echo"), class: Self.name("slot"), spec: [:], line: index + 1,
            customID: "c\(index)", body: 0)
        let line: JSONValue = ["custom_id": .string("c\(index)"), "text": .string(text)]
        try send(
            .task, TaskHeader(session: session, tasks: [envelope]),
            bodies: [Message.Body("line", line.serialized())])
        return reference
    }

    static func reference(_ index: Int, attempt: Int = 1) -> AttemptReference {
        let job = JobID(timestampMs: 1_700_000_000_000, random: (1, 2))
        return AttemptReference(
            task: TaskID(job: job, index: index), attempt: attempt,
            lease: LeaseToken(high: UInt64(index), low: UInt64(attempt)))
    }

    func answer(_ request: Message, with error: ErrorObject) throws {
        _ = try router.send([peer] + request.reply(error: error).frames())
    }

    // MARK: Results

    /// The next message on the results socket with that verb.
    func nextResult(_ verb: Verb = .result) throws -> Message {
        let end = MonotonicTime.now() + Self.deadline
        while MonotonicTime.now() < end {
            guard let frames = try pull.receive(within: .milliseconds(100)) else { continue }
            let message = try Message(frames: frames)
            if message.verb == verb { return message }
        }
        throw Timeout(description: "no \(verb) came")
    }

    /// Results until `count` have come, by line number, with their bodies.
    func results(_ count: Int) throws -> [Int: (result: TaskResult, body: JSONValue?)] {
        var found: [Int: (result: TaskResult, body: JSONValue?)] = [:]
        while found.count < count {
            let message = try nextResult()
            for result in try message.decode(ResultHeader.self).results {
                let body = try result.body.map { try JSONValue.parse(message.bodies[$0].bytes) }
                found[result.task.index] = (result, body)
            }
        }
        return found
    }

    func acknowledge(_ references: [AttemptReference]) throws {
        try send(
            .resultAck,
            ResultAckHeader(
                results: references.map {
                    .init(task: $0.task, attempt: $0.attempt, status: .accepted)
                }
            ))
    }
}
