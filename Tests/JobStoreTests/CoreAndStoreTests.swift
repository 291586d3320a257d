import BrokerCore
import Foundation
import Testing

@testable import JobStore

/// The core's mutations against the real schema: a scripted day with a batch, a fine-tune, crashes, retries and restarts.
@Suite struct CoreAndStoreTests {
    private struct Random: RandomNumberGenerator {
        var state: UInt64 = 42
        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state ^ state >> 31
        }
    }

    private final class Day {
        let scratch: Scratch
        var store: DurableJobStore
        var core: Core
        var now: Int64 = 1_000_000_000
        var actions: [Action] = []
        var session: Token?
        var assignments: [Assignment] = []

        init() throws {
            scratch = try Scratch()
            store = try DurableJobStore(path: scratch.path)
            core = Core(random: Random(), at: Moment(monotonic: 0, wall: 0))
            try start()
        }

        var moment: Moment { Moment(monotonic: now, wall: now / 1_000_000) }

        func start() throws {
            core = Core(
                restoring: try store.reload(), random: Random(state: UInt64(now)), at: moment)
            try take(core.resume(at: moment))
            try send(
                .plugins([
                    PluginDescription(
                        name: "lora",
                        kinds: [
                            PluginKind(name: "infer", resourceClass: "sequence"),
                            PluginKind(name: "finetune", resourceClass: "job"),
                        ], instances: 1)
                ]))
        }

        func restart() throws {
            store.close()
            store = try DurableJobStore(path: scratch.path)
            try start()
        }

        func take(_ step: Step) throws {
            if let error = store.commit(step.mutations) { throw error }
            for action in step.actions {
                actions.append(action)
                switch action {
                case .dispatch(_, _, let given): assignments += given
                case .welcome(_, let welcome): session = welcome.session
                case .loadLines(let request):
                    let pending = try wait { self.store.pendingLines(request, completion: $0) }
                    let lines = pending.lines.map {
                        LoadedLine(
                            index: $0.index, customID: "c\($0.index)",
                            location: LineLocation(offset: 0, length: 1, number: 1),
                            references: ["M"], previousAttempts: $0.previousAttempts)
                    }
                    try send(.linesLoaded(request, lines, next: pending.next))
                default: break
                }
            }
        }

        func send(_ event: Event) throws { try take(core.step(event, at: moment)) }

        func hello(_ holding: [AttemptKey] = [], pid: Int32 = 1) throws {
            try send(
                .workerHello(
                    WorkerHello(
                        peer: PeerID(1), instance: "lora-1", plugin: "lora", pluginVersion: "1",
                        pid: pid, kinds: ["infer", "finetune"], numerics: "n1", holding: holding)))
            try credit(["sequence": 8, "job": 1])
        }

        func credit(_ classes: [String: Int]) throws {
            guard let session else { return }
            try send(.workerCredit(peer: PeerID(1), session: session, classes: classes))
        }

        func finish(_ assignment: Assignment, _ outcome: AttemptOutcome = .ok) throws {
            var result = AttemptResult(
                session: session ?? Token(high: 0, low: 0), key: assignment.key, outcome: outcome,
                location: ResultLocation(segment: 0, offset: 0, length: 5))
            result.usage = ["tokens": 3]
            if assignment.kind == "finetune" {
                result.metrics = ["loss": 0.5]
                result.artifacts = [
                    ReportedArtifact(
                        type: "adapter", name: "M:A", digest: try makeDigest(8), bytes: 1,
                        path: "/a", meta: Array("{}".utf8))
                ]
            }
            assignments.removeAll { $0.key == assignment.key }
            try send(.results([result]))
        }

        func record(_ number: Int) throws -> JobRecord {
            let found = try wait { self.store.findJobs([makeID(number)], completion: $0) }
            return try #require(found.found.first)
        }
    }

    @Test func aDayWithCrashesAndRestarts() throws {
        let day = try Day()
        var model = ArtifactRecord(
            type: "model", name: "M", version: 1, digest: try makeDigest(5), bytes: 1, path: "/m",
            meta: Array("{}".utf8), createdAt: 1)
        model.tags = []
        #expect(day.store.commit([.insertArtifact(model)]) == nil)
        try day.restart()
        var train = try makeJob(1).submission
        train.references = ["M"]
        train.produces = [ProducedArtifact(type: "adapter", name: "M:A")]
        var batch = try makeJob(2, lines: 20).submission
        batch.references = ["M"]
        var gate = try makeJob(3).submission
        gate.after = [
            Dependency(
                job: makeID(1), mode: .success,
                condition: DependencyCondition(metric: "loss", comparison: .greater, value: 1))
        ]
        try day.send(.submit([train, batch, gate], request: RequestID(1)))
        try day.send(
            .splitPart(
                makeID(2), blocks: [LineBlock(firstIndex: 0, offset: 0, firstNumber: 1, count: 20)],
                badLines: [
                    BadLine(
                        index: 19, number: 20, customID: nil,
                        error: BrokerError(.badLine, .user, "no JSON"))
                ], references: []))
        try day.send(.splitFinished(makeID(2), lines: 20))
        try day.hello()
        #expect(day.assignments.count == 9)
        #expect(try day.record(2).status.counts.leased == 8)
        // The broker dies; the worker comes back with what it holds, and goes on.
        try day.restart()
        #expect(day.core.job(makeID(1))?.status.counts.leased == 1)
        try day.hello(day.assignments.map(\.key))
        let tune = try #require(day.assignments.first { $0.kind == "finetune" })
        try day.finish(tune)
        #expect(try day.record(1).status.state == .succeeded)
        #expect(try day.record(3).status.state == .skipped)
        #expect(day.core.artifact("M:A")?.parentVersion == 1)
        // The worker dies with eight lines in hand: they run alone, then all ends.
        day.assignments = []
        try day.send(
            .workerExited(
                ProcessExit(
                    instance: "lora-1", pid: 1, status: .signaled(9), peakBytes: 7, lastLog: "bye"))
        )
        try day.hello(pid: 2)
        var sent = 8
        while try !day.record(2).status.state.isFinal {
            let next = try #require(day.assignments.first)
            sent += 1
            try day.finish(
                next, next.key.task.index == 3 ? .error(BrokerError(.badLine, .user, "odd")) : .ok)
            try day.credit(["sequence": sent, "job": 1])
        }
        let counts = try day.record(2).status.counts
        #expect(counts.done == 18 && counts.failed == 2)
        #expect(try day.record(2).status.usage["tokens"] == 60 - 6 + 3)
        let attempts = try wait {
            day.store.attempts(job: makeID(2), index: nil, limit: 100, completion: $0)
        }
        #expect(
            attempts.count == 8
                && attempts.allSatisfy { $0.exit?.lastLog == "bye" && $0.companions == 7 })
        // Retried after yet another start: only the one that can run does.
        try day.restart()
        day.assignments = []
        try day.send(.retry(makeID(2), scope: .failed, anyNumerics: false, request: RequestID(2)))
        guard case .lookUpJobs(let lookup, let ids)? = day.actions.last else {
            Issue.record("no look-up")
            return
        }
        let (found, pruned) = try wait { day.store.findJobs(ids, completion: $0) }
        try day.send(.jobsFound(lookup: lookup, found: found, pruned: pruned))
        try day.hello(pid: 3)
        #expect(day.assignments.map(\.key.task.index) == [3])
        for assignment in day.assignments { try day.finish(assignment) }
        #expect(try day.record(2).status.counts.done == 19)
        #expect(try day.record(2).status.counts.failed == 1)
        let page = try wait {
            day.store.results(
                ResultQuery(job: makeID(2), stream: .all, order: .input, limit: 100), completion: $0
            )
        }
        #expect(page.results.map(\.task.index) == Array(0..<20) && page.isComplete)
        #expect(page.results.count { $0.state == .done } == 19)
        day.store.close()
    }
}
