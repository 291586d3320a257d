import BrokerCore
import Testing

@Suite struct RestoringTests {
    @Test("KINDS 19: a worker that comes back keeps its work")
    func aWorkerThatComesBackKeepsItsWork() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.submitBatch(2, lines: 3)
        harness.hello("w1")
        let given = harness.takeGiven("w1")
        #expect(given.count == 4)
        harness.restart()
        #expect(harness.state(1) == .running)
        harness.pass(seconds: 20)
        harness.hello("w1", holding: given.map(\.key))
        guard case .welcome(_, let welcome)? = harness.actions.first else {
            Issue.record("no welcome")
            return
        }
        #expect(Set(welcome.keep) == Set(given.map(\.key)) && welcome.drop.isEmpty)
        for assignment in given { #expect(harness.finish(assignment) == true) }
        #expect(harness.state(1) == .succeeded && harness.state(2) == .succeeded)
        #expect(harness.store.results.values.allSatisfy { $0.attempt == 1 })
    }

    @Test func aResultOfTheOldSessionIsAcceptedByItsLease() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.hello("w1")
        let old = harness.sessions["w1"]
        let assignment = harness.takeGiven("w1")[0]
        harness.restart()
        harness.finish(assignment, session: old)
        #expect(harness.state(1) == .succeeded)
        // Sent again after HELLO: it may be forgotten.
        harness.hello("w1", holding: [assignment.key])
        #expect(harness.finish(assignment) == false)
    }

    @Test func aWorkerThatDoesNotComeBackLosesItsWorkAfterTheGrace() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.hello("w1")
        _ = harness.takeGiven("w1")
        harness.restart()
        harness.pass(seconds: 29)
        #expect(harness.counts(1)?.leased == 1)
        harness.pass(seconds: 3)
        #expect(harness.counts(1)?.leased == 0)
        harness.hello("w2")
        harness.pass(seconds: 2, alive: ["w2"])
        #expect(harness.takeGiven("w2").count == 1)
    }

    @Test("KINDS 20: an adopted workers death is seen before its hello")
    func anAdoptedWorkersDeathIsSeenBeforeItsHello() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.hello("w1")
        harness.restart()
        harness.exit("w1", pid: 100, signal: 9)
        #expect(harness.counts(1)?.leased == 0)
        #expect(harness.store.attempts.last?.outcome == "crash")
    }

    /// Found by the simulator (seed 2381): it was taken for a crash, and cost the task an attempt.
    @Test func anAdoptedWorkerThatIsEndedOnPurposeCostsNothing() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.hello("w1")
        harness.restart()
        harness.exit("w1", expected: true)
        #expect(harness.store.attempts.map(\.outcome) == ["preempted"])
        #expect(harness.store.tasks.values.first?.failures.crash == 0)
    }

    @Test func anUnknownSessionIsAskedToSayHello() {
        let harness = Harness()
        harness.hello("w1")
        let old = harness.sessions["w1"]
        harness.restart()
        guard let old, let peer = harness.peers["w1"] else { return }
        harness.send(.workerBeat(WorkerBeat(peer: peer, session: old, held: [])))
        #expect(
            harness.actions.contains { if case .unknownSession(peer) = $0 { true } else { false } })
    }

    @Test func splitsAndWindowsGoOnAfterAStart() {
        let harness = Harness()
        harness.submit(harness.submission(1, kind: "infer", lines: true))
        harness.send(
            .splitPart(
                harness.id(1), blocks: [],
                badLines: [
                    BadLine(
                        index: 0, number: 1, customID: nil, error: BrokerError(.badLine, .user, "x")
                    )
                ], references: []))
        harness.restart()
        #expect(harness.actions.contains { if case .split = $0 { true } else { false } })
        #expect(harness.store.results.isEmpty)
        harness.split(
            1, lines: 5,
            bad: [
                BadLine(
                    index: 0, number: 1, customID: nil, error: BrokerError(.badLine, .user, "x"))
            ])
        harness.hello("w1", sequences: 2)
        let given = harness.takeGiven("w1")
        #expect(given.map(\.key.task.index) == [1, 2])
        harness.finish(given[0])
        harness.restart()
        harness.load()
        harness.hello("w1", sequences: 9, holding: [given[1].key])
        // Neither what has ended nor what is held comes again.
        #expect(harness.takeGiven("w1").map(\.key.task.index) == [3, 4])
    }

    @Test("KINDS 15: strict refuses the whole file")
    func strictRefusesTheWholeFile() {
        let harness = Harness()
        var submission = harness.submission(1, kind: "infer", lines: true)
        submission.isStrict = true
        harness.submit(submission)
        harness.split(
            1, lines: 5,
            bad: [
                BadLine(
                    index: 3, number: 7, customID: "a", error: BrokerError(.badLine, .user, "twice")
                )
            ])
        #expect(harness.state(1) == .failed)
        #expect(harness.store.job(harness.id(1))?.status.error?.code == .invalidSpec)
        #expect(harness.store.results.values.first?.lineNumber == 7)
    }

    @Test("KINDS 21: cancel is durable and keeps what was done")
    func cancelIsDurableAndKeepsWhatWasDone() {
        let harness = Harness()
        harness.submitBatch(1, lines: 10)
        harness.hello("w1", sequences: 4)
        let given = harness.takeGiven("w1")
        harness.finish(given[0])
        harness.send(.cancel([harness.id(1)], reason: "enough", request: RequestID(1)))
        #expect(harness.reply(RequestID(1)) == .jobs([JobAnswer.ended(harness.id(1), .cancelled)]))
        #expect(harness.actions.contains { if case .cancelAttempts = $0 { true } else { false } })
        harness.restart()
        #expect(harness.state(1) == .cancelled && harness.store.tasks.isEmpty)
        #expect(harness.counts(1)?.done == 1 && harness.counts(1)?.cancelled == 9)
        #expect(harness.finish(given[1]) != true)
        #expect(harness.store.results.count == 1)
    }

    @Test("KINDS 21: a worker that does not give up a cancelled task is killed")
    func aWorkerThatDoesNotGiveUpACancelledTaskIsKilled() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.hello("w1")
        let given = harness.takeGiven("w1")
        harness.send(.cancel([harness.id(1)], reason: nil, request: RequestID(1)))
        harness.given["w1"] = given
        // It still moves: a step boundary may be far.
        harness.pass(seconds: 60, alive: ["w1"])
        #expect(!harness.actions.contains { if case .killWorker = $0 { true } else { false } })
        harness.pass(seconds: 22, alive: ["w1"], progress: 5)
        #expect(harness.actions.contains { if case .killWorker = $0 { true } else { false } })
    }
}

extension JobAnswer {
    static func ended(_ job: JobID, _ state: JobState) -> JobAnswer {
        JobAnswer(job: job, state: state, error: nil)
    }
}
