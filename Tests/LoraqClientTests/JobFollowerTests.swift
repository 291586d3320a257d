import JSONModel
import Synchronization
import Testing
import WireProtocol

@testable import LoraqClient

@Suite struct JobFollowerTests {
    /// Answers each job's `STATUS` with the next of its states; the last one stays.
    private static func stepping(_ states: [String: [String]]) -> FakeBroker.Handler {
        let counts = Mutex<[String: Int]>([:])
        return { request, _ in
            let ids = (request.header["jobs"]?.array ?? []).compactMap(\.string)
            let jobs = ids.map { id in
                let list = states[id] ?? ["succeeded"]
                let index = counts.withLock { counts in
                    defer { counts[id, default: 0] += 1 }
                    return counts[id, default: 0]
                }
                return jobObject(id, list[min(index, list.count - 1)])
            }
            return [request.ok(["jobs": .array(jobs)])]
        }
    }

    @Test func returnsWhenAllAreFinal() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(
            home: folder.home,
            handler: Self.stepping(["a": ["queued", "running", "succeeded"], "b": ["failed"]]))
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        var seen: [[String]] = []
        var follower = JobFollower(client: client, events: nil)
        follower.onStatus = { seen.append($0.map(\.state)) }
        let ended = try follower.wait(for: ["a", "b"])
        #expect(ended.map(\.state) == ["succeeded", "failed"])
        #expect(seen == [["queued", "failed"], ["running", "failed"], ["succeeded", "failed"]])
        // A job that has ended is not asked about again.
        #expect(broker.requests.last?.header["jobs"] == ["a"])
    }

    @Test func aRestartOfTheBrokerInTheMiddleIsOutwaited() throws {
        let folder = try ShortFolder()
        let home = try folder.home
        let first = try FakeBroker(home: home, handler: Self.stepping(["a": ["running"]]))
        let second = Mutex<FakeBroker?>(nil)
        let client = try BrokerClient(home: home)
        var changes: [Bool] = []
        client.connection.onPresenceChange = { isThere in
            changes.append(isThere)
            guard !isThere, second.withLock({ $0 == nil }) else { return }
            let broker = try? FakeBroker(
                home: home, handler: Self.stepping(["a": ["running", "succeeded"]]))
            second.withLock { $0 = broker }
        }
        var follower = JobFollower(client: client, events: nil)
        var looks = 0
        follower.onStatus = { _ in
            looks += 1
            if looks == 2 { first.stop() }
        }
        let ended = try follower.wait(for: ["a"])
        second.withLock { $0?.stop() }
        #expect(ended.map(\.state) == ["succeeded"])
        #expect(changes.contains(false))
        #expect(changes.last == true)
    }

    @Test func theLimitEndsTheWaitAndSaysHowToGoOn() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home, handler: Self.stepping(["a": ["running"]]))
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        let error = #expect(throws: ClientError.self) {
            try JobFollower(client: client, events: nil)
                .wait(for: ["a"], atMost: .milliseconds(300))
        }
        #expect(error?.kind == .timeout)
        #expect(error?.message == "the job did not end in time (it is running)")
        #expect(error?.hint?.contains("loraq wait") == true)
    }

    @Test func aJobThatTheBrokerForgotEndsTheWait() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home) { request, number in
            [request.ok(["jobs": number == 1 ? [jobObject("a", "running")] : []])]
        }
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        let error = #expect(throws: ClientError.self) {
            try JobFollower(client: client, events: nil).wait(for: ["a"])
        }
        #expect(error?.kind == .refused(.unknownJob))
    }

    @Test func jobsOnLaterPagesAreWaitedFor() throws {
        let folder = try ShortFolder()
        let looks = Mutex(0)
        let broker = try FakeBroker(home: folder.home) { request, _ in
            guard request.header["after"] == nil else {
                let look = looks.withLock {
                    $0 += 1
                    return $0
                }
                return [request.ok(["jobs": [jobObject("b", look > 2 ? "failed" : "running")]])]
            }
            let jobs: [JSONValue] =
                request.header["jobs"] == ["b"] ? [] : [jobObject("a", "succeeded")]
            return [request.ok(["jobs": .array(jobs), "next": "a"])]
        }
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        let ended = try JobFollower(client: client, events: nil).wait(for: ["a", "b"])
        #expect(ended.map(\.state) == ["succeeded", "failed"])
        #expect(looks.withLock { $0 } == 3)
    }

    @Test func pagesThatDoNotEndAreAnErrorAndNotTheEnd() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home) { request, _ in
            [request.ok(["jobs": [jobObject("a", "succeeded")], "next": "a"])]
        }
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        let error = #expect(throws: ClientError.self) { try client.status(["label"]) }
        #expect(error?.kind == .badAnswer)
    }

    @Test func anInterruptEndsTheWait() throws {
        let folder = try ShortFolder()
        let broker = try FakeBroker(home: folder.home, handler: Self.stepping(["a": ["running"]]))
        defer { broker.stop() }
        let client = try BrokerClient(home: folder.home)
        var isInterrupted = false
        client.connection.isInterrupted = { isInterrupted }
        var follower = JobFollower(client: client, events: nil)
        follower.onStatus = { _ in isInterrupted = true }
        let error = #expect(throws: ClientError.self) { try follower.wait(for: ["a"]) }
        #expect(error?.kind == .interrupted)
    }

    @Test func eventsReachWhoFollows() throws {
        let folder = try ShortFolder()
        let home = try folder.home
        let shared = Flag()
        let broker = try FakeBroker(home: home) { request, _ in
            [request.ok(["jobs": [jobObject("a", shared.isSet ? "succeeded" : "running")]])]
        }
        defer { broker.stop() }
        let client = try BrokerClient(home: home)
        let events = try client.subscribe(to: ["job/a"])
        var follower = JobFollower(client: client, events: events)
        // A subscription takes a moment to arrive: publish until one event came through.
        follower.onStatus = { _ in
            if !shared.isSet {
                broker.publish("job/b", ["type": "chunk", "job": "b", "text": "no"])
                broker.publish("job/a", ["type": "chunk", "job": "a", "text": "yes"])
            }
        }
        var texts: [String] = []
        follower.onEvent = { event in
            texts.append(event.json["text"]?.string ?? event.type)
            shared.set()
        }
        let ended = try follower.wait(for: ["a"], atMost: .seconds(30))
        #expect(ended.map(\.state) == ["succeeded"])
        #expect(texts.first == "yes")
        #expect(!texts.contains("no"))
    }
}

/// A switch that may be thrown from another thread.
final class Flag: Sendable {
    private let value = Atomic<Bool>(false)
    var isSet: Bool { value.load(ordering: .acquiring) }
    func set() { value.store(true, ordering: .releasing) }
}
