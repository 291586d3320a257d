import BrokerCore
import Testing

@Suite struct TaskTests {
    @Test("KINDS 19: one result is accepted per task")
    func oneResultIsAcceptedPerTask() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.hello("w1")
        let assignment = harness.takeGiven("w1")[0]
        #expect(harness.store.tasks[assignment.key.task]?.lease == assignment.key.lease)
        #expect(harness.core.accepts(assignment.key))
        #expect(harness.finish(assignment) == true)
        #expect(!harness.core.accepts(assignment.key))
        #expect(harness.finish(assignment) == false)
        #expect(harness.store.results.count == 1)
        #expect(harness.state(1) == .succeeded)
    }

    @Test("KINDS 19: late results are refused by token")
    func lateResultsAreRefusedByToken() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.hello("w1")
        let assignment = harness.takeGiven("w1")[0]
        let session = harness.sessions["w1"]
        // Silent past its lease.
        harness.pass(seconds: 12)
        #expect(harness.counts(1)?.leased == 0)
        #expect(harness.store.tasks[assignment.key.task]?.failures.lost == 1)
        #expect(harness.finish(assignment, session: session) == nil)
        #expect(harness.store.results.isEmpty)
        harness.hello("w1", holding: [assignment.key])
        guard case .welcome(_, let welcome)? = harness.actions.first else {
            Issue.record("no welcome")
            return
        }
        #expect(welcome.keep.isEmpty && welcome.drop == [assignment.key])
    }

    @Test("KINDS 19: busy is not silent")
    func busyIsNotSilent() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.hello("w1")
        let assignment = harness.takeGiven("w1")[0]
        harness.given["w1"] = [assignment]
        // Ten hours, beating and making headway: nothing ends it.
        for _ in 0..<600 {
            harness.now += 59_000_000_000
            harness.pass(seconds: 1, alive: ["w1"])
        }
        #expect(harness.core.accepts(assignment.key))
        #expect(harness.finish(assignment) == true)
    }

    @Test("KINDS 22: a gap of the broker counts for nothing")
    func aGapOfTheBrokerCountsForNothing() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.hello("w1")
        let assignment = harness.takeGiven("w1")[0]
        harness.given["w1"] = [assignment]
        harness.pass(seconds: 5, alive: ["w1"])
        // Suspended for a day; no beat could be heard.
        harness.now += 86_400_000_000_000
        harness.send(.tick)
        #expect(harness.core.accepts(assignment.key))
        harness.pass(seconds: 5, alive: ["w1"])
        #expect(harness.core.accepts(assignment.key))
    }

    @Test("KINDS 19: standing still is hung")
    func standingStillIsHung() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.hello("w1")
        let assignment = harness.takeGiven("w1")[0]
        harness.given["w1"] = [assignment]
        harness.pass(seconds: 55, alive: ["w1"], progress: 7)
        #expect(!harness.actions.contains { if case .cancelAttempts = $0 { true } else { false } })
        harness.pass(seconds: 10, alive: ["w1"], progress: 7)
        #expect(
            harness.actions.contains {
                if case .cancelAttempts(_, _, "hung") = $0 { true } else { false }
            })
        // It does not obey: its process goes.
        harness.pass(seconds: 21, alive: ["w1"], progress: 7)
        #expect(
            harness.actions.contains { if case .killWorker("w1", _) = $0 { true } else { false } })
        harness.exit("w1")
        #expect(harness.counts(1)?.backoff == 1)
        #expect(harness.store.tasks[assignment.key.task]?.failures.timeout == 1)
        #expect(harness.store.attempts.last?.error?.code == .hung)
    }

    @Test func whatWaitsInsideTheWorkerIsNotHung() {
        let harness = Harness()
        harness.submitBatch(1, lines: 2)
        harness.hello("w1", sequences: 2)
        let both = harness.takeGiven("w1")
        guard let session = harness.sessions["w1"], let peer = harness.peers["w1"] else { return }
        for second in 1...200 {
            harness.now += 1_000_000_000
            // The first line moves, the second has not begun.
            harness.send(
                .workerBeat(
                    WorkerBeat(
                        peer: peer, session: session,
                        held: [
                            HeldAttempt(key: both[0].key, progress: Int64(second)),
                            HeldAttempt(key: both[1].key, progress: 0),
                        ])))
            harness.send(.tick)
        }
        #expect(harness.core.accepts(both[1].key))
        #expect(harness.counts(1)?.leased == 2)
    }

    @Test("KINDS 22: a wall clock that is set, forth or back, changes no lease, no wait and no cap")
    func clockStepsChangeNothing() {
        for step in [Int64(86_400_000), -86_400_000, 5_000, -5_000] {
            let harness = Harness()
            var capped = harness.submission(1)
            capped.maximumSeconds = 100
            harness.submit(capped)
            harness.hello("w1", jobs: 2)
            let held = harness.takeGiven("w1")[0]
            harness.submit(harness.submission(2))
            let failing = harness.takeGiven("w1")[0]
            harness.given["w1"] = [held]
            harness.finish(failing, .error(BrokerError(.badState, .retryable, "busy")))
            harness.wallOffset = step
            harness.send(.tick)
            // Neither at once nor never.
            #expect(harness.core.accepts(held.key))
            #expect(harness.reason(2) == "BACKOFF")
            harness.credit("w1", ["job": 3])
            harness.pass(seconds: 2, alive: ["w1"])
            #expect(harness.takeGiven("w1").map(\.key.task.job).contains(harness.id(2)))
            harness.given["w1"] = [held]
            harness.pass(seconds: 90, alive: ["w1"])
            #expect(harness.state(1) == .running)
            harness.pass(seconds: 10, alive: ["w1"])
            #expect(harness.state(1) == .failed)
            #expect(harness.store.job(harness.id(1))?.status.error?.code == .timeout)
        }
    }

    @Test func failuresHaveTheirOwnBudgets() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.hello("w1", jobs: 100)
        // User errors are final at once.
        harness.finish(harness.takeGiven("w1")[0], .error(BrokerError(.badLine, .user, "bad")))
        #expect(harness.state(1) == .failed)
        harness.submit(harness.submission(2))
        var waits: [Int] = []
        for _ in 0..<4 {
            harness.finish(
                harness.takeGiven("w1")[0], .error(BrokerError(.badState, .retryable, "busy")))
            #expect(harness.state(2) == .queued && harness.reason(2) == "BACKOFF")
            waits.append(
                harness.store.tasks[TaskID(job: harness.id(2), index: 0)]?.backoffMilliseconds ?? 0)
            harness.pass(seconds: 130, alive: ["w1"])
        }
        for (place, wait) in waits.enumerated() {
            #expect((500 << place...1000 << place).contains(wait), "\(wait)")
        }
        harness.finish(
            harness.takeGiven("w1")[0], .error(BrokerError(.badState, .retryable, "busy")))
        #expect(harness.state(2) == .failed)
        #expect(harness.store.job(harness.id(2))?.status.error?.message == "busy")
    }

    @Test("KINDS 20: a task that kills its workers is set aside with evidence")
    func aTaskThatKillsItsWorkersIsSetAsideWithEvidence() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        for pid in Int32(100)..<103 {
            harness.hello("w1", pid: pid)
            harness.pass(seconds: 61, alive: ["w1"])
            #expect(harness.takeGiven("w1").count == 1)
            harness.exit("w1", pid: pid, signal: 11, log: "illegal memory reference")
        }
        #expect(harness.state(1) == .failed && harness.counts(1)?.dead == 1)
        let crashes = harness.store.attempts.filter { $0.outcome == "crash" }
        #expect(crashes.count == 3)
        #expect(
            crashes.allSatisfy { $0.exit?.status == .signaled(11) && $0.exit?.peakBytes == 12345 })
        // Who asks for the job sees it too.
        let told = harness.store.job(harness.id(1))?.status.error
        #expect(told?.details["signal"] == .integer(11))
        #expect(told?.details["peak_bytes"] == .integer(12345))
        #expect(told?.details["last_log"] == .text("illegal memory reference"))
        #expect(crashes.last?.exit?.lastLog == "illegal memory reference")
        #expect(harness.store.job(harness.id(1))?.status.error?.code == .workerDied)
        // It can be sent again.
        harness.send(
            .retry(harness.id(1), scope: .failed, anyNumerics: false, request: RequestID(1)))
        harness.hello("w1", pid: 104)
        let again = harness.takeGiven("w1")
        #expect(again.count == 1 && again[0].key.attempt == 4 && again[0].generation == 2)
    }

    @Test func aRetryOfABatchWhoseOtherLinesWereRefusedSaysThatTheyMustBeSubmitted() throws {
        let harness = Harness()
        harness.submit(harness.submission(1, kind: "infer", lines: true))
        let error = BrokerError(.unknownArtifact, .user, "M:late is not registered")
        harness.split(
            1, lines: 2, bad: [BadLine(index: 1, number: 2, customID: "b", error: error)])
        harness.hello("w1", sequences: 2)
        for given in harness.takeGiven("w1") { harness.finish(given) }
        #expect(harness.state(1) == .succeeded)
        harness.send(
            .retry(harness.id(1), scope: .failed, anyNumerics: false, request: RequestID(77)))
        guard case .failed(let refusal)? = harness.reply(RequestID(77)) else {
            Issue.record("not refused")
            return
        }
        #expect(refusal.message.contains("1 were refused when it was read"))
        #expect(refusal.hint?.contains("submit them as a new job") == true)
        #expect(refusal.hint?.contains("--all") == false)
    }

    @Test("KINDS 20: those in hand of a dead worker go back at no cost and run alone")
    func thoseInHandOfADeadWorkerGoBackAtNoCostAndRunAlone() {
        let harness = Harness()
        harness.submitBatch(1, lines: 6)
        harness.hello("w1", sequences: 4)
        #expect(harness.takeGiven("w1").count == 4)
        harness.exit("w1")
        #expect(harness.counts(1)?.backoff == 0)
        #expect(harness.store.tasks.values.count { $0.isSuspect } == 4)
        #expect(harness.store.tasks.values.allSatisfy { $0.failures.crash == 0 })
        // One at a time, each alone; then the others together.
        harness.hello("w1", pid: 101, sequences: 4)
        var sent = 4
        for _ in 0..<4 {
            let given = harness.takeGiven("w1")
            #expect(given.count == 1)
            sent += 1
            harness.finish(given[0])
            harness.credit("w1", ["sequence": sent])
        }
        #expect(harness.takeGiven("w1").count == 2)
    }

    @Test("KINDS 20: a death for want of memory is told as such")
    func aDeathForWantOfMemoryIsTold() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.hello("w1")
        var exit = ProcessExit(
            instance: "w1", pid: 100, status: .signaled(9), peakBytes: 3 << 30, lastLog: "step 7\n")
        exit.isOutOfMemory = true
        harness.send(.workerExited(exit))
        let error = harness.store.attempts.last?.error
        #expect(error?.message.contains("the kernel ran out of memory") == true)
        #expect(error?.details["cause"] == .text("out of memory"))
        #expect(error?.details["peak_bytes"] == .integer(3 << 30))
        #expect(error?.details["last_log"] == .text("step 7"))
    }

    @Test("KINDS 20: only the guilty dies")
    func onlyTheGuiltyDies() {
        let harness = Harness()
        harness.submitBatch(1, lines: 4)
        var pid: Int32 = 100
        harness.hello("w1", pid: pid, sequences: 4)
        for _ in 0..<200 where harness.state(1) != .succeeded {
            let given = harness.takeGiven("w1")
            if given.contains(where: { $0.key.task.index == 2 }) {
                harness.exit("w1", pid: pid)
                pid += 1
                harness.hello("w1", pid: pid, sequences: 4)
                continue
            }
            for assignment in given { harness.finish(assignment) }
            harness.credit("w1", ["sequence": 1000])
            harness.pass(seconds: 30, alive: ["w1"])
        }
        #expect(harness.counts(1)?.done == 3 && harness.counts(1)?.dead == 1)
        #expect(
            harness.store.results.values.first { $0.state == .dead }?.task.index == 2)
    }

    @Test func deferCostsNothing() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.hello("w1")
        let assignment = harness.takeGiven("w1")[0]
        guard let session = harness.sessions["w1"], let peer = harness.peers["w1"] else { return }
        harness.send(
            .workerDefer(
                peer: peer, session: session, tasks: [assignment.key], reason: "no memory",
                retryAfterMilliseconds: 4000))
        #expect(harness.reason(1) == "BACKOFF")
        #expect(
            harness.core.explain(harness.id(1), at: harness.moment)?.message.contains("no memory")
                == true)
        harness.credit("w1", ["job": 2])
        harness.pass(seconds: 5, alive: ["w1"])
        #expect(harness.takeGiven("w1").count == 1)
        #expect(harness.store.tasks.values.first?.failures == FailureCounts())
    }

    @Test func preemptedWorkGoesBackFree() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.hello("w1", jobs: 5)
        harness.send(.hold([harness.id(1)], request: RequestID(9)))
        #expect(harness.actions.contains { if case .preemptAttempts = $0 { true } else { false } })
        #expect(harness.state(1) == .held)
        harness.finish(harness.takeGiven("w1")[0], .preempted)
        #expect(harness.state(1) == .held && harness.takeGiven("w1").isEmpty)
        harness.send(.release([harness.id(1)], request: RequestID(10)))
        #expect(harness.takeGiven("w1").count == 1 && harness.state(1) == .running)
    }

    @Test func theCapThatAJobAsksForEndsIt() {
        let harness = Harness()
        var submission = harness.submission(1)
        submission.maximumSeconds = 30
        harness.submit(submission)
        harness.hello("w1")
        harness.given["w1"] = harness.takeGiven("w1")
        harness.pass(seconds: 29, alive: ["w1"])
        #expect(harness.state(1) == .running)
        harness.pass(seconds: 2, alive: ["w1"])
        #expect(harness.state(1) == .failed)
        #expect(harness.store.job(harness.id(1))?.status.error?.code == .timeout)
    }
}
