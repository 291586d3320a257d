import Foundation
import JSONModel
import LinuxSystem
import WireProtocol
import ZeroMQ

/// A broker of the kit's own for one client process: it accepts jobs and answers their lines at once, in small pages.
final class ClientProbe {
    struct Job {
        var kind: String
        var answers: [JSONValue]
        var lookups = 0
    }

    let process: ProbedProcess
    private let context: Context
    private var control: Socket
    private var sinks: [String: Socket.Holder] = [:]
    private let refuses: Bool
    private let answer: JSONValue
    private(set) var faults: [(rule: Rule, why: String)] = []
    private(set) var jobs: [String: Job] = [:]
    private(set) var order: [String] = []
    private var blobs: [String: [UInt8]] = [:]
    private var seenRequests: [String: [[UInt8]]] = [:]
    /// The SUBMIT that got no answer.
    private(set) var withheld: String?
    private(set) var resent = false
    /// SUBMITs that came, whatever was in them.
    private(set) var submits = 0
    private(set) var uploads = 0
    private(set) var fetched: [String: (given: Set<String>, complete: Bool)] = [:]
    private(set) var pushed = false

    /// - Parameters:
    ///   - refuses: Answers each SUBMIT with an error of class user.
    ///   - answer: Put into each answer of a kind that is not `infer`.
    init(
        _ command: [String], folder: ProbeFolder, number: Int, refuses: Bool, answer: JSONValue
    ) throws {
        self.refuses = refuses
        self.answer = answer
        context = try Context()
        control = try Socket(context, .router)
        _ = try control.bind(folder.endpoint("control"))
        process = try ProbedProcess(
            command, environment: ["LORAQ_HOME": folder.url.path],
            output: folder.url.appendingPathComponent("client-\(number).log"))
    }

    private func fault(_ rule: Rule, _ why: String) { faults.append((rule, why)) }

    /// Serves until the client ends, at most so long.
    func serve(seconds: Double) throws {
        let end = Date().addingTimeInterval(seconds)
        while process.isRunning, Date() < end {
            if let frames = try control.receive(within: .milliseconds(20)) { try take(frames) }
        }
        while let frames = try control.receive(within: .zero) { try take(frames) }
    }

    private func take(_ frames: [[UInt8]]) throws {
        guard let peer = frames.first else { return }
        let rest = Array(frames.dropFirst())
        let request: Message
        do {
            request = try Message(frames: rest)
            if request.verb == .submit || request.verb == .submitBatch { submits += 1 }
            try Self.check(request)
        } catch {
            let isID = error.key.hasSuffix("id") && error.key != "request_id"
            fault(isID ? ClientRules.jobID : ClientRules.message, "\(error)")
            return try send(
                Message.error(error.errorObject, requestID: error.requestID), to: peer, rest)
        }
        note(request, rest)
        let isSubmit = request.verb == .submit || request.verb == .submitBatch
        if isSubmit, !refuses, withheld == nil {
            // Lost on the way: the client must send it again.
            withheld = request.requestID ?? ""
            return
        }
        if isSubmit, let withheld, !resent {
            resent = request.requestID == withheld
            if !resent {
                fault(
                    ClientRules.resends,
                    "after no answer it sent another request (request_id \(request.requestID ?? "none"))"
                )
                self.withheld = nil
            }
        }
        let reply = try reply(to: request)
        if isSubmit {
            // An answer to nothing, and the right one twice.
            try send(
                Message(verb: .ok, header: ["job": "nonsense"], requestID: "not-yours"), to: peer,
                rest)
            try send(reply, to: peer, rest)
        }
        try send(reply, to: peer, rest)
    }

    /// A repeated `request_id` must belong to the same request.
    private func note(_ request: Message, _ frames: [[UInt8]]) {
        guard let id = request.requestID else {
            return fault(ClientRules.requestID, "\(request.verb) has none")
        }
        if let before = seenRequests[id], before != frames {
            fault(
                id == withheld && request.verb == .submit
                    ? ClientRules.resends : ClientRules.requestID,
                "\(request.verb) has the request_id of another request")
        }
        if seenRequests.count > 10_000 { seenRequests = [:] }
        seenRequests[id] = frames
    }

    private func send(_ message: Message, to peer: [UInt8], _ request: [[UInt8]]) throws {
        var message = message
        message.hasDelimiter = request.first?.isEmpty ?? false
        if message.verb == .ok, var header = message.header.object {
            header["x_conformance"] = ["later": [true, .null]]
            message.header = .object(header)
        }
        _ = try control.send([peer] + message.frames(), within: .seconds(1))
    }

    /// Whether the header has the fields of its verb.
    private static func check(_ request: Message) throws(WireError) {
        switch request.verb {
        case .hello: _ = try request.decode(ClientHello.self)
        case .submit: _ = try request.decode(SubmitRequest.self)
        case .submitBatch: _ = try request.decode(SubmitBatchRequest.self)
        case .put: _ = try request.decode(PutRequest.self)
        case .status, .hold, .release: _ = try request.decode(SelectRequest.self)
        case .list: _ = try request.decode(ListRequest.self)
        case .cancel: _ = try request.decode(CancelRequest.self)
        case .retry: _ = try request.decode(RetryRequest.self)
        case .explain: _ = try request.decode(ExplainRequest.self)
        case .fetch: _ = try request.decode(FetchRequest.self)
        case .verify: _ = try request.decode(VerifyRequest.self)
        case .events: _ = try request.decode(EventsRequest.self)
        case .artifacts: _ = try request.decode(ArtifactsRequest.self)
        case .get: _ = try request.decode(GetRequest.self)
        case .input: _ = try request.decode(InputRequest.self)
        case .logs: _ = try request.decode(LogsRequest.self)
        case .attach: _ = try request.decode(AttachRequest.self)
        case .detach: _ = try request.decode(DetachRequest.self)
        case .ping, .workers, .backup, .tag, .remove, .scale, .drain: break
        default:
            throw WireError(.unknownVerb, "\(request.verb) is no request of LQP/1 on this socket")
        }
    }

    // MARK: Answers

    private func reply(to request: Message) throws -> Message {
        func ok(_ header: JSONValue, bodies: [Message.Body] = []) -> Message {
            Message(verb: .ok, header: header, requestID: request.requestID, bodies: bodies)
        }
        let header = request.header
        switch request.verb {
        case .hello:
            return try request.reply(
                .welcome, ClientWelcome(brokerVersion: "conformance", epoch: 1, heartbeatMs: 1000))
        case .ping:
            return ok([
                "epoch": 1, "broker_version": "conformance", "uptime_ms": 1,
                "jobs": .object(JSONObject()),
            ])
        case .put: return try put(request)
        case .submit:
            let item = submitted(header["job"] ?? .null, request)
            if let error = item["error"] {
                return Message(verb: .error, header: ["error": error], requestID: request.requestID)
            }
            return ok(item)
        case .submitBatch:
            return ok([
                "results": .array((header["jobs"]?.array ?? []).map { submitted($0, request) })
            ])
        case .status, .list: return ok(["jobs": .array(order.map(jobObject))])
        case .explain:
            return ok([
                "job": .string(order.last ?? ""), "state": "running",
                "reason": ["code": "RUNNING", "message": "it runs"],
            ])
        case .fetch: return fetch(header, ok)
        case .attach: return try attach(header, ok)
        case .detach: return ok(["sink": header["sink"] ?? "s", "sent": 0, "dropped": 0])
        case .events: return ok(["events": .array([]), "next": "0", "oldest": "0"])
        case .workers: return ok(["workers": .array([]), "plugins": .array([])])
        default:
            return request.reply(
                error: ErrorObject(.badState, .user, "the kit's broker does not do \(request.verb)")
            )
        }
    }

    private func put(_ request: Message) throws -> Message {
        let header = try request.decode(PutRequest.self)
        let digest = header.digest.text
        var held = blobs[digest] ?? []
        let piece = request.body("piece") ?? []
        if !piece.isEmpty {
            uploads += 1
            if header.offset != held.count {
                fault(
                    ClientRules.upload,
                    "a piece at \(header.offset), where \(held.count) was asked for")
            } else {
                held += piece
            }
        }
        let isComplete = held.count >= header.bytesTotal
        if isComplete, ContentDigest(of: held).text != digest {
            fault(ClientRules.upload, "the bytes have not the digest that they are sent under")
        }
        blobs[digest] = held
        return Message(
            verb: .ok,
            header: [
                "digest": .string(digest), "received": .integer(Int64(held.count)),
                "complete": .bool(isComplete),
            ], requestID: request.requestID)
    }

    private func submitted(_ job: JSONValue, _ request: Message) -> JSONValue {
        let id = job["id"]?.string ?? ""
        if refuses {
            return [
                "job": .string(id),
                "error": [
                    "code": "INVALID_SPEC", "class": "user",
                    "message": "refused by the conformance kit",
                ],
            ]
        }
        checkID(id)
        let isKnown = jobs[id] != nil
        if !isKnown {
            order.append(id)
            jobs[id] = Job(kind: job["kind"]?.string ?? "", answers: answers(job, id, request))
        }
        return ["job": .string(id), "state": "queued", "duplicate": .bool(isKnown)]
    }

    private func checkID(_ text: String) {
        guard let id = JobID(text: text) else {
            return fault(ClientRules.jobID, "`\(text)` is no UUIDv7 in lower case")
        }
        let age = abs(WallClock.milliseconds() - Int(id.high >> 16))
        if age > 3_600_000 { fault(ClientRules.jobID, "its time is \(age / 1000) s away from now") }
    }

    /// An answer for each line of the job.
    private func answers(_ job: JSONValue, _ id: String, _ request: Message) -> [JSONValue] {
        guard
            let input = (job["inputs"]?.array ?? []).first(where: { $0["name"]?.string == "lines" })
        else { return [] }
        let bytes =
            input["body"]?.string.flatMap(request.body) ?? input["blob"]?.string.flatMap {
                blobs[$0]
            } ?? []
        let lines = bytes.split(separator: 10).compactMap { try? JSONValue.parse(Array($0)) }
        return lines.enumerated().map { index, line in
            var object = JSONObject([
                (key: "id", value: .string("\(id)/\(index)")),
                (key: "custom_id", value: line["custom_id"] ?? .null),
            ])
            if job["kind"]?.string == "infer" {
                let choice: JSONValue = [
                    "index": 0, "text": "conformance",
                    "message": ["role": "assistant", "content": "conformance"],
                    "finish_reason": "stop",
                ]
                object["response"] = [
                    "status_code": 200, "request_id": "conformance",
                    "body": ["model": "m@1", "choices": [choice]],
                ]
                object["error"] = .null
            } else {
                for entry in answer.object?.entries ?? [] { object[entry.key] = entry.value }
            }
            return .object(object)
        }
    }

    private func jobObject(_ id: String) -> JSONValue {
        jobs[id]?.lookups += 1
        let isDone = (jobs[id]?.lookups ?? 0) > 1
        let total = max(1, jobs[id]?.answers.count ?? 1)
        let counts: JSONValue = [
            "total": .integer(Int64(total)), "ready": 0,
            "leased": .integer(isDone ? 0 : Int64(total)), "backoff": 0,
            "done": .integer(isDone ? Int64(total) : 0), "failed": 0, "cancelled": 0, "dead": 0,
        ]
        return [
            "job": .string(id), "kind": .string(jobs[id]?.kind ?? ""),
            "state": isDone ? "succeeded" : "running",
            "tenant": "default", "priority": 0, "created_at_ms": 1, "counts": counts,
            "after": .array([]),
            "usage": .object(JSONObject()),
        ]
    }

    /// Pages of one line, with cursors that say nothing.
    private func fetch(_ header: JSONValue, _ ok: (JSONValue, [Message.Body]) -> Message) -> Message
    {
        let id = order.last ?? ""
        let all = header["stream"]?.string == "errors" ? [] : jobs[id]?.answers ?? []
        var known = fetched[id] ?? (given: [], complete: false)
        let after = header["after"]?.string ?? ""
        var place = 0
        if !after.isEmpty {
            guard known.given.contains(after),
                let number = Int(after.split(separator: "-").last ?? "")
            else {
                fault(
                    ClientRules.pages,
                    "it sends `\(after.prefix(80))` as `after`, which no page gave")
                return ok(["count": 0, "next": .string(after), "complete": true], [])
            }
            place = number
        }
        let page = all.dropFirst(place).prefix(1)
        let next = "cursor-\(place + page.count)"
        let isLast = place + page.count >= all.count
        known.given.insert(next)
        known.complete = known.complete || isLast
        fetched[id] = known
        let lines = page.map { $0.serialized() + [10] }.joined()
        return ok(
            [
                "count": .integer(Int64(page.count)), "next": .string(next),
                "complete": .bool(isLast),
            ],
            [Message.Body("lines", Array(lines))])
    }

    /// Pushes all lines of the newest job to the sink, then its end.
    private func attach(_ header: JSONValue, _ ok: (JSONValue, [Message.Body]) -> Message) throws
        -> Message
    {
        let id = order.last ?? ""
        let sink = Socket.Holder(
            try Socket(context, .push, options: .with { $0.linger = .seconds(2) }))
        try sink.socket.connect(header["endpoint"]?.string ?? "")
        var number = 0
        for (index, line) in (jobs[id]?.answers ?? []).enumerated() {
            number += 1
            try push(
                .line,
                [
                    "sink": "sink-1", "sequence": .integer(Int64(number)), "job": .string(id),
                    "task": .string("\(id)/\(index)"), "cursor": .string("cursor-\(index + 1)"),
                    "stream": "results",
                ], line.serialized(), sink)
            fetched[id, default: (given: [], complete: false)].given.insert("cursor-\(index + 1)")
        }
        try push(
            .end,
            [
                "sink": "sink-1", "sequence": .integer(Int64(number + 1)), "job": .string(id),
                "state": "succeeded",
            ],
            nil, sink)
        pushed = true
        sinks["sink-1"] = sink
        return ok(["sink": "sink-1"], [])
    }

    private func push(_ verb: Verb, _ header: JSONObject, _ line: [UInt8]?, _ sink: Socket.Holder)
        throws
    {
        let message = Message(
            verb: verb, header: .object(header),
            bodies: line.map { [Message.Body("line", $0)] } ?? [])
        _ = try sink.socket.send(message.frames(), within: .seconds(2))
    }
}

extension Socket {
    /// A socket in a place that can be copied.
    final class Holder {
        var socket: Socket
        init(_ socket: consuming Socket) { self.socket = socket }
    }
}
