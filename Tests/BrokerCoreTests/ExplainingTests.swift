import BrokerCore
import Testing

@Suite struct ExplainingTests {
    /// One job after the other through everything that it can wait for: each time the one true reason.
    @Test("KINDS 23: every wait has its reason")
    func everyWaitHasItsReason() {
        let harness = Harness()
        #expect(harness.core.explain(harness.id(1), at: harness.moment) == nil)
        harness.submit(harness.submission(1, kind: "infer", lines: true))
        #expect(harness.reason(1) == "SPLITTING")
        var second = harness.submission(2)
        second.after = [Dependency(job: harness.id(1), mode: .finish)]
        harness.submit(second)
        #expect(harness.reason(2) == "DEPENDENCY")
        harness.send(.hold([harness.id(2)], request: RequestID(1)))
        #expect(harness.reason(2) == "HELD")
        harness.send(.release([harness.id(2)], request: RequestID(1)))
        harness.send(.splitFinished(harness.id(1), lines: 2))
        #expect(harness.reason(1) == "WORKER_NOT_READY")
        harness.hello("w1", sequences: 1, jobs: 0)
        #expect(harness.reason(1) == "LOADING")
        harness.submit(harness.submission(3))
        #expect(harness.reason(3) == "NO_CREDIT")
        harness.submit(harness.submission(4))
        let behind = harness.core.explain(harness.id(4), at: harness.moment)
        #expect(
            behind?.code == "QUEUED_BEHIND"
                && behind?.details["behind"] == .text(harness.id(3).text))
        harness.send(.plugins([]))
        harness.exit("w1")
        #expect(harness.reason(3) == "NO_WORKER_CONFIGURED")
        harness.send(
            .plugins(
                Harness.plugins.map {
                    PluginDescription(name: $0.name, kinds: $0.kinds, instances: 0)
                }))
        #expect(harness.reason(3) == "NO_INSTANCES")
        harness.send(.plugins(Harness.plugins))
        harness.hello("w1", pid: 101, jobs: 1)
        #expect(harness.reason(3) == "RUNNING")
        harness.finish(harness.takeGiven("w1")[0])
        #expect(harness.reason(3) == "SUCCEEDED")
        harness.send(.cancel([harness.id(4)], reason: nil, request: RequestID(2)))
        #expect(harness.reason(4) == "CANCELLED")
    }

    @Test func suspectsWaitForAnEmptyWorkerAndSayIt() {
        let harness = Harness()
        harness.submitBatch(1, lines: 2)
        harness.hello("w1", sequences: 2)
        harness.exit("w1")
        #expect(harness.reason(1) == "WAITS_TO_RUN_ALONE")
    }
}
