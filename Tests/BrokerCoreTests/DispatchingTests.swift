import BrokerCore
import Testing

@Suite struct DispatchingTests {
    private func numbers(_ harness: Harness, _ assignments: [Assignment]) -> [Int] {
        assignments.map { Int($0.key.task.job.millisecondsSince1970 - 1_700_000_000_000) }
    }

    @Test func priorityThenAge() {
        let harness = Harness()
        for (number, priority) in [(1, 0), (2, 5), (3, 5), (4, -1)] {
            var submission = harness.submission(number)
            submission.priority = priority
            harness.submit(submission)
        }
        harness.hello("w1", jobs: 4)
        #expect(numbers(harness, harness.takeGiven("w1")) == [2, 3, 1, 4])
    }

    @Test func tenantsShareByCost() {
        var limits = Limits()
        limits.oldestFirstEvery = 1_000_000
        let harness = Harness(limits: limits)
        // The first tenant's tasks cost three times as much.
        for number in 1...40 {
            var submission = harness.submission(number)
            submission.tenant = number <= 20 ? "dear" : "cheap"
            submission.cost = number <= 20 ? 3 : 1
            harness.submit(submission)
        }
        harness.hello("w1", jobs: 16)
        let given = numbers(harness, harness.takeGiven("w1"))
        #expect(given.count { $0 > 20 } == 12 && given.count { $0 <= 20 } == 4)
    }

    @Test func aTenantThatWasIdleHasSavedNothingUp() {
        let harness = Harness()
        for number in 1...20 {
            var submission = harness.submission(number)
            submission.tenant = "busy"
            harness.submit(submission)
        }
        harness.hello("w1", jobs: 10)
        _ = harness.takeGiven("w1")
        for number in 21...40 {
            var submission = harness.submission(number)
            submission.tenant = "late"
            harness.submit(submission)
        }
        harness.credit("w1", ["job": 18])
        let given = numbers(harness, harness.takeGiven("w1"))
        #expect((3...5).contains(given.count { $0 > 20 }), "\(given)")
    }

    @Test("KINDS 23: a low priority is not starved")
    func aLowPriorityIsNotStarved() {
        let harness = Harness()
        var low = harness.submission(1)
        low.priority = -100
        harness.submit(low)
        harness.hello("w1", jobs: 0)
        var dispatched = 0
        var number = 2
        for _ in 0..<harness.limits.oldestFirstEvery {
            // There is always something more important.
            var high = harness.submission(number)
            high.priority = 100
            harness.submit(high)
            number += 1
            dispatched += 1
            harness.credit("w1", ["job": dispatched])
        }
        #expect(numbers(harness, harness.takeGiven("w1")).contains(1))
    }

    @Test func linesFillOneWorkerBeforeTheNext() {
        let harness = Harness()
        harness.hello("w1", pid: 1, sequences: 8)
        harness.hello("w2", pid: 2, sequences: 8)
        harness.submitBatch(1, lines: 12)
        let counts = ["w1", "w2"].map { harness.takeGiven($0).count }
        #expect(counts == [8, 4])
    }

    @Test func jobsOfOneTaskGoToTheEmptiest() {
        let harness = Harness()
        harness.hello("w1", pid: 1, jobs: 2)
        harness.hello("w2", pid: 2, jobs: 2)
        harness.submit(harness.submission(1), harness.submission(2))
        #expect(harness.takeGiven("w1").count == 1 && harness.takeGiven("w2").count == 1)
    }

    @Test func creditIsCumulativeAndItsClassesAreApart() {
        let harness = Harness()
        harness.submitBatch(1, lines: 10)
        harness.submit(harness.submission(2), harness.submission(3))
        harness.hello("w1", sequences: 3, jobs: 1)
        #expect(harness.takeGiven("w1").count == 4)
        // The same total again gives nothing more.
        harness.credit("w1", ["sequence": 3, "job": 1])
        #expect(harness.takeGiven("w1").isEmpty)
        harness.credit("w1", ["sequence": 5, "job": 1])
        let more = harness.takeGiven("w1")
        #expect(more.count == 2 && more.allSatisfy { $0.kind == "infer" })
    }

    @Test("KINDS 16: the window bounds what is in memory")
    func theWindowBoundsWhatIsInMemory() {
        var limits = Limits()
        limits.window = 50
        limits.linesPerPiece = 20
        let harness = Harness(limits: limits)
        harness.submitBatch(1, lines: 1_000_000)
        harness.hello("w1", sequences: 200)
        harness.load()
        #expect(harness.counts(1)?.leased == 50)
        var done = 0
        for _ in 0..<8 {
            for assignment in harness.takeGiven("w1") {
                harness.finish(assignment)
                done += 1
                harness.load()
            }
            harness.credit("w1", ["sequence": 200 + done])
            harness.load()
        }
        #expect(done >= 300)
        #expect(harness.counts(1)?.done == done && (harness.counts(1)?.leased ?? 0) <= 50)
        #expect(harness.store.tasks.count <= 50)
        let indices = harness.store.results.values.map(\.task.index)
        #expect(Set(indices).count == done && (indices.max() ?? 0) < done + 100)
    }

    @Test func warmWorkersReachPastTheHeadButNotForever() {
        var limits = Limits()
        limits.maximumSkips = 5
        let harness = Harness(limits: limits)
        for (number, name) in ["A", "B"].enumerated() {
            ArtifactsTests.register(harness, "M:\(name)", 600 + number)
        }
        // Line 0 wants B; the worker has A in memory.
        var batch = harness.submission(1, kind: "infer", lines: true)
        batch.label = "mixed"
        harness.submit(batch)
        harness.send(.splitPart(batch.id, blocks: [], badLines: [], references: ["M:A", "M:B"]))
        harness.send(.splitFinished(batch.id, lines: 20))
        guard
            case .loadLines(let request)? = harness.actions.last(where: {
                if case .loadLines = $0 { true } else { false }
            })
        else {
            Issue.record("no request")
            return
        }
        harness.hello("w1", sequences: 0)
        guard let session = harness.sessions["w1"], let peer = harness.peers["w1"] else { return }
        harness.send(
            .workerBeat(
                WorkerBeat(peer: peer, session: session, held: [], loaded: [Harness.digest(600)])))
        let lines = (0..<20).map {
            LoadedLine(
                index: $0, customID: nil, location: LineLocation(offset: 0, length: 1, number: 1),
                references: [$0 == 0 ? "M:B" : "M:A"])
        }
        harness.send(.linesLoaded(request, lines, next: 20))
        for total in 1...7 { harness.credit("w1", ["sequence": total]) }
        #expect(harness.takeGiven("w1").map(\.key.task.index) == [1, 2, 3, 4, 5, 0, 6])
    }

    @Test func numericsArePinnedByTheFirstAttempt() {
        var limits = Limits()
        limits.numericsUnavailableMilliseconds = 20_000
        let harness = Harness(limits: limits)
        harness.submitBatch(1, lines: 4)
        harness.hello("w1", pid: 1, numerics: "old", sequences: 2)
        for assignment in harness.takeGiven("w1") { harness.finish(assignment) }
        harness.exit("w1", pid: 1, expected: true)
        harness.hello("w1", pid: 2, numerics: "new", sequences: 4)
        #expect(harness.takeGiven("w1").isEmpty)
        #expect(harness.reason(1) == "NUMERICS_UNAVAILABLE")
        harness.pass(seconds: 25, alive: ["w1"])
        #expect(harness.state(1) == .failed)
        #expect(harness.store.job(harness.id(1))?.status.error?.code == .numericsUnavailable)
        harness.send(
            .retry(harness.id(1), scope: .failed, anyNumerics: true, request: RequestID(5)))
        harness.load()
        #expect(harness.takeGiven("w1").map(\.key.task.index) == [2, 3])
    }

    @Test func memoryIsAdmittedOnAnEstimate() {
        var limits = Limits()
        limits.memoryBudget = 100
        let harness = Harness(limits: limits)
        for number in 1...3 {
            var submission = harness.submission(number)
            submission.memoryBytes = number == 3 ? 101 : 60
            let answer = harness.submit(submission)
            #expect((answer.first?.error?.code == .limit) == (number == 3))
        }
        harness.hello("w1", jobs: 4)
        let given = harness.takeGiven("w1")
        #expect(given.count == 1 && harness.reason(2) == "MEMORY")
        harness.finish(given[0])
        #expect(harness.takeGiven("w1").count == 1)
    }

    @Test func aWorkerShowsWhatItHoldsPerClass() {
        let harness = Harness()
        harness.submitBatch(1, lines: 3)
        harness.submit(harness.submission(2))
        harness.hello("w1", sequences: 2, jobs: 3)
        let view = harness.core.workers().first
        #expect(view?.heldCounts == ["sequence": 2, "job": 1])
        #expect(view?.credit == ["sequence": 0, "job": 2])
    }

    @Test func whatWorkersMayUseThemselvesIsTakenFromTheBudget() {
        var limits = Limits()
        limits.memoryBudget = 100
        let harness = Harness(limits: limits)
        harness.send(
            .plugins(
                Harness.plugins.map {
                    var plugin = $0
                    plugin.memoryBytes = 30
                    return plugin
                }))
        harness.hello("w1", jobs: 2)
        var submission = harness.submission(1)
        submission.memoryBytes = 60
        harness.submit(submission)
        #expect(harness.reason(1) == "RUNNING")
        submission = harness.submission(2)
        submission.memoryBytes = 20
        harness.submit(submission)
        let waits = harness.core.explain(harness.id(2), at: harness.moment)
        #expect(waits?.code == "MEMORY" && waits?.details["free"] == .integer(10))
        harness.finish(harness.takeGiven("w1")[0])
        #expect(harness.reason(2) == "RUNNING")
    }

    @Test func drainingGivesOutNothing() {
        let harness = Harness()
        harness.hello("w1", jobs: 4)
        harness.send(.drain(worker: nil, request: RequestID(3)))
        #expect(harness.reply(RequestID(3)) == .draining(["w1"]))
        #expect(harness.submit(harness.submission(1)).first?.error?.code == .draining)
        #expect(harness.core.isDraining)
    }
}
