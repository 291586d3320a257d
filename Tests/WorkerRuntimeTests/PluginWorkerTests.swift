import Glibc
import JSONModel
import LinuxSystem
import Synchronization
import Testing
import WireProtocol

@testable import WorkerRuntime

/// Keeps the tasks it gets until the test ends them.
private final class Holder: TaskHandler {
    private let held = Mutex<[Int: WorkerTask]>([:])
    private let drained = Atomic<Bool>(false)

    func accept(_ task: WorkerTask) { held.withLock { $0[task.envelope.task.index] = task } }
    func drain() { drained.store(true, ordering: .sequentiallyConsistent) }
    var isDrained: Bool { drained.load(ordering: .sequentiallyConsistent) }

    /// Takes a task out, as soon as it has come.
    func take(_ index: Int) throws -> WorkerTask {
        let end = MonotonicTime.now() + FakeBroker.deadline
        while MonotonicTime.now() < end {
            if let task = held.withLock({ $0.removeValue(forKey: index) }) { return task }
            sched_yield()
        }
        throw FakeBroker.Timeout(description: "task \(index) was not handed over")
    }
}

/// A worker that runs on a thread of its own, and how it ended.
private final class RunningWorker: Sendable {
    let worker: PluginWorker
    let holder = Holder()
    private let thread: SystemThread
    private let ending: Ending

    final class Ending: Sendable {
        let result = Mutex<Result<Void, WorkerError>?>(nil)
    }

    init(_ configuration: WorkerConfiguration, handler: (any TaskHandler)? = nil) throws {
        let worker = try PluginWorker(configuration, handler: handler ?? holder)
        let ending = Ending()
        self.worker = worker
        self.ending = ending
        thread = try SystemThread(name: "worker") {
            let result: Result<Void, WorkerError>
            do throws(WorkerError) {
                try worker.run()
                result = .success(())
            } catch {
                result = .failure(error)
            }
            ending.result.withLock { $0 = result }
        }
    }

    func end() throws {
        thread.join()
        try ending.result.withLock { $0 }?.get()
    }
}

private func start(
    _ configure: (inout WorkerConfiguration) -> Void = { _ in }
) throws -> (FakeBroker, RunningWorker, WorkerConfiguration) {
    let folder = try FakeBroker.makeFolder()
    var configuration = FakeBroker.configuration(folder: folder)
    configure(&configuration)
    let broker = try FakeBroker(folder: folder, session: "s1")
    return (broker, try RunningWorker(configuration), configuration)
}

private func drain(_ broker: FakeBroker, _ worker: RunningWorker) throws {
    try broker.send(.drain, EmptyHeader())
    #expect(try broker.next(.bye).decode(ByeHeader.self).session == broker.session)
    try worker.end()
}

@Test func tasksEndInAnyOrderAndCreditGrowsWithThem() throws {
    let (broker, worker, _) = try start()
    let hello = try broker.welcome()
    #expect(hello.holding.isEmpty)
    #expect(hello.plugin.text == "test")
    #expect(hello.startTicks != nil)
    try broker.credit(of: 8)
    let references = try (0..<3).map { try broker.task($0, text: "t\($0)") }
    for index in [2, 0] {
        let task = try worker.holder.take(index)
        task.succeed(
            response: ["echo": task.request?["text"] ?? nil], usage: ["tokens": 1])
    }
    let found = try broker.results(2)
    #expect(found[2]?.body?["custom_id"]?.string == "c2")
    #expect(found[2]?.body?["response"]?["body"]?["echo"]?.string == "t2")
    #expect(found[0]?.result.usage == ["tokens": 1])
    try broker.credit(of: 10)
    try broker.acknowledge([references[0], references[2]])

    // A task that is let go of without an end is reported.
    _ = try worker.holder.take(1)
    let last = try broker.results(1)
    #expect(last[1]?.result.outcome == .error)
    #expect(last[1]?.result.error?.class == .retryable)
    try broker.acknowledge([references[1]])
    try drain(broker, worker)
    #expect(worker.holder.isDrained)
}

@Test func anErrorOfALineBecomesItsErrorLine() throws {
    let (broker, worker, _) = try start()
    try broker.welcome()
    let reference = try broker.task(4, text: "x")
    try worker.holder.take(4).fail(
        ErrorObject(.badLine, .user, "too hot"), param: "body.temperature")
    let found = try broker.results(1)
    let line = try WireDecoder.decode(OutputLine.self, from: #require(found[4]?.body))
    #expect(line.error?.line == 5)
    #expect(line.error?.param == "body.temperature")
    #expect(line.customID == "c4")
    try broker.acknowledge([reference])
    try drain(broker, worker)
}

@Test func aBrokerThatComesBackHearsWhatIsHeldAndGetsTheResultsAgain() throws {
    var (broker, worker, configuration) = try start()
    try broker.welcome()
    let running = try broker.task(0, text: "long")
    let finished = try broker.task(1, text: "short")
    let long = try worker.holder.take(0)
    try worker.holder.take(1).succeed(["n": 1])
    _ = try broker.results(1)

    // The broker dies without having acknowledged, and another takes its place.
    let folder = broker.folder
    broker = try FakeBroker(folder: try FakeBroker.makeFolder(), session: "none")
    broker = try FakeBroker(folder: folder, session: "s2")
    let beat = try broker.next(.beat)
    #expect(try beat.decode(BeatHeader.self).session == "s1")
    try broker.send(
        .error, ErrorReply(error: ErrorObject(.unknownSession, .retryable, "say HELLO")))
    let hello = try broker.welcome()
    #expect(Set(hello.holding.map(\.reference)) == [running, finished])
    #expect(hello.holding.first { $0.reference == finished }?.finished == true)
    // What is held counts as sent; the finished one has left its slot.
    try broker.credit(of: 2 + configuration.capacity[FakeBroker.name("slot")]! - 1)
    #expect(try broker.results(1)[1]?.result.lease == finished.lease)
    try broker.acknowledge([finished])
    #expect(long.stopReason == nil)
    long.succeed(["done": true])
    #expect(try broker.results(1)[0]?.result.reference == running)
    try broker.acknowledge([running])
    try drain(broker, worker)
}

@Test func stopsReachTheTaskAndDroppedAttemptsSendNothing() throws {
    let (broker, worker, _) = try start()
    try broker.welcome()
    let references = try (0..<4).map { try broker.task($0, text: "t") }
    let tasks = try (0..<4).map { try worker.holder.take($0) }
    let reasons = Mutex<[Int: StopReason]>([:])
    func reason(_ index: Int) throws -> StopReason {
        let end = MonotonicTime.now() + FakeBroker.deadline
        while MonotonicTime.now() < end {
            if let reason = reasons.withLock({ $0[index] }) { return reason }
            sched_yield()
        }
        throw FakeBroker.Timeout(description: "task \(index) was not told to stop")
    }
    for (index, task) in tasks.enumerated() {
        task.onStop { reason in reasons.withLock { $0[index] = reason } }
    }
    try broker.send(
        .cancel, StopHeader(tasks: [references[0].name], reason: "asked"))
    try broker.send(
        .preempt, StopHeader(tasks: [references[1].name], reason: "room"))
    try broker.send(.beatAck, BeatAckHeader(epoch: 1, drop: [references[2]]))
    #expect(try reason(0) == .cancelled)
    #expect(tasks[0].isCancelled)
    #expect(try reason(1) == .preempted)
    #expect(!tasks[1].isCancelled)
    #expect(try reason(2) == .dropped)
    tasks[2].succeed(["late": true])
    tasks[0].endCancelled(partial: ["half": true])
    tasks[0].succeed(["twice": true])
    tasks[1].giveWay()
    tasks[3].putBack(reason: "no memory", retryAfter: .milliseconds(250))
    let found = try broker.results(2)
    #expect(found[0]?.result.outcome == .cancelled)
    #expect(found[0]?.body?["response"]?["body"]?["half"]?.bool == true)
    #expect(found[1]?.result.outcome == .preempted)
    let put = try broker.next(.defer).decode(DeferHeader.self)
    #expect(put.tasks == [references[3]])
    #expect(put.retryAfterMs == 250)
    try broker.acknowledge([references[0], references[1]])
    // Had the dropped one sent a result, the worker would wait for its acknowledgment.
    try drain(broker, worker)
}

/// Blocks the thread that calls `accept`.
private final class Blocker: TaskHandler {
    let gate = Mutex<Bool>(true)
    func accept(_ task: WorkerTask) {
        while gate.withLock({ $0 }) { sched_yield() }
        task.advance(by: 3)
        task.succeed([:])
    }
}

@Test func aBusyHandlerDelaysNoBeat() throws {
    let folder = try FakeBroker.makeFolder()
    let broker = try FakeBroker(folder: folder, session: "s1")
    let blocker = Blocker()
    let worker = try RunningWorker(
        FakeBroker.configuration(folder: folder), handler: blocker)
    try broker.welcome(heartbeatMs: 10)
    let reference = try broker.task(0, text: "t")
    var beats = 0
    while beats < 5 {
        let beat = try broker.next(.beat).decode(BeatHeader.self)
        if beat.held.map(\.reference) == [reference] { beats += 1 }
        #expect(beat.rssBytes > 0)
    }
    blocker.gate.withLock { $0 = false }
    _ = try broker.results(1)
    try broker.acknowledge([reference])
    try drain(broker, worker)
}

@Test func aFullSpoolStopsTheCredit() throws {
    let (broker, worker, _) = try start { $0.spoolResults = 3 }
    try broker.welcome()
    try broker.credit(of: 8)
    let references = try (0..<4).map { try broker.task($0, text: "t") }
    for index in 0..<4 { try worker.holder.take(index).succeed([:]) }
    _ = try broker.results(4)
    // Sent 4, none acknowledged: 8 was promised, and grew while fewer than 3 waited, but no further.
    var highest = 0
    for _ in 0..<3 {
        highest = max(
            highest, try broker.next(.credit).decode(CreditHeader.self).classes["slot"] ?? 0)
    }
    #expect(highest < 12)
    try broker.acknowledge(references)
    try broker.credit(of: 12)
    try drain(broker, worker)
}

@Test func garbageFromTheBrokerCostsNothing() throws {
    let (broker, worker, _) = try start()
    try broker.welcome()
    let reference = try broker.task(0, text: "t")
    let task = try worker.holder.take(0)
    try broker.send("NOVELTY", EmptyHeader())
    try broker.send(.task, ["tasks": [["task": "nonsense"]]] as JSONValue)
    try broker.send(.cancel, ["tasks": 7] as JSONValue)
    let log = try broker.nextResult(.log).decode(LogHeader.self)
    #expect(log.message.contains("tasks[0].task"))
    task.succeed([:])
    _ = try broker.results(1)
    try broker.acknowledge([reference])
    try drain(broker, worker)
}

@Test func withoutBrokerAndWorkAWorkerLeavesAfterItsGrace() throws {
    let (broker, worker, _) = try start { $0.brokerGrace = .milliseconds(200) }
    try broker.welcome(heartbeatMs: 10)
    let reference = try broker.task(0, text: "t")
    let task = try worker.holder.take(0)
    // Five beats without answer are longer than nothing, and the task keeps the worker here.
    for _ in 0..<30 { _ = try broker.next(.beat) }
    task.succeed([:])
    #expect(try broker.results(1)[0]?.result.reference == reference)
    let error = #expect(throws: WorkerError.self) { try worker.end() }
    #expect(error?.code == .brokerGone)
}

@Test func aRefusedHelloEndsTheWorker() throws {
    let (broker, worker, _) = try start()
    let hello = try broker.next(.hello)
    let refusal = ErrorObject(.unknownKind, .user, "the manifest has no kind `echo`")
    try broker.send(.error, ["error": try WireEncoder.encode(refusal)] as JSONValue)
    // Without the request's id it is nobody's answer.
    _ = hello
    let again = try broker.next(.hello)
    try broker.answer(again, with: refusal)
    let error = #expect(throws: WorkerError.self) { try worker.end() }
    #expect(error?.code == .refused)
}
