import Glibc
import JSONModel
import LinuxSystem
import Synchronization
import Testing
import WireProtocol
import ZeroMQ

@testable import LoraqClient

@Suite struct BrokerConnectionTests {
    @Test func answersAreMatchedByRequestID() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home) { request, _ in
            var stranger = request.ok(["from": "earlier"])
            stranger.requestID = "another"
            return [stranger, request.ok(["from": "now"])]
        }
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        let reply = try client.connection.request(.ping)
        #expect(reply.header["from"]?.string == "now")
    }

    @Test func aLostReplyMakesTheSameRequestGoAgain() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home) { request, number in
            number < 3 ? [] : [request.ok(["number": .integer(Int64(number))])]
        }
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        var policy = RequestPolicy.usual
        policy.resendAfter = .milliseconds(150)
        let reply = try client.connection.request(.status, ["jobs": ["last"]], policy: policy)
        #expect(reply.header["number"]?.integer == 3)
        let requests = broker.requests
        #expect(requests.count == 3)
        #expect(Set(requests.map(\.requestID)).count == 1)
        #expect(requests.allSatisfy { $0.header == requests[0].header })
    }

    @Test func whatMustNotGoTwiceDoesNot() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home) { _, _ in [] }
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        var policy = RequestPolicy(timeout: .milliseconds(700), mayResend: false)
        policy.resendAfter = .milliseconds(100)
        let error = #expect(throws: ClientError.self) {
            try client.connection.request(.retry, ["job": "x"], policy: policy)
        }
        #expect(error?.kind == .timeout)
        #expect(broker.requests.count == 1)
    }

    @Test func theBrokersErrorKeepsCodeHintAndWait() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home) { request, number in
            number == 1
                ? [request.refusal(.unknownJob, "no job matches `x`", hint: "see `loraq jobs`")]
                : [request.refusal(.limit, "the queue is full", wait: 2500)]
        }
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        let first = #expect(throws: ClientError.self) { try client.connection.request(.cancel) }
        #expect(first?.kind == .refused(.unknownJob))
        #expect(first?.message == "no job matches `x`")
        #expect(first?.hint == "see `loraq jobs`")
        let second = #expect(throws: ClientError.self) { try client.connection.request(.submit) }
        #expect(second?.hint == "try again in 3 s")
        #expect(second?.answer?.retryAfterMs == 2500)
    }

    @Test func withoutABrokerTheErrorSaysSoAtOnce() throws {
        let folder = try ShortFolder()
        let client = try BrokerClient(home: folder.home)
        let error = #expect(throws: ClientError.self) { try client.connection.request(.ping) }
        #expect(error?.kind == .unreachable)
        #expect(
            error?.description
                == "no broker at ipc://\(folder.path)/run/control (start one with `loraq up`)")
    }

    @Test func aSocketFileThatADeadBrokerLeftIsNobody() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home) { request, _ in [request.ok()] }
        let endpoint = try folder.home.controlEndpoint
        #expect(EndpointProbe.look(at: endpoint) == .listening)
        #expect(EndpointProbe.owner(of: endpoint) == Int(getpid()))
        broker.stop()
        #expect(EndpointProbe.look(at: endpoint) == .nobody)
        #expect(EndpointProbe.owner(of: endpoint) == nil)
    }

    @Test func whoWaitsForTheBrokerIsAnsweredWhenItComes() throws {
        let folder = try ShortFolder()
        let home = try folder.home
        let started = Mutex<FakeBroker?>(nil)
        let client = try BrokerClient(home: home)
        var changes: [Bool] = []
        client.connection.onPresenceChange = { isThere in
            changes.append(isThere)
            guard !isThere else { return }
            let broker = try? FakeBroker(home: home) { request, _ in [request.ok(["late": true])] }
            started.withLock { $0 = broker }
        }
        let reply = try client.connection.request(
            .ping, policy: RequestPolicy(timeout: .seconds(20), waitsForBroker: true))
        started.withLock { $0?.stop() }
        #expect(reply.header["late"]?.bool == true)
        #expect(changes.first == false)
        #expect(changes.last == true)
    }

    @Test func aBrokerThatGoesAwayBeforeItsAnswerIsNamed() throws {
        let folder = try ShortFolder()
        let home = try folder.home
        let gone = Mutex<FakeBroker?>(nil)
        let broker = try FakeBroker(home: home) { _, _ in [] }
        gone.withLock { $0 = broker }
        let client = try BrokerClient(home: home)
        var looks = 0
        client.connection.isInterrupted = {
            looks += 1
            if looks == 2 { gone.withLock { $0?.stop() } }
            return false
        }
        let error = #expect(throws: ClientError.self) {
            try client.connection.request(.remove, ["artifact": "m"], policy: .once)
        }
        #expect(error?.kind == .unreachable)
        #expect(error?.message.contains("went away before it answered REMOVE") == true)
        #expect(error?.hint?.contains("loraq status") == true)
    }

    @Test func anInterruptEndsTheWait() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home) { _, _ in [] }
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        client.connection.isInterrupted = { true }
        let error = #expect(throws: ClientError.self) { try client.connection.request(.ping) }
        #expect(error?.kind == .interrupted)
    }

    @Test func aMalformedAnswerIsNoCrash() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home) { request, _ in
            [Message(verb: .error, header: ["error": "?"], requestID: request.requestID)]
        }
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        let error = #expect(throws: ClientError.self) { try client.connection.request(.ping) }
        #expect(error?.kind == .badAnswer)
    }

    @Test func listsAreReadPageByPage() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home) { request, _ in
            let page = request.header["after"]?.string.flatMap { Int($0) } ?? 0
            var header: JSONObject = [
                "jobs": [jobObject("a\(page)", "queued"), jobObject("b\(page)", "queued")]
            ]
            if page < 2 { header["next"] = .string("\(page + 1)") }
            return [request.ok(header)]
        }
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        let all = try client.list(filter: [:], limit: nil)
        #expect(all.map(\.id) == ["a0", "b0", "a1", "b1", "a2", "b2"])
        let some = try client.list(filter: [:], limit: 3)
        #expect(some.map(\.id) == ["a0", "b0", "a1"])
        #expect(broker.requests.last?.header["limit"]?.integer == 1)
    }

    @Test func oneJobMeansOneJob() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home) { request, _ in
            let selector = request.header["jobs"]?.array?.first?.string ?? ""
            let count = selector == "many" ? 2 : selector == "none" ? 0 : 1
            return [
                request.ok([
                    "jobs": .array((0..<count).map { jobObject("\(selector)-\($0)", "running") })
                ])
            ]
        }
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        #expect(try client.job("one").id == "one-0")
        let many = #expect(throws: ClientError.self) { try client.job("many") }
        #expect(many?.kind == .refused(.ambiguous))
        #expect(many?.message.contains("many-0, many-1") == true)
        let none = #expect(throws: ClientError.self) { try client.job("none") }
        #expect(none?.kind == .refused(.unknownJob))
    }

    @Test func requestsHaveTheFormOfTheWire() throws {
        var job = JobRequest(kind: "infer", spec: ["model": "m"])
        job.inputs = [.blob(name: "lines", digest: ContentDigest(of: [1, 2, 3]))]
        job.after = [.init(job: JobRequest.newID(), on: "finish")]
        job.priority = -5
        job.tenant = "t"
        job.label = "nightly"
        job.maximumSeconds = 60
        let submission = try WireDecoder.decode(Submission.self, from: job.json)
        #expect(submission.id.text == job.id)
        #expect(submission.priority == -5)
        #expect(submission.after.count == 1)
        #expect(submission.label == "nightly")
        #expect(submission.maxSeconds == 60)
        #expect(try WireEncoder.encode(submission) == job.json)
    }
}
