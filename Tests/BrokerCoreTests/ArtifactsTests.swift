import BrokerCore
import Testing

@Suite struct ArtifactsTests {
    /// Registers a version of `name` through a job that produces it.
    static func register(_ harness: Harness, _ name: String, _ number: Int) {
        var submission = harness.submission(number, kind: "prepare")
        submission.produces = [ProducedArtifact(type: "adapter", name: name)]
        if harness.core.artifact("M") != nil, name != "M" { submission.references = ["M"] }
        harness.submit(submission)
        harness.hello("registrar", pid: 900, kinds: ["prepare"], jobs: 1)
        guard let assignment = harness.takeGiven("registrar").last else {
            Issue.record("not dispatched")
            return
        }
        harness.finish(assignment, instance: "registrar") {
            $0.artifacts = [
                ReportedArtifact(
                    type: name == "M" ? "model" : "adapter", name: name,
                    digest: Harness.digest(number),
                    bytes: 1, path: "/p/\(number)", meta: [])
            ]
        }
        harness.exit("registrar", pid: 900, expected: true)
    }

    @Test func versionsAreAssignedWithTheResultAndNeverUsedTwice() {
        let harness = Harness()
        Self.register(harness, "M", 500)
        Self.register(harness, "M:A", 501)
        Self.register(harness, "M:A", 502)
        #expect(harness.core.artifact("M:A")?.version == 2)
        #expect(harness.core.artifact("M:A@1")?.digest == Harness.digest(501))
        #expect(harness.core.artifact("M:A")?.parentVersion == 1)
        harness.send(.removeArtifact(reference: "M:A@2", force: false, request: RequestID(1)))
        #expect(harness.reply(RequestID(1)) == .removed(["M:A@2"]))
        Self.register(harness, "M:A", 503)
        #expect(harness.core.artifact("M:A")?.version == 3)
        harness.restart()
        Self.register(harness, "M:A", 504)
        #expect(harness.core.artifact("M:A")?.version == 4)
    }

    @Test func anAdapterMadeOfAnAdapterBelongsToTheSameVersionOfTheBase() {
        let harness = Harness()
        Self.register(harness, "M", 500)
        Self.register(harness, "M:A", 501)
        Self.register(harness, "M", 502)
        var submission = harness.submission(1, kind: "prepare")
        submission.references = ["M:A"]
        submission.produces = [ProducedArtifact(type: "adapter", name: "M:B")]
        harness.submit(submission)
        harness.hello("w1", kinds: ["prepare"], jobs: 1)
        guard let assignment = harness.takeGiven("w1").last else {
            Issue.record("not dispatched")
            return
        }
        #expect(assignment.artifacts.map(\.artifact.reference) == ["M@1", "M:A@1"])
        harness.finish(assignment, instance: "w1") {
            $0.artifacts = [
                ReportedArtifact(
                    type: "adapter", name: "M:B", digest: Harness.digest(503), bytes: 1,
                    path: "/p/503", meta: [])
            ]
        }
        #expect(harness.core.artifact("M")?.version == 2)
        #expect(harness.core.artifact("M:B")?.parentVersion == 1)
    }

    @Test("KINDS 13: a bare name is pinned for the whole job")
    func aBareNameIsPinnedForTheWholeJob() {
        let harness = Harness()
        Self.register(harness, "M", 500)
        Self.register(harness, "M:A", 501)
        harness.submit(harness.submission(1, kind: "infer", lines: true))
        harness.send(.splitPart(harness.id(1), blocks: [], badLines: [], references: ["M:A"]))
        harness.send(.splitFinished(harness.id(1), lines: 2))
        harness.load(references: ["M:A"])
        // A newer version changes nothing for a job that is bound, not even after a restart.
        Self.register(harness, "M:A", 502)
        harness.restart()
        harness.load(references: ["M:A"])
        harness.hello("w1")
        let given = harness.takeGiven("w1")
        #expect(given.count == 2)
        for assignment in given {
            #expect(assignment.artifacts.map(\.reference) == ["M", "M:A"])
            #expect(assignment.artifacts.map(\.artifact.reference) == ["M@1", "M:A@1"])
        }
    }

    @Test func whatAnUnfinishedJobNeedsIsNotRemoved() {
        let harness = Harness()
        Self.register(harness, "M", 500)
        Self.register(harness, "M:A", 501)
        var submission = harness.submission(1)
        submission.references = ["M:A"]
        harness.submit(submission)
        func remove(_ reference: String, force: Bool = false) -> Reply? {
            let request = harness.newRequest()
            harness.send(.removeArtifact(reference: reference, force: force, request: request))
            return harness.reply(request)
        }
        guard case .failed(let error)? = remove("M:A") else {
            Issue.record("removed")
            return
        }
        #expect(error.code == .inUse && error.details["job"] == .text(harness.id(1).text))
        guard case .failed(let base)? = remove("M", force: true) else {
            Issue.record("removed")
            return
        }
        #expect(base.code == .inUse)
        harness.send(.cancel([harness.id(1)], reason: nil, request: RequestID(77)))
        guard case .failed(let children)? = remove("M") else {
            Issue.record("removed with adapters")
            return
        }
        #expect(children.code == .inUse && children.details["adapters"] == .list(["M:A@1"]))
        #expect(remove("M", force: true) == .removed(["M:A@1", "M@1"]))
        #expect(harness.store.artifacts.isEmpty)
        guard case .failed(let gone)? = remove("M") else { return }
        #expect(gone.code == .unknownArtifact)
    }

    @Test("KINDS 15: a line that names nothing fails alone by name")
    func aLineThatNamesNothingFailsAloneByName() {
        let harness = Harness()
        harness.submitBatch(1, lines: 0 + 3)
        harness.submit(harness.submission(2, kind: "infer", lines: true))
        harness.send(.splitPart(harness.id(2), blocks: [], badLines: [], references: ["M:X"]))
        harness.send(.splitFinished(harness.id(2), lines: 2))
        harness.load(references: ["M:X"])
        #expect(harness.state(2) == .failed && harness.counts(2)?.failed == 2)
        let errors = harness.store.results.values.filter { $0.task.job == harness.id(2) }
        #expect(errors.allSatisfy { $0.error?.code == .unknownArtifact && $0.lineNumber != nil })
        #expect(harness.state(1) == .queued)
    }

    @Test func tagsMoveAndResolve() {
        let harness = Harness()
        Self.register(harness, "M", 500)
        Self.register(harness, "M", 501)
        func tag(_ reference: String, _ tag: String, remove: Bool = false) {
            harness.send(
                .tag(reference: reference, tag: tag, remove: remove, request: harness.newRequest()))
        }
        tag("M@1", "best")
        #expect(harness.core.artifact("M#best")?.version == 1)
        tag("M", "best")
        harness.restart()
        #expect(harness.core.artifact("M#best")?.version == 2)
        tag("M@2", "best", remove: true)
        harness.restart()
        #expect(harness.core.artifact("M#best") == nil)
    }
}
