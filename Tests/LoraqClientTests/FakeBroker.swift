import Foundation
import JSONModel
import LinuxSystem
import Synchronization
import WireProtocol
import ZeroMQ

@testable import LoraqClient

/// A folder with a short path, as Unix sockets need it, gone with the object.
final class ShortFolder: Sendable {
    let path: String

    init() throws {
        path = "/tmp/lqc-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
        try DurableFile.createDirectories(path + "/run")
    }

    deinit { try? DurableFile.removeTree(path) }

    var home: LoraqHome {
        get throws { try LoraqHome(explicit: path, environment: [:]) }
    }
}

/// A ROUTER on its own thread that answers as a test says.
final class FakeBroker: Sendable {
    /// What to do with a request; the number counts the requests from 1.
    typealias Handler = @Sendable (_ request: Message, _ number: Int) -> [Message]

    private let state: State
    private let thread: SystemThread

    /// Returns when the sockets are bound.
    init(home: LoraqHome, handler: @escaping Handler) throws {
        let state = State(wakeup: try Wakeup())
        self.state = state
        thread = try SystemThread(name: "fake-broker") {
            do {
                try state.serve(home, handler)
            } catch {
                state.failure.withLock { $0 = "\(error)" }
                state.bound.signal()
            }
        }
        state.bound.wait()
        if let failure = state.failure.withLock({ $0 }) { throw ClientError(.badAnswer, failure) }
    }

    var requests: [Message] { state.seen.withLock { $0 } }

    func publish(_ topic: String, _ header: JSONObject) {
        state.publications.withLock {
            $0.append((topic, Message(verb: .event, header: .object(header))))
        }
        state.wakeup.signal()
    }

    /// Ends the thread and with it the sockets, as a killed broker's.
    func stop() {
        guard !state.isStopped.exchange(true, ordering: .acquiringAndReleasing) else { return }
        state.wakeup.signal()
        thread.join()
    }

    /// What the thread and the test share.
    private final class State: Sendable {
        let wakeup: Wakeup
        let bound = DispatchSemaphore(value: 0)
        let failure = Mutex<String?>(nil)
        let seen = Mutex<[Message]>([])
        let publications = Mutex<[(topic: String, message: Message)]>([])
        let isStopped = Atomic<Bool>(false)

        init(wakeup: Wakeup) { self.wakeup = wakeup }

        func serve(_ home: LoraqHome, _ handler: Handler) throws {
            let context = try Context()
            let control = try Socket(context, .router)
            let events = try Socket(context, .extendedPublish)
            try control.bind(home.controlEndpoint)
            try events.bind(home.eventsEndpoint)
            bound.signal()
            var poller = Poller()
            poller.add(control, .input)
            poller.add(events, .input)
            poller.add(descriptor: wakeup.descriptor)
            while !isStopped.load(ordering: .acquiring) {
                _ = try poller.wait(atMost: .seconds(1))
                wakeup.clear()
                while try events.receive() != nil {}
                let pending = publications.withLock { waiting in
                    defer { waiting.removeAll() }
                    return waiting
                }
                for publication in pending {
                    _ = try events.send(
                        [Array(publication.topic.utf8)] + publication.message.frames())
                }
                while let frames = try control.receive() {
                    let request = try Message(frames: Array(frames.dropFirst()))
                    let number = seen.withLock { list in
                        list.append(request)
                        return list.count
                    }
                    for reply in handler(request, number) {
                        _ = try control.send([frames[0]] + reply.frames())
                    }
                }
            }
        }
    }
}

extension Message {
    func ok(_ header: JSONObject = [:], bodies: [Body] = []) -> Message {
        Message(verb: .ok, header: .object(header), requestID: requestID, bodies: bodies)
    }

    func refusal(_ code: ErrorCode, _ message: String, hint: String? = nil, wait: Int? = nil)
        -> Message
    {
        reply(error: ErrorObject(code, .user, message, hint: hint, retryAfterMs: wait))
    }
}

/// A job object with the fields every job has.
func jobObject(_ id: String, _ state: String, done: Int = 0, total: Int? = 1) -> JSONValue {
    .object([
        "job": .string(id), "kind": "infer", "state": .string(state), "tenant": "default",
        "priority": 0, "created_at_ms": 1, "after": [], "usage": [:],
        "counts": [
            "total": total.map { .integer(Int64($0)) } ?? .null, "ready": 0, "leased": 0,
            "backoff": 0, "done": .integer(Int64(done)), "failed": 0, "cancelled": 0, "dead": 0,
        ],
    ])
}
