import BrokerCore
import Foundation
import Testing

@testable import JobStore

/// Prints figures and asserts none: `swift test --filter ThroughputTests`.
@Suite(.serialized) struct ThroughputTests {
    private func rate(_ rows: Int, _ start: ContinuousClock.Instant) -> String {
        let seconds =
            Double((ContinuousClock.now - start).components.attoseconds) / 1e18
            + Double((ContinuousClock.now - start).components.seconds)
        return "\(Int(Double(rows) / seconds)) rows/s"
    }

    @Test func groupCommit() throws {
        let scratch = try Scratch()
        let store = try DurableJobStore(path: scratch.path)
        defer { store.close() }
        let batch = 500
        let batches = 60
        let group = DispatchGroup()
        let mutations = try (0..<batches).map { number in
            try (0..<batch).map { Mutation.insertJob(try makeJob(1 + number * batch + $0)) }
        }
        var start = ContinuousClock.now
        for (number, batch) in mutations.enumerated() {
            group.enter()
            store.apply(batch, commit: UInt64(number)) { _, error in
                if let error { Issue.record("\(error)") }
                group.leave()
            }
        }
        group.wait()
        print("JobStore: submits in commits of \(batch): \(rate(batch * batches, start))")

        let job = try makeJob(1_000_000, lines: 1_000_000)
        #expect(store.commit([.insertJob(job)]) == nil)
        start = ContinuousClock.now
        for number in 0..<batches {
            var mutations: [Mutation] = []
            for place in 0..<batch {
                let line = number * batch + place
                var task = TaskRecord(
                    id: TaskID(job: job.id, index: line), jobSequence: job.sequence, generation: 1,
                    state: .leased, attempt: 1, cost: 1, references: ["M:A"])
                task.lease = Token(high: UInt64(line), low: 1)
                task.leasedAt = 1
                task.worker = "lora-1"
                mutations.append(.putTask(task))
            }
            for place in 0..<batch {
                let line = number * batch + place
                mutations.append(
                    .deleteTask(TaskID(job: job.id, index: line), jobSequence: job.sequence))
                mutations.append(.insertResult(makeResult(job, line: line, order: Int64(line + 1))))
            }
            group.enter()
            store.apply(mutations, commit: UInt64(number)) { _, error in
                if let error { Issue.record("\(error)") }
                group.leave()
            }
        }
        group.wait()
        print("JobStore: dispatch, end and result of a line: \(rate(3 * batch * batches, start))")
    }

    @Test func aLongHistoryDoesNotSlowTheStart() throws {
        let scratch = try Scratch()
        var store = try DurableJobStore(path: scratch.path)
        var job = try makeJob(1, lines: 300_000)
        job.status.firstOpenLine = 200_000
        job.status.counts.done = 200_000
        var mutations: [Mutation] = [.insertJob(job)]
        for line in 0..<200_000 {
            mutations.append(.insertResult(makeResult(job, line: line, order: Int64(line + 1))))
        }
        #expect(store.commit(mutations) == nil)
        store.close()
        let start = ContinuousClock.now
        store = try DurableJobStore(path: scratch.path)
        let snapshot = try store.reload()
        print(
            "JobStore: start with 200,000 results and 100,000 lines to go: \(ContinuousClock.now - start)"
        )
        #expect(snapshot.jobs.count == 1 && snapshot.tasks.isEmpty)
        store.close()
    }
}
