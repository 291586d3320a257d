import BrokerCore
import Testing

@Suite struct CancelTests {
    @Test("KINDS 21: what a task had produced before its cancel stays")
    func partialResultsStay() throws {
        let harness = Harness()
        harness.submitBatch(1, lines: 3)
        harness.hello("w1", sequences: 2)
        let given = harness.takeGiven("w1")
        harness.send(.cancel([harness.id(1)], reason: nil, request: RequestID(1)))
        #expect(harness.core.acceptsPartial(given[0].key))
        #expect(harness.core.awaitsPartials(of: harness.id(1)))
        #expect(harness.finish(given[0], .cancelled) == true)
        // Once only, and never as a result.
        #expect(harness.finish(given[0], .cancelled) == false)
        #expect(harness.finish(given[1], .ok) == false)
        let rows = harness.store.results.values
        #expect(rows.map(\.state) == [.cancelled] && rows.first?.location != nil)
        #expect(rows.first?.customID == "line-0" && rows.first?.order == 1)
        #expect(harness.state(1) == .cancelled && harness.counts(1)?.cancelled == 3)
        // The worker names nothing of it any more.
        let session = try #require(harness.sessions["w1"])
        let peer = try #require(harness.peers["w1"])
        harness.send(.workerBeat(WorkerBeat(peer: peer, session: session, held: [])))
        #expect(!harness.core.awaitsPartials(of: harness.id(1)))
        #expect(!harness.core.acceptsPartial(given[1].key))
    }

    @Test(
        "A heartbeat between the cancel and the result asks for the cancel again, and drops nothing"
    )
    func aBeatMeanwhileDropsNothing() throws {
        let harness = Harness()
        harness.submitBatch(1, lines: 1)
        harness.hello("w1", sequences: 1)
        let given = harness.takeGiven("w1")[0]
        harness.send(.cancel([harness.id(1)], reason: nil, request: RequestID(1)))
        let session = try #require(harness.sessions["w1"])
        let peer = try #require(harness.peers["w1"])
        let held = HeldAttempt(key: given.key, progress: 1)
        func beat() -> (cancelled: [AttemptKey], dropped: [AttemptKey]) {
            var told: (cancelled: [AttemptKey], dropped: [AttemptKey]) = ([], [])
            harness.send(.workerBeat(WorkerBeat(peer: peer, session: session, held: [held])))
            for action in harness.actions {
                if case .cancelAttempts(_, let keys, _) = action { told.cancelled += keys }
                if case .beatAck(_, let keys) = action { told.dropped += keys }
            }
            return told
        }
        #expect(beat() == ([given.key], []))
        #expect(harness.finish(given, .cancelled) == true)
        #expect(harness.store.results.values.map(\.state) == [.cancelled])
        // It has come: from now on the attempt is to be forgotten.
        #expect(beat() == ([], [given.key]))
    }

    @Test func aRetriedJobTakesNoPartialOfBefore() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.hello("w1", jobs: 2)
        let first = harness.takeGiven("w1")[0]
        harness.send(.cancel([harness.id(1)], reason: nil, request: RequestID(1)))
        harness.send(
            .retry(harness.id(1), scope: .failed, anyNumerics: false, request: RequestID(2)))
        #expect(harness.finish(first, .cancelled) == false)
        #expect(harness.store.results.isEmpty)
    }

    /// Found by the simulator (seeds 323, 881, 1442): the third generation took what the first had done for done.
    @Test func aRetryOfFailuresAfterAnUnfinishedRetryOfAllRunsTheRest() {
        let harness = Harness()
        harness.hello("w1", sequences: 3)
        harness.submitBatch(1, lines: 3)
        for assignment in harness.takeGiven("w1") { harness.finish(assignment) }
        #expect(harness.state(1) == .succeeded)
        harness.send(.retry(harness.id(1), scope: .all, anyNumerics: false, request: RequestID(1)))
        harness.load()
        harness.credit("w1", ["sequence": 4])
        harness.finish(harness.takeGiven("w1")[0])
        harness.send(.cancel([harness.id(1)], reason: nil, request: RequestID(2)))
        harness.send(
            .retry(harness.id(1), scope: .failed, anyNumerics: false, request: RequestID(3)))
        harness.load()
        harness.credit("w1", ["sequence": 10])
        let rest = harness.takeGiven("w1")
        #expect(rest.map(\.key.task.index) == [1, 2])
        for assignment in rest { harness.finish(assignment) }
        #expect(harness.state(1) == .succeeded && harness.counts(1)?.done == 3)
    }

    @Test func prunedJobsLeaveTheCountsAlsoWhenTheyAreNotInMemory() {
        var limits = Limits()
        limits.endedJobsKept = 1
        let harness = Harness(limits: limits)
        for number in 1...3 {
            harness.submit(harness.submission(number))
            harness.send(.cancel([harness.id(number)], reason: nil, request: RequestID(1)))
        }
        #expect(harness.core.jobCounts == [.cancelled: 3])
        harness.send(
            .prune(
                [1, 3].map { EndedJob(id: harness.id($0), state: .cancelled) }, tombstonesBefore: 0)
        )
        #expect(harness.core.jobCounts == [.cancelled: 1])
        // Asked for again before its commit is seen: it counts once (seed 1641).
        harness.send(
            .prune([EndedJob(id: harness.id(1), state: .cancelled)], tombstonesBefore: 0))
        #expect(harness.core.jobCounts == [.cancelled: 1])
        harness.restart()
        #expect(harness.core.jobCounts == [.cancelled: 1])
    }
}
