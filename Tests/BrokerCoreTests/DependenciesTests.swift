import BrokerCore
import Testing

@Suite struct DependenciesTests {
    private func after(
        _ harness: Harness, _ number: Int, _ other: Int, _ mode: DependencyMode = .success,
        _ condition: DependencyCondition? = nil
    ) -> Submission {
        var submission = harness.submission(number)
        submission.after = [Dependency(job: harness.id(other), mode: mode, condition: condition)]
        return submission
    }

    @Test func aJobWaitsForTheOneBefore() {
        let harness = Harness()
        harness.submit(harness.submission(1), after(harness, 2, 1))
        #expect(harness.state(2) == .waiting && harness.reason(2) == "DEPENDENCY")
        harness.hello("w1")
        harness.finish(harness.takeGiven("w1")[0])
        #expect(harness.state(1) == .succeeded && harness.state(2) == .queued)
        harness.credit("w1", ["job": 2])
        #expect(harness.takeGiven("w1").first?.key.task.job == harness.id(2))
    }

    @Test func aFailureEndsTheWholeChainAndIsNamed() {
        let harness = Harness()
        harness.submit(
            harness.submission(1), after(harness, 2, 1), after(harness, 3, 2),
            after(harness, 4, 1, .finish))
        harness.hello("w1")
        harness.finish(
            harness.takeGiven("w1")[0], .error(BrokerError(.invalidSpec, .user, "no labels")))
        #expect(harness.state(1) == .failed)
        #expect(harness.state(2) == .dependencyFailed && harness.state(3) == .dependencyFailed)
        #expect(harness.state(4) == .queued)
        let error = harness.store.job(harness.id(2))?.status.error
        #expect(error?.details["job"] == .text(harness.id(1).text))
        #expect(error?.message.contains("no labels") == true)
    }

    @Test func conditionsReadMetrics() {
        let harness = Harness()
        func when(_ comparison: ComparisonOperator, _ value: Double, _ metric: String = "loss")
            -> DependencyCondition
        { DependencyCondition(metric: metric, comparison: comparison, value: value) }
        harness.submit(
            harness.submission(1), after(harness, 2, 1, .success, when(.less, 2)),
            after(harness, 3, 1, .success, when(.greater, 2)),
            after(harness, 4, 1, .success, when(.less, 2, "accuracy")), after(harness, 5, 3))
        harness.hello("w1")
        harness.finish(harness.takeGiven("w1")[0]) { $0.metrics = ["loss": 1.5] }
        #expect(harness.state(2) == .queued)
        #expect(harness.state(3) == .skipped && harness.state(5) == .skipped)
        #expect(harness.state(4) == .dependencyFailed)
        // Also when the one before ended long ago.
        harness.submit(after(harness, 6, 1, .success, when(.greaterOrEqual, 1.6)))
        #expect(harness.state(6) == .skipped)
        #expect(
            !ComparisonOperator.lessOrEqual.holds(.nan, 1)
                && !ComparisonOperator.equal.holds(.nan, .nan))
    }

    @Test func aLongChainEndsWithoutDeepRecursion() {
        var limits = Limits()
        limits.submissionsPerMessage = 100_000
        let harness = Harness(limits: limits)
        let request = harness.newRequest()
        let chain = (1...50_000).map {
            $0 == 1 ? harness.submission(1) : after(harness, $0, $0 - 1)
        }
        var step = harness.core.step(.submit(chain, request: request), at: harness.moment)
        step = harness.core.step(
            .cancel([harness.id(1)], reason: nil, request: request), at: harness.moment)
        #expect(step.actions.count { if case .jobEnded = $0 { true } else { false } } == 50_000)
    }

    @Test func anAdapterThatDoesNotExistYetMustBeProducedBefore() {
        let harness = Harness()
        harness.submit(prepared(harness, 1))
        harness.hello("w1")
        register(harness, "M", type: "model")
        var train = harness.submission(2)
        train.references = ["M"]
        train.produces = [ProducedArtifact(type: "adapter", name: "M:A")]
        var use = harness.submission(3, kind: "infer", lines: true)
        use.references = ["M:A"]
        #expect(harness.submit(use).first?.error?.code == .unknownArtifact)
        use.after = [Dependency(job: harness.id(2), mode: .success)]
        #expect(harness.submit(train, use).allSatisfy { $0.error == nil })
        // Also through a job between.
        var late = harness.submission(4, kind: "infer", lines: true)
        late.references = ["M:A"]
        late.after = [Dependency(job: harness.id(3), mode: .finish)]
        #expect(harness.submit(late).first?.error == nil)
    }

    /// What is told outlives a restart and is told anew to a job that is retried; what the failed one was to make is left out.
    @Test func aTaskIsToldHowThoseBeforeItEnded() throws {
        let harness = Harness()
        harness.submit(prepared(harness, 1))
        harness.hello("w1")
        register(harness, "M", type: "model")
        var trains: [Submission] = []
        for (number, name) in [(2, "M:A"), (3, "M:B")] {
            var train = harness.submission(number)
            train.references = ["M"]
            train.produces = [ProducedArtifact(type: "adapter", name: name)]
            trains.append(train)
        }
        var choose = harness.submission(4)
        choose.optionalReferences = ["M:A", "M:B"]
        choose.after = [2, 3].map {
            Dependency(job: harness.id($0), mode: .finish, told: ["loss"])
        }
        #expect(harness.submit(trains[0], trains[1], choose).allSatisfy { $0.error == nil })
        harness.credit("w1", ["job": 2])
        harness.finish(
            harness.takeGiven("w1")[0], .error(BrokerError(.invalidSpec, .user, "it diverged")))
        harness.credit("w1", ["job": 3])
        let second = try #require(harness.takeGiven("w1").first)
        harness.finish(second) {
            $0.metrics = ["loss": 1.5, "other": 1]
            $0.artifacts = [
                ReportedArtifact(
                    type: "adapter", name: "M:B", digest: Harness.digest(501), bytes: 1, path: "/y",
                    meta: [])
            ]
        }
        harness.restart()
        harness.hello("w1")
        harness.credit("w1", ["job": 1])
        let given = try #require(harness.takeGiven("w1").first)
        #expect(given.outcomes.map(\.job) == [harness.id(2), harness.id(3)])
        #expect(given.outcomes.map(\.outcome.state) == [.failed, .succeeded])
        #expect(given.outcomes[0].outcome.error?.message == "it diverged")
        #expect(given.outcomes[1].outcome.metrics == ["loss": 1.5])
        #expect(given.artifacts.map(\.reference).contains("M:B"))
        #expect(!given.artifacts.map(\.reference).contains("M:A"))
    }

    private func prepared(_ harness: Harness, _ number: Int) -> Submission {
        var submission = harness.submission(number, kind: "prepare")
        submission.produces = [ProducedArtifact(type: "model", name: "M")]
        return submission
    }

    private func register(_ harness: Harness, _ name: String, type: String) {
        harness.finish(harness.takeGiven("w1")[0]) {
            $0.artifacts = [
                ReportedArtifact(
                    type: type, name: name, digest: Harness.digest(500), bytes: 1, path: "/x",
                    meta: [])
            ]
        }
        #expect(harness.core.artifact(name)?.version == 1)
    }
}
