import BrokerCore
import Testing

/// The bound that docs/states.md states for the delay that a bulk job may cause, on one worker and a virtual clock.
@Suite struct FairnessTests {
    private static let bulk = 1
    /// Credits that other work got before the last line of a small job was given out.
    private func delay(
        small lines: Int, tenant: String, priority: Int = 0, bulkTenants: [String] = ["a"],
        warm: Bool = false
    ) -> Int {
        let harness = Harness()
        harness.hello("w1", sequences: 0)
        for (place, name) in bulkTenants.enumerated() {
            harness.submitBatch(Self.bulk + place, lines: 1_000_000) { $0.tenant = name }
        }
        var given = 0
        func giveOne() -> Assignment? {
            given += 1
            harness.credit("w1", ["sequence": given])
            harness.load()
            let assignment = harness.takeGiven("w1").last
            if let assignment { harness.finish(assignment) }
            harness.load()
            return assignment
        }
        // The bulk has been at work for a while.
        for _ in 0..<500 { _ = giveOne() }
        harness.submitBatch(100, lines: lines) {
            $0.tenant = tenant
            $0.priority = priority
        }
        var others = 0
        var mine = 0
        while mine < lines, others < 10_000 {
            if giveOne()?.key.task.job == harness.id(100) { mine += 1 } else { others += 1 }
        }
        return others
    }

    @Test("KINDS 23: a million lines delay another tenant by its share and one line in sixteen")
    func anotherTenantHasItsShare() {
        #expect(delay(small: 1, tenant: "b") <= 2)
        // 200 lines: as many of the bulk, and what goes to the oldest.
        #expect(delay(small: 200, tenant: "b") <= 200 + 400 / 16 + 2)
        // With three bulk tenants each has a fourth.
        #expect(
            delay(small: 200, tenant: "b", bulkTenants: ["a", "c", "d"]) <= 3 * 200 + 800 / 16 + 4)
    }

    @Test(
        "KINDS 23: a million lines delay a small job of the same tenant no longer than one of another"
    )
    func aSmallJobOfTheSameTenantTakesTurns() {
        #expect(delay(small: 1, tenant: "a") <= 2)
        #expect(delay(small: 200, tenant: "a") <= 200 + 400 / 16 + 2)
    }

    @Test("KINDS 23: of a higher priority all goes first, but for one line in sixteen")
    func aHigherPriorityGoesFirst() {
        #expect(delay(small: 200, tenant: "a", priority: 1) <= 200 / 15 + 2)
    }

    @Test("KINDS 23: small jobs do not starve the bulk")
    func theBulkGoesOn() {
        let harness = Harness()
        harness.hello("w1", sequences: 0)
        harness.submitBatch(1, lines: 100_000)
        for number in 2..<40 { harness.submitBatch(number, lines: 10) }
        var ofBulk = 0
        for credit in 1...300 {
            harness.credit("w1", ["sequence": credit])
            harness.load()
            if harness.takeGiven("w1").last?.key.task.job == harness.id(1) { ofBulk += 1 }
        }
        #expect(ofBulk >= 150)
    }

    // MARK: Explain

    @Test("KINDS 23: explain names what is ahead, in order of service")
    func explainNamesWhatIsAhead() {
        let harness = Harness()
        harness.hello("w1", jobs: 1)
        for (number, priority) in [(1, 0), (2, 5), (3, 5), (4, 0), (5, 0)] {
            var submission = harness.submission(number, kind: number == 3 ? "prepare" : "finetune")
            submission.priority = priority
            harness.submit(submission)
        }
        #expect(harness.reason(1) == "RUNNING")
        let next = harness.core.explain(harness.id(2), at: harness.moment)
        #expect(next?.code == "NO_CREDIT" && next?.details["ahead"] == .integer(0))
        #expect(next?.details["running"] == .list([harness.id(1).text]))
        let last = harness.core.explain(harness.id(5), at: harness.moment)
        #expect(last?.code == "QUEUED_BEHIND" && last?.details["ahead"] == .integer(3))
        #expect(last?.details["ahead_by_priority"] == .integer(2))
        #expect(last?.details["behind"] == .text(harness.id(2).text))
        // It is true: that many go first.
        var order: [JobID] = []
        for credit in 2...5 {
            harness.credit("w1", ["job": credit])
            order += harness.takeGiven("w1").map(\.key.task.job)
        }
        #expect(order == [1, 2, 3, 4, 5].map(harness.id))
    }

    @Test("KINDS 23: a batch so far back that its lines are not read yet waits for those ahead")
    func explainFarBack() {
        let harness = Harness()
        harness.hello("w1", sequences: 0)
        for number in 1...70 { harness.submitBatch(number, lines: 10) }
        let far = harness.core.explain(harness.id(70), at: harness.moment)
        #expect(far?.code == "QUEUED_BEHIND" && far?.details["ahead"] == .integer(69))
    }

    // MARK: Urgent work

    private func preempted(_ harness: Harness) -> [TaskID] {
        harness.actions.flatMap { action -> [TaskID] in
            if case .preemptAttempts(_, let keys, _) = action { keys.map(\.task) } else { [] }
        }
    }

    @Test func anUrgentJobTakesThePlaceOfARunningOneWhichGoesOnLater() throws {
        let harness = Harness()
        harness.hello("w1", jobs: 1)
        harness.submit(harness.submission(1))
        let first = try #require(harness.takeGiven("w1").first)
        var other = harness.submission(2)
        other.priority = 49
        harness.submit(other)
        #expect(preempted(harness).isEmpty, "less than the stated gap")
        var urgent = harness.submission(3, kind: "prepare")
        urgent.priority = 50
        harness.submit(urgent)
        #expect(preempted(harness) == [first.key.task])
        harness.send(.tick)
        #expect(preempted(harness).isEmpty, "asked once")
        harness.finish(first, .preempted)
        harness.credit("w1", ["job": 2])
        let second = try #require(harness.takeGiven("w1").first)
        #expect(second.key.task.job == harness.id(3))
        harness.finish(second)
        harness.credit("w1", ["job": 3])
        harness.finish(try #require(harness.takeGiven("w1").first))
        harness.credit("w1", ["job": 4])
        let again = try #require(harness.takeGiven("w1").first)
        #expect(again.key.task == first.key.task && again.key.attempt == 2)
        harness.finish(again)
        #expect([1, 2, 3].allSatisfy { harness.state($0) == .succeeded })
        #expect(harness.store.attempts.map(\.outcome) == ["preempted", "ok", "ok", "ok"])
    }

    // MARK: Upgrades

    @Test func anUpgradeLosesNothingAndNoJobWaitsForNumericsThatAreGone() throws {
        let harness = Harness()
        harness.submitBatch(1, lines: 4)
        harness.hello("w1", numerics: "old", sequences: 2)
        let begun = harness.takeGiven("w1")
        harness.finish(begun[0])
        // The old version is drained: what it holds comes to its end, nothing more is given to it.
        harness.send(.drain(worker: "w1", request: RequestID(1)))
        harness.finish(begun[1])
        let (peer, session) = (
            try #require(harness.peers["w1"]), try #require(harness.sessions["w1"])
        )
        harness.send(.workerBye(peer: peer, session: session))
        harness.exit("w1", expected: true)
        harness.hello("w1", pid: 101, numerics: "new", sequences: 4)
        #expect(harness.takeGiven("w1").isEmpty)
        #expect(harness.reason(1) == "NUMERICS_UNAVAILABLE")
        harness.pass(seconds: 601, alive: ["w1"])
        #expect(harness.state(1) == .failed && harness.counts(1)?.done == 2)
        #expect(harness.store.job(harness.id(1))?.status.error?.code == .numericsUnavailable)
        harness.send(
            .retry(harness.id(1), scope: .failed, anyNumerics: true, request: RequestID(2)))
        harness.load()
        let rest = harness.takeGiven("w1")
        #expect(rest.map(\.key.task.index).sorted() == [2, 3])
        for assignment in rest { harness.finish(assignment) }
        #expect(harness.state(1) == .succeeded && harness.counts(1)?.done == 4)
    }
}
