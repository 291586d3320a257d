import Glibc
import JSONModel
import LinuxSystem
import Logging
import Synchronization
import Testing
import WireProtocol
import ZeroMQ

@testable import Broker
@testable import JobStore

/// A broker in the test's own process.
private final class TestBroker {
    let folder: TemporaryFolder
    private(set) var server: BrokerServer
    private(set) var client: TestClient

    init() throws {
        folder = try TemporaryFolder()
        server = try Self.start(folder)
        client = try TestClient(home: folder.path)
    }

    static func start(_ folder: TemporaryFolder) throws -> BrokerServer {
        var configuration = BrokerConfiguration(
            home: folder.path, programDirectory: "/nonexistent", environment: [:])
        configuration.limits.heartbeatMilliseconds = 100
        configuration.limits.leaseMilliseconds = 5_000
        var log = Logger(label: "test")
        log.logLevel = .error
        return try BrokerServer(configuration: configuration, log: log)
    }

    /// Ends the broker without a word and starts another one on the same home.
    func crashAndRestart() throws {
        server.abandon()
        server = try Self.start(folder)
        client = try TestClient(home: folder.path)
    }

    deinit {
        server.stop()
        server.waitUntilStopped()
    }
}

private let idSource = Mutex(UInt64(0))

private func newJobID() -> WireProtocol.JobID {
    let number = idSource.withLock { value -> UInt64 in
        value += 1
        return value
    }
    return WireProtocol.JobID(timestampMs: WallClock.milliseconds(), random: (number, number))
}

private func name(_ text: String) throws -> WireName { try WireName(checking: text) }

private func batch(
    _ content: String, kind: String = "lines-kind", id: WireProtocol.JobID = newJobID(),
    spec: JSONValue = .object(JSONObject()), after: [WireProtocol.Dependency] = []
) throws -> (WireProtocol.Submission, [Message.Body]) {
    let submission = WireProtocol.Submission(
        id: id, kind: try name(kind), spec: spec,
        inputs: [.init(name: try name("lines"), source: .body(try name("lines")))], after: after)
    return (submission, [Message.Body("lines", bytes(content))])
}

/// Lines of a plugin's own kind.
private func lines(_ range: Range<Int>) -> String {
    range.map { #"{"custom_id":"c\#($0)","n":\#($0)}"# }.joined(separator: "\n") + "\n"
}

/// Answers a line with its id and number.
private func echo(_ task: TaskEnvelope, _ line: [UInt8]?) -> (TaskResult, [UInt8]?)? {
    let value = line.flatMap { try? JSONValue.parse($0) }
    let body = JSONValue.object(
        JSONObject([
            ("custom_id", .string(task.customID ?? "")), ("echo", value?["n"] ?? .null),
        ])
    ).serialized()
    return (TaskResult(task.reference, outcome: .ok, usage: ["tokens": 2]), body)
}

@Suite(.serialized) struct BrokerServerTests {
    private func worker(
        _ broker: TestBroker, kinds: [String] = ["lines-kind", "single-kind"],
        credit: [String: Int] = ["lines-kind": 64, "single-kind": 1],
        answer: @escaping FakeWorker.Answer = echo
    ) throws -> FakeWorker {
        let worker = try FakeWorker(
            home: broker.folder.path, kinds: kinds, credit: credit, answer: answer)
        // Its HELLO makes the kinds known.
        let deadline = MonotonicTime.now() + .seconds(20)
        while try broker.client.get(WorkersReply.self, .workers, EmptyHeader()).workers.isEmpty {
            guard MonotonicTime.now() < deadline else { throw WireError(.timeout, "no worker") }
        }
        return worker
    }

    @Test func aBatchRunsAndIsFetchedInBothOrders() throws {
        let broker = try TestBroker()
        let worker = try worker(broker)
        defer { worker.stop() }
        let (submission, bodies) = try batch(lines(0..<2_500))
        let reply = try broker.client.get(
            SubmitReply.self, .submit, SubmitRequest(job: submission), bodies: bodies)
        #expect(reply.job == submission.id && !reply.duplicate)
        let job = try broker.client.wait(for: submission.id)
        #expect(job.state == .succeeded)
        #expect(job.counts.total == 2_500 && job.counts.done == 2_500)
        #expect(job.usage["tokens"] == 5_000)
        let ordered = try broker.client.lines(submission.id, order: .input, limit: 700)
        #expect(ordered == (0..<2_500).map { #"{"custom_id":"c\#($0)","echo":\#($0)}"# })
        let completed = try broker.client.lines(submission.id, limit: 999)
        #expect(Set(completed) == Set(ordered) && completed.count == 2_500)
        #expect(try broker.client.lines(submission.id, .errors).isEmpty)
    }

    @Test func sameSubmissionTwiceIsOneJob() throws {
        let broker = try TestBroker()
        let worker = try worker(broker)
        defer { worker.stop() }
        let (submission, bodies) = try batch(lines(0..<3))
        for attempt in 0..<3 {
            let reply = try broker.client.get(
                SubmitReply.self, .submit, SubmitRequest(job: submission), bodies: bodies)
            #expect(reply.duplicate == (attempt > 0))
        }
        let (other, otherBodies) = try batch(lines(0..<4), id: submission.id)
        let error = #expect(throws: ErrorObject.self) {
            try broker.client.get(
                SubmitReply.self, .submit, SubmitRequest(job: other), bodies: otherBodies)
        }
        #expect(error?.code == .conflict)
    }

    @Test func badLinesAreErrorsAndTheOthersRun() throws {
        let broker = try TestBroker()
        let worker = try worker(broker)
        defer { worker.stop() }
        let content = lines(0..<2) + "nonsense\n" + lines(1..<3)
        let (submission, bodies) = try batch(content)
        _ = try broker.client.call(.submit, SubmitRequest(job: submission), bodies: bodies)
        let job = try broker.client.wait(for: submission.id)
        #expect(job.state == .succeeded && job.counts.done == 3 && job.counts.failed == 2)
        let errors = try broker.client.lines(submission.id, .errors, order: .input)
            .map { try JSONValue.parse($0) }
        #expect(errors.map { $0["error"]?["line"]?.integer } == [3, 4])
        #expect(errors.map { $0["custom_id"]?.string } == [nil, "c1"])
        let all = try broker.client.lines(submission.id, .all, order: .input)
        #expect(all.count == 5)
    }

    @Test func aBrokerThatDiesForgetsNothing() throws {
        let broker = try TestBroker()
        // Keeps the job of one task, answers lines.
        let worker = try worker(broker) { task, line in
            task.kind.text == "single-kind" ? nil : echo(task, line)
        }
        let (submission, bodies) = try batch(lines(0..<1_500))
        _ = try broker.client.call(.submit, SubmitRequest(job: submission), bodies: bodies)
        let single = WireProtocol.Submission(
            id: newJobID(), kind: try name("single-kind"), spec: .object(JSONObject()))
        _ = try broker.client.call(.submit, SubmitRequest(job: single))
        _ = try broker.client.wait(for: single.id) { $0.state == .running }
        try broker.crashAndRestart()
        let job = try broker.client.wait(for: submission.id)
        #expect(job.state == .succeeded && job.counts.done == 1_500)
        let ordered = try broker.client.lines(submission.id, order: .input)
        #expect(ordered == (0..<1_500).map { #"{"custom_id":"c\#($0)","echo":\#($0)}"# })
        // The long one was kept by its worker, and runs on under its first attempt.
        let running = try broker.client.wait(for: single.id) { $0.counts.leased == 1 }
        #expect(running.state == .running)
        #expect(worker.taken.count >= 1_501)
        worker.stop()
    }

    @Test func aJobOfOneTaskShowsItsResult() throws {
        let broker = try TestBroker()
        let worker = try worker(broker) { task, _ in
            (
                TaskResult(task.reference, outcome: .ok, metrics: ["loss": 0.5]),
                bytes(#"{"loss":0.5}"#)
            )
        }
        defer { worker.stop() }
        let first = WireProtocol.Submission(
            id: newJobID(), kind: try name("single-kind"), spec: ["x": 1])
        var gate = WireProtocol.Submission(
            id: newJobID(), kind: try name("single-kind"), spec: .object(JSONObject()))
        gate.after = [
            .init(job: first.id, if: .init(metric: "loss", op: .less, value: 0.1))
        ]
        let replies = try broker.client.get(
            SubmitBatchReply.self, .submitBatch, SubmitBatchRequest(submissions: [first, gate]))
        #expect(replies.results.allSatisfy { $0.error == nil })
        let job = try broker.client.wait(for: first.id)
        #expect(job.state == .succeeded && job.result == ["loss": 0.5])
        #expect(try broker.client.wait(for: gate.id).state == .skipped)
    }

    @Test func cancelStopsWhatRuns() throws {
        let broker = try TestBroker()
        let worker = try worker(broker) { _, _ in nil }
        defer { worker.stop() }
        let single = WireProtocol.Submission(
            id: newJobID(), kind: try name("single-kind"), spec: .object(JSONObject()))
        _ = try broker.client.call(.submit, SubmitRequest(job: single))
        _ = try broker.client.wait(for: single.id) { $0.state == .running }
        _ = try broker.client.get(
            JobStatesReply.self, .cancel, CancelRequest(jobs: ["last"], reason: "enough"))
        #expect(try broker.client.wait(for: single.id).state == .cancelled)
    }

    @Test func artifactsAreRegisteredServedAndRemoved() throws {
        let broker = try TestBroker()
        let digest = try BlobDigest(checking: ContentDigest(of: bytes("model")).text)
        let model = try WireProtocol.ArtifactReference(checking: "m")
        let worker = try worker(broker, kinds: ["prepare"], credit: ["prepare": 1]) { task, _ in
            guard let workdir = task.workdir else { return nil }
            try? DurableFile.createDirectories("\(workdir)/out/sub")
            try? DurableFile.write("hello", to: "\(workdir)/out/sub/file.txt")
            let result = TaskResult(
                task.reference, outcome: .ok,
                artifacts: [
                    .init(
                        type: .model, name: model, digest: digest, path: "\(workdir)/out", bytes: 5,
                        meta: ["k": 1])
                ])
            return (result, bytes("{}"))
        }
        defer { worker.stop() }
        let source = try broker.folder.write("source.gguf", "x")
        let job = WireProtocol.Submission(
            id: newJobID(), kind: try name("prepare"),
            spec: ["name": "m", "path": .string(source)])
        _ = try broker.client.call(.submit, SubmitRequest(job: job))
        #expect(try broker.client.wait(for: job.id).state == .succeeded)
        let list = try broker.client.get(ArtifactsReply.self, .artifacts, ArtifactsRequest())
        #expect(list.artifacts.map(\.version) == [1] && list.artifacts[0].meta == ["k": 1])
        let files = try broker.client.get(GetReply.self, .get, GetRequest(artifact: "m"))
        #expect(files.files == [.init(name: "sub/file.txt", bytes: 5)])
        let piece = try broker.client.call(
            .get, GetRequest(artifact: "m@1", file: "sub/file.txt", offset: 1, bytes: 3))
        #expect(piece.body("piece") == bytes("ell"))
        for evil in ["../../../jobs.sqlite", "/etc/passwd", "sub/../sub/file.txt", "sub", ""] {
            let error = #expect(throws: ErrorObject.self) {
                try broker.client.get(GetReply.self, .get, GetRequest(artifact: "m", file: evil))
            }
            #expect(error?.class == .user)
        }
        let folder = BrokerHome(root: broker.folder.path).models + "/" + digest.hex
        #expect(FilePath.isDirectory(folder))
        let tagged = try broker.client.get(
            ArtifactReply.self, .tag, TagRequest(artifact: "m@1", tag: try name("good")))
        #expect(tagged.artifact.tags.map(\.text) == ["good"])
        let removed = try broker.client.get(
            RemoveReply.self, .remove, RemoveRequest(artifact: "m"))
        #expect(removed.removed.map(\.text) == ["m@1"])
        #expect(
            try broker.client.get(ArtifactsReply.self, .artifacts, ArtifactsRequest()).artifacts
                .isEmpty)
    }

    @Test func sinksGetLinesAsTheyAreAccepted() throws {
        let broker = try TestBroker()
        let worker = try worker(broker)
        defer { worker.stop() }
        let context = try Context()
        let pull = try Socket(context, .pull)
        let endpoint = "ipc://\(broker.folder.path)/sink"
        try pull.bind(endpoint)
        let sink = try broker.client.get(
            AttachReply.self, .attach, AttachRequest(endpoint: endpoint, selector: "all"))
        let (submission, bodies) = try batch(lines(0..<50))
        _ = try broker.client.call(.submit, SubmitRequest(job: submission), bodies: bodies)
        var seen: Set<String> = []
        var sequences: [Int] = []
        while true {
            let frames = try #require(try pull.receive(within: .seconds(20)))
            let message = try Message(frames: frames)
            if message.verb == .end {
                sequences.append(try message.decode(SinkEndHeader.self).sequence)
                break
            }
            sequences.append(try message.decode(SinkLineHeader.self).sequence)
            seen.insert(String(decoding: message.body("line") ?? [], as: UTF8.self))
        }
        #expect(seen.count == 50)
        #expect(sequences == Array(1...51))
        let bye = try broker.client.get(
            DetachReply.self, .detach, DetachRequest(sink: sink.sink))
        #expect(bye.sent == 51 && bye.dropped == 0)
    }

    @Test func garbageHarmsNobody() throws {
        let broker = try TestBroker()
        let home = BrokerHome(root: broker.folder.path)
        let context = try Context()
        let dealer = try Socket(context, .dealer)
        try dealer.connect(home.endpoint("control"))
        let good = bytes("LQP/1")
        let messages: [[[UInt8]]] = [
            [[]], [good], [good, bytes("PING")], [good, bytes("PING"), bytes("{")],
            [good, bytes("PING"), bytes("[]")], [good, bytes("NOPE"), bytes("{}")],
            [good, bytes("ping"), bytes("{}")], [bytes("LQP/9"), bytes("PING"), bytes("{}")],
            [good, bytes("PING"), [UInt8](repeating: 0x7B, count: 70_000)],
            [good, bytes("PING"), bytes("{}"), bytes("unnamed")],
            [good, bytes("SUBMIT"), bytes(#"{"request_id":"x","job":{"id":"../.."}}"#)],
            [good, bytes("PUT"), bytes(#"{"digest":"sha256:zz","bytes_total":-1}"#)],
            [good, bytes("FETCH"), bytes(#"{"job":"all"}"#)],
            Array(repeating: [1], count: 2_000),
        ]
        for message in messages {
            #expect(try dealer.send(message, within: .seconds(5)) == .sent)
        }
        let dispatch = try Socket(context, .dealer)
        try dispatch.connect(home.endpoint("dispatch"))
        let results = try Socket(context, .push)
        try results.connect(home.endpoint("results"))
        for message in messages {
            _ = try dispatch.send(message, within: .seconds(5))
            _ = try results.send(message, within: .seconds(5))
        }
        // The answer to the last good request is there, and each bad one got an ERROR.
        #expect(try broker.client.get(PingReply.self, .ping, EmptyHeader()).epoch >= 1)
        for _ in 0..<12 {
            let frames = try #require(try dealer.receive(within: .seconds(20)))
            #expect(try Message(frames: frames).verb == .error)
        }
    }

    @Test func requestSocketsAreAnswered() throws {
        let broker = try TestBroker()
        let request = try Socket(Context(), .request)
        try request.connect(BrokerHome(root: broker.folder.path).endpoint("control"))
        let message = try Message(.ping, EmptyHeader(), requestID: "q")
        _ = try request.send(message.frames(), within: .seconds(5))
        let frames = try #require(try request.receive(within: .seconds(20)))
        #expect(try Message(frames: frames).requestID == "q")
    }

    @Test func aSecondBrokerIsRefusedWithThePid() throws {
        let broker = try TestBroker()
        let error = #expect(throws: BrokerStartError.self) {
            _ = try TestBroker.start(broker.folder)
        }
        #expect(error?.code == .alreadyRunning)
        #expect(error?.description.contains("process") == true)
    }

    @Test func refusalsNameTheirReason() throws {
        let broker = try TestBroker()
        func refusal(_ kind: String, _ spec: JSONValue) throws -> ErrorObject? {
            let submission = WireProtocol.Submission(
                id: newJobID(), kind: try name(kind), spec: spec)
            return #expect(throws: ErrorObject.self) {
                try broker.client.get(SubmitReply.self, .submit, SubmitRequest(job: submission))
            }
        }
        #expect(try refusal("nokind", .object(JSONObject()))?.code == .unknownKind)
        let unknown = try refusal("prepare", ["name": "m", "path": "/nowhere/at/all"])
        #expect(unknown?.code == .invalidSpec && unknown?.message.contains("/nowhere") == true)
        let extra = try refusal("prepare", ["name": "m", "path": "/tmp", "pth": "/x"])
        #expect(extra?.message.contains("pth") == true)
        let missing = #expect(throws: ErrorObject.self) { try broker.client.job(newJobID()) }
        #expect(missing?.code == .unknownJob)
    }

    @Test func aFailedCommitIsToldAndNothingOfItStays() throws {
        let broker = try TestBroker()
        let worker = try worker(broker)
        defer { worker.stop() }
        let (first, firstBodies) = try batch(lines(0..<300))
        _ = try broker.client.call(.submit, SubmitRequest(job: first), bodies: firstBodies)
        _ = try broker.client.wait(for: first.id)
        let (submission, bodies) = try batch(lines(0..<200))
        // Nothing else is to be committed, so it is the submit that meets the failure.
        broker.server.inLoop { $0.store.failNextCommit() }
        var refusals = 0
        let deadline = MonotonicTime.now() + .seconds(60)
        while MonotonicTime.now() < deadline {
            let reply = try broker.client.call(
                .submit, SubmitRequest(job: submission), bodies: bodies)
            if reply.verb == .ok { break }
            let error = try reply.decodeError()
            #expect(
                error.code == .storeUnavailable && error.class == .retryable, "\(error)")
            #expect(error.retryAfterMs != nil)
            refusals += 1
        }
        #expect(refusals > 0, "the submitter was never told")
        for id in [first.id, submission.id] {
            let job = try broker.client.wait(for: id)
            #expect(job.state == .succeeded)
            let count = id == first.id ? 300 : 200
            let ordered = try broker.client.lines(id, order: .input)
            #expect(ordered == (0..<count).map { #"{"custom_id":"c\#($0)","echo":\#($0)}"# })
        }
    }

    @Test func strictRefusesTheWholeFile() throws {
        let broker = try TestBroker()
        let worker = try worker(broker, kinds: ["infer"], credit: ["infer": 8])
        defer { worker.stop() }
        let (submission, bodies) = try batch(
            "{}\n" + lines(0..<3), kind: "infer", spec: ["strict": true])
        _ = try broker.client.call(.submit, SubmitRequest(job: submission), bodies: bodies)
        let job = try broker.client.wait(for: submission.id)
        #expect(job.state == .failed && job.counts.done == 0)
        #expect(worker.taken.count == 0)
        #expect(job.lines?.bad == 4 && job.lines?.complete == true)
    }

    @Test func uploadsArePiecedTogetherOverTheWire() throws {
        let broker = try TestBroker()
        let worker = try worker(broker)
        defer { worker.stop() }
        let content = bytes(lines(0..<1_000))
        let digest = try BlobDigest(checking: ContentDigest(of: content).text)
        var received = 0
        while received < content.count {
            let end = min(received + 10_000, content.count)
            let reply = try broker.client.get(
                PutReply.self, .put,
                PutRequest(digest: digest, bytesTotal: content.count, offset: received),
                bodies: [Message.Body("piece", Array(content[received..<end]))])
            #expect(reply.received == end && reply.complete == (end == content.count))
            received = end
        }
        let submission = WireProtocol.Submission(
            id: newJobID(), kind: try name("lines-kind"), spec: .object(JSONObject()),
            inputs: [.init(name: try name("lines"), source: .blob(digest))])
        _ = try broker.client.call(.submit, SubmitRequest(job: submission))
        #expect(try broker.client.wait(for: submission.id).counts.done == 1_000)
        var unknown = submission
        unknown.id = newJobID()
        unknown.inputs = [
            .init(
                name: try name("lines"),
                source: .blob(try BlobDigest(checking: ContentDigest(of: bytes("?")).text)))
        ]
        let wanted = unknown
        let error = #expect(throws: ErrorObject.self) {
            try broker.client.get(SubmitReply.self, .submit, SubmitRequest(job: wanted))
        }
        #expect(error?.code == .unknownBlob)
    }
}
