import Glibc
import JSONModel
import LinuxSystem
import Synchronization
import Testing
import WireProtocol
import ZeroMQ

@testable import Broker

/// A worker in a thread of the test, speaking the protocol over real sockets.
final class FakeWorker: Sendable {
    /// What it does with a task; nil: it keeps it and never answers.
    typealias Answer = @Sendable (TaskEnvelope, [UInt8]?) -> (TaskResult, [UInt8]?)?

    private let thread: SystemThread
    let taken: Counter
    let acknowledged: Counter

    final class Counter: Sendable {
        private let value = Mutex(0)
        var count: Int { value.withLock { $0 } }
        func add(_ number: Int = 1) { value.withLock { $0 += number } }
    }

    init(
        home: String, instance: String = "fake-1", kinds: [String] = ["infer", "finetune"],
        credit: [String: Int] = ["infer": 64, "finetune": 1], numerics: String = "test",
        answer: @escaping Answer
    ) throws {
        let paths = BrokerHome(root: home)
        let taken = Counter()
        let acknowledged = Counter()
        self.taken = taken
        self.acknowledged = acknowledged
        let stop = StopFlag()
        flag = stop
        thread = try SystemThread(name: instance) {
            do {
                try Session(
                    dispatch: paths.endpoint("dispatch"), results: paths.endpoint("results"),
                    instance: instance, kinds: kinds, credit: credit, numerics: numerics,
                    taken: taken, acknowledged: acknowledged, stop: stop, answer: answer
                ).run()
            } catch {
                Issue.record("fake worker: \(error)")
            }
        }
    }

    private let flag: StopFlag

    /// Ends the thread; what it held stays unanswered.
    func stop() {
        flag.set()
        thread.join()
    }

    final class StopFlag: Sendable {
        private let value = Mutex(false)
        var isSet: Bool { value.withLock { $0 } }
        func set() { value.withLock { $0 = true } }
    }

    private final class Session {
        let context: Context
        let dispatch: Socket
        let results: Socket
        let hello: WireProtocol.WorkerHello
        let credit: [String: Int]
        let taken: Counter
        let acknowledged: Counter
        let stop: StopFlag
        let answer: Answer
        var session = ""
        var sequence = 0
        var total: [String: Int]
        var held: [AttemptReference: Int] = [:]
        /// Results without their acknowledgement, as frames.
        var spool: [AttemptReference: (TaskResult, [UInt8]?)] = [:]

        init(
            dispatch: String, results: String, instance: String, kinds: [String],
            credit: [String: Int], numerics: String, taken: Counter, acknowledged: Counter,
            stop: StopFlag, answer: @escaping Answer
        ) throws {
            context = try Context()
            self.dispatch = try Socket(context, .dealer)
            self.results = try Socket(context, .push)
            try self.dispatch.connect(dispatch)
            try self.results.connect(results)
            hello = WireProtocol.WorkerHello(
                instance: instance, plugin: try WireName(checking: "fake"), pluginVersion: "1",
                pid: Int(getpid()), kinds: try kinds.map { try WireName(checking: $0) },
                numerics: numerics)
            self.credit = credit
            total = credit
            self.taken = taken
            self.acknowledged = acknowledged
            self.stop = stop
            self.answer = answer
        }

        func run() throws {
            try sayHello()
            var lastBeat = MonotonicTime.now()
            while !stop.isSet {
                if let frames = try dispatch.receive(within: .milliseconds(20)) {
                    try take(Message(frames: frames))
                }
                if !session.isEmpty, MonotonicTime.now() - lastBeat > .milliseconds(100) {
                    lastBeat = .now()
                    try send(
                        .beat,
                        BeatHeader(
                            session: session,
                            held: held.map { BeatHeader.Held($0.key, progress: $0.value) },
                            rssBytes: 1))
                }
            }
        }

        private func send(_ verb: Verb, _ header: some Encodable) throws {
            _ = try dispatch.send(try Message(verb, header).frames(), within: .seconds(5))
        }

        private func sayHello() throws {
            session = ""
            var hello = hello
            hello.holding = (Array(held.keys) + Array(spool.keys)).map { HoldingEntry($0) }
            try send(.hello, hello)
        }

        private func take(_ message: Message) throws {
            switch message.verb {
            case .welcome:
                let welcome = try message.decode(WorkerWelcome.self)
                session = welcome.session
                sequence = 0
                for dropped in welcome.drop {
                    held[dropped] = nil
                    spool[dropped] = nil
                }
                total = credit
                try send(.credit, CreditHeader(session: session, classes: total))
                for (result, body) in spool.values { try push(result, body) }
            case .task:
                for task in try message.decode(TaskHeader.self).tasks {
                    taken.add()
                    let line = task.body.map { message.bodies[$0].bytes }
                    guard let (result, body) = answer(task, line) else {
                        held[task.reference] = 1
                        continue
                    }
                    spool[task.reference] = (result, body)
                    try push(result, body)
                    total[task.class.text, default: 0] += 1
                }
                try send(.credit, CreditHeader(session: session, classes: total))
            case .resultAck:
                for item in try message.decode(ResultAckHeader.self).results {
                    acknowledged.add()
                    spool = spool.filter { $0.key.task != item.task }
                }
            case .cancel:
                for name in try message.decode(StopHeader.self).tasks {
                    guard let key = held.keys.first(where: { $0.task == name.task }) else {
                        continue
                    }
                    held[key] = nil
                    try push(TaskResult(key, outcome: .cancelled), nil)
                }
            case .error:
                try sayHello()
            default: break
            }
        }

        private func push(_ result: TaskResult, _ body: [UInt8]?) throws {
            sequence += 1
            var result = result
            result.body = body == nil ? nil : 0
            let message = try Message(
                .result, ResultHeader(session: session, seq: sequence, results: [result]),
                bodies: body.map { [Message.Body("result", $0)] } ?? [])
            _ = try results.send(message.frames(), within: .seconds(5))
        }
    }
}

/// A client of the test: requests over a DEALER.
final class TestClient {
    private let context: Context
    let socket: Socket
    private var number = 0

    init(home: String) throws {
        context = try Context()
        socket = try Socket(context, .dealer)
        try socket.connect(BrokerHome(root: home).endpoint("control"))
    }

    /// Sends a request and waits for its answer.
    func call(
        _ verb: Verb, _ header: some Encodable, bodies: [Message.Body] = []
    ) throws -> Message {
        number += 1
        let id = "r\(number)"
        let message = try Message(verb, header, requestID: id, bodies: bodies)
        _ = try socket.send(message.frames(), within: .seconds(20))
        while true {
            guard let frames = try socket.receive(within: .seconds(20)) else {
                throw WireError(.timeout, "no answer to \(verb)")
            }
            let reply = try Message(frames: frames)
            if reply.requestID == id { return reply }
        }
    }

    func get<Reply: Decodable>(
        _ type: Reply.Type, _ verb: Verb, _ header: some Encodable, bodies: [Message.Body] = []
    ) throws -> Reply {
        let reply = try call(verb, header, bodies: bodies)
        if reply.verb == .error { throw try reply.decodeError() }
        return try reply.decode(type)
    }

    func job(_ id: WireProtocol.JobID) throws -> JobObject {
        let reply = try get(JobsReply.self, .status, SelectRequest(jobs: [id.text]))
        guard let job = reply.jobs.first else { throw WireError(.unknownJob, id.text) }
        return job
    }

    /// Asks until a job is as wanted. Each ask waits for the broker, so nothing spins.
    func wait(
        for id: WireProtocol.JobID, until isWanted: (JobObject) -> Bool = { $0.state.isFinal }
    ) throws -> JobObject {
        let deadline = MonotonicTime.now() + .seconds(60)
        while true {
            let job = try job(id)
            if isWanted(job) { return job }
            guard MonotonicTime.now() < deadline else {
                throw WireError(.timeout, "\(id) stays \(job.state), counts \(job.counts)")
            }
            _ = try get(PingReply.self, .ping, EmptyHeader())
        }
    }

    func lines(
        _ id: WireProtocol.JobID, _ stream: ResultStream = .results,
        order: FetchRequest.Order = .completion, limit: Int = 1_000
    ) throws -> [String] {
        var lines: [String] = []
        var after: String?
        while true {
            let message = try call(
                .fetch,
                FetchRequest(
                    job: id.text, stream: stream, order: order, after: after, limit: limit))
            if message.verb == .error { throw try message.decodeError() }
            let reply = try message.decode(FetchReply.self)
            let text = String(decoding: message.body("lines") ?? [], as: UTF8.self)
            let page = text.split(separator: "\n").map(String.init)
            guard page.count == reply.count else {
                throw WireError(.badFrame, "\(page.count) lines, but a count of \(reply.count)")
            }
            lines += page
            after = reply.next
            if reply.complete || page.isEmpty { return lines }
        }
    }
}
