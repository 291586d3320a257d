import BrokerCore
import Testing

@Suite struct SubmittingTests {
    @Test func sameIdAndDigestGivesTheFirstAnswerAgain() {
        let harness = Harness()
        let first = harness.submit(harness.submission(1))
        #expect(first.first?.state == .queued && first.first?.isDuplicate == false)
        let again = harness.submit(harness.submission(1))
        #expect(again.first?.isDuplicate == true && again.first?.error == nil)
        #expect(harness.store.jobs.count == 1)
        var other = harness.submission(1)
        other.digest = Harness.digest(99)
        #expect(harness.submit(other).first?.error?.code == .conflict)
    }

    @Test func jobsThatOnlyTheStoreKnowsAreLookedUp() {
        var limits = Limits()
        limits.endedJobsKept = 0
        let harness = Harness(limits: limits)
        harness.submit(harness.submission(1), harness.submission(2))
        harness.send(.cancel([harness.id(1), harness.id(2)], reason: nil, request: RequestID(1)))
        #expect(harness.core.job(harness.id(1)) == nil)
        // The answer waits for the store.
        #expect(harness.submit(harness.submission(1)).isEmpty)
        guard case .lookUpJobs(let lookup, let ids)? = harness.actions.last else {
            Issue.record("no look-up")
            return
        }
        #expect(ids == [harness.id(1)])
        let found = ids.compactMap { harness.store.job($0) }
        harness.send(.jobsFound(lookup: lookup, found: found, pruned: []))
        guard case .reply(_, .submitted(let answers))? = harness.actions.first else {
            Issue.record("no reply")
            return
        }
        #expect(answers.first?.isDuplicate == true && answers.first?.state == .cancelled)
    }

    @Test func prunedIdsAreGone() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.send(.cancel([harness.id(1)], reason: nil, request: RequestID(1)))
        harness.send(.prune([EndedJob(id: harness.id(1), state: .succeeded)], tombstonesBefore: 0))
        #expect(harness.store.tombstones == [harness.id(1)])
        harness.submit(harness.submission(1))
        guard case .lookUpJobs(let lookup, _)? = harness.actions.last else {
            Issue.record("no look-up")
            return
        }
        harness.send(.jobsFound(lookup: lookup, found: [], pruned: [harness.id(1)]))
        guard case .reply(_, .submitted(let answers))? = harness.actions.first else {
            Issue.record("no reply")
            return
        }
        #expect(answers.first?.error?.code == .gone)
        #expect(harness.store.jobs.isEmpty)
        // Ids older than the horizon are gone even without a tombstone.
        harness.send(.prune([], tombstonesBefore: harness.id(5).millisecondsSince1970))
        #expect(harness.submit(harness.submission(4)).first?.error?.code == .gone)
        #expect(harness.submit(harness.submission(6)).first?.error == nil)
    }

    @Test func unfinishedJobsAreNeverPruned() {
        let harness = Harness()
        harness.submit(harness.submission(1))
        harness.send(.prune([EndedJob(id: harness.id(1), state: .queued)], tombstonesBefore: 0))
        #expect(harness.state(1) == .queued)
    }

    @Test func limitsAndUnknownThingsAreRefusedByName() {
        var limits = Limits()
        limits.unfinishedJobs = 2
        let harness = Harness(limits: limits)
        #expect(
            harness.submit(harness.submission(1, kind: "dance")).first?.error?.code == .unknownKind)
        var lost = harness.submission(2)
        lost.references = ["M:A"]
        #expect(harness.submit(lost).first?.error?.code == .unknownArtifact)
        lost.references = ["../etc"]
        #expect(harness.submit(lost).first?.error?.code == .invalidSpec)
        var orphan = harness.submission(3)
        orphan.after = [Dependency(job: harness.id(50), mode: .success)]
        #expect(harness.submit(orphan).first?.error?.code == .unknownJob)
        var eager = harness.submission(4)
        eager.priority = 101
        #expect(harness.submit(eager).first?.error?.code == .invalidSpec)
        harness.submit(harness.submission(5), harness.submission(6))
        let refused = harness.submit(harness.submission(7)).first?.error
        #expect(refused?.code == .limit && refused?.retryAfterMilliseconds != nil)
    }

    @Test("KINDS 14: names are not paths")
    func namesAreNotPaths() {
        for text in [
            "", "a/b", "..", ".a", "a:b:c", "M:", ":A", "M@0", "M@01", "M@x", "M#", "M A", "é",
        ] {
            #expect(ArtifactReference(text: text) == nil, "\(text)")
        }
        #expect(ArtifactReference(text: "M:A@3")?.selector == .version(3))
        #expect(ArtifactReference(text: "M:A#best")?.selector == .tag("best"))
        #expect(ArtifactReference(text: String(repeating: "a", count: 65)) == nil)
    }

    @Test func idsAreReadStrictly() {
        #expect(
            JobID(text: "0199d8a4-0000-7000-8000-000000000001")?.text
                == "0199d8a4-0000-7000-8000-000000000001")
        for text in [
            "0199D8A4-0000-7000-8000-000000000001", "0199d8a4-0000-4000-8000-000000000001",
            "0199d8a400007000-8000-000000000001", "0199d8a4-0000-7000-c000-000000000001", "",
        ] {
            #expect(JobID(text: text) == nil, "\(text)")
        }
        #expect(TaskID(text: "0199d8a4-0000-7000-8000-000000000001/07") == nil)
        #expect(TaskID(text: "0199d8a4-0000-7000-8000-000000000001/7")?.index == 7)
    }
}
