import BrokerCore
import Foundation
import Testing

@testable import JobStore

@Suite struct QuestionsTests {
    private func makeStore() throws -> (Scratch, DurableJobStore) {
        let scratch = try Scratch()
        return (scratch, try DurableJobStore(path: scratch.path))
    }

    @Test func jobsAreFoundListedAndSelected() throws {
        let (scratch, store) = try makeStore()
        defer { store.close() }
        _ = scratch
        #expect(store.commit(try (1...5).map { .insertJob(try makeJob($0)) }) == nil)
        var ended = try makeJob(5).status
        ended.state = .succeeded
        ended.finishedAt = 10
        ended.counts.done = 1
        #expect(
            store.commit([.updateJob(sequence: 5, makeID(5), ended), .pruneJob(makeID(5), at: 20)])
                == nil)
        let (found, pruned) = try wait {
            store.findJobs([makeID(1), makeID(5), makeID(6)], completion: $0)
        }
        #expect(found.map(\.sequence) == [1] && pruned == [makeID(5)])
        let page = try wait { store.listJobs(JobFilter(), after: nil, limit: 3, completion: $0) }
        #expect(page.map(\.sequence) == [4, 3, 2])
        let rest = try wait { store.listJobs(JobFilter(), after: 2, limit: 3, completion: $0) }
        #expect(rest.map(\.sequence) == [1])
        var filter = JobFilter()
        filter.label = "label-1"
        filter.state = .queued
        let labelled = try wait { store.listJobs(filter, after: nil, limit: 9, completion: $0) }
        #expect(labelled.map(\.sequence) == [4, 1])

        func match(_ selector: String) throws -> SelectedJobs {
            try wait { store.selectJobs(selector, limit: 10, completion: $0) }
        }
        func select(_ selector: String) throws -> [JobID] { try match(selector).ids }
        #expect(try match("label-2").match == .label && match("last").match == .last)
        #expect(try match("018bcfe5").match == .partOfID && match("zz").match == .none)
        #expect(try match(makeID(3).text).match == .id && match("all").match == .all)
        #expect(try select("last") == [makeID(4)])
        #expect(try select("all").count == 4)
        #expect(try select("label-2") == [makeID(2)])
        #expect(try select(makeID(3).text) == [makeID(3)])
        #expect(try select("018bcfe5").count == 4)
        #expect(try select("000000000001").count == 4)
        #expect(try select(String(makeID(3).text.prefix(13))) == [makeID(3)])
        #expect(try select("%").isEmpty && select("").isEmpty && select("zz").isEmpty)
        // A pruned job's sequence is never used again.
        #expect(try store.reload().nextJobSequence == 6)
        #expect(try store.reload().greatestEndedJob == makeID(5))
    }

    @Test func resultsCanBeReadWhileTheyCome_KIND16() throws {
        let (scratch, store) = try makeStore()
        defer { store.close() }
        _ = scratch
        var job = try makeJob(1, lines: 5)
        job.status.state = .running
        job.status.startedAt = 1
        // Lines 2, 0 and 3 (an error) have ended; 1 and 4 not yet.
        #expect(
            store.commit([
                .insertJob(job), .insertResult(makeResult(job, line: 2, order: 1)),
                .insertResult(makeResult(job, line: 0, order: 2)),
                .insertResult(makeResult(job, line: 3, order: 3, ok: false)),
            ]) == nil)
        func page(
            _ stream: ResultQuery.Stream, _ order: ResultQuery.Order, after: Int64 = 0,
            limit: Int = 10
        ) throws -> ResultPage {
            try wait {
                store.results(
                    ResultQuery(
                        job: job.id, stream: stream, order: order, after: after, limit: limit),
                    completion: $0)
            }
        }
        func lines(_ page: ResultPage) -> [Int] { page.results.map(\.task.index) }
        #expect(lines(try page(.results, .completion)) == [2, 0])
        #expect(lines(try page(.all, .completion, limit: 2)) == [2, 0])
        #expect(lines(try page(.errors, .completion)) == [3])
        let ordered = try page(.all, .input)
        #expect(lines(ordered) == [0] && ordered.next == 1 && !ordered.isComplete)
        job.status.counts.done = 4
        job.status.counts.failed = 1
        job.status.state = .succeeded
        job.status.finishedAt = 9
        #expect(
            store.commit([
                .insertResult(makeResult(job, line: 1, order: 4)),
                .insertResult(makeResult(job, line: 4, order: 5)),
                .updateJob(sequence: 1, job.id, job.status),
            ]) == nil)
        let rest = try page(.results, .input, after: ordered.next)
        #expect(lines(rest) == [1, 2, 4] && rest.isComplete)
        // A retry of line 3 takes the error's place.
        job.status.generation = 2
        #expect(
            store.commit([
                .updateJob(sequence: 1, job.id, job.status),
                .insertResult(makeResult(job, line: 3, order: 6, generation: 2)),
            ]) == nil)
        #expect(lines(try page(.errors, .completion)).isEmpty)
        #expect(lines(try page(.results, .completion)) == [2, 0, 1, 4, 3])
        #expect(lines(try page(.all, .input)) == [0, 1, 2, 3, 4])
        // Small pages lose nothing.
        var after: Int64 = 0
        var seen: [Int] = []
        while true {
            let next = try page(.all, .input, after: after, limit: 2)
            seen += lines(next)
            after = next.next
            if next.isComplete { break }
        }
        #expect(seen == [0, 1, 2, 3, 4])
    }

    @Test func onlyWhatIsMissingIsRunAgain_KIND16() throws {
        let (scratch, store) = try makeStore()
        defer { store.close() }
        _ = scratch
        let job = try makeJob(1, lines: 6)
        let blocks = [
            LineBlock(firstIndex: 0, offset: 0, firstNumber: 1, count: 4),
            LineBlock(firstIndex: 4, offset: 400, firstNumber: 6, count: 2),
        ]
        #expect(
            store.commit([
                .insertJob(job), .insertLineBlocks(jobSequence: 1, blocks),
                .insertResult(makeResult(job, line: 0, order: 1)),
                .insertResult(makeResult(job, line: 2, order: 2, ok: false)),
            ]) == nil)
        func pending(_ from: Int, _ limit: Int, _ generation: Int, _ scope: RetryScope) throws
            -> PendingLines
        {
            let request = LineRequest(
                job: job.id, jobSequence: 1, blob: try makeDigest(1), generation: generation,
                scope: scope, from: from, limit: limit, total: 6)
            return try wait { store.pendingLines(request, completion: $0) }
        }
        let first = try pending(0, 2, 1, .all)
        #expect(first.lines.map(\.index) == [1, 3] && first.next == 4 && first.blocks.count == 1)
        let second = try pending(4, 10, 1, .all)
        #expect(second.lines.map(\.index) == [4, 5] && second.next == 6)
        #expect(second.blocks == [blocks[1]])
        let retry = try pending(0, 10, 2, .failed)
        #expect(retry.lines.map(\.index) == [1, 2, 3, 4, 5])
        #expect(retry.lines.first { $0.index == 2 }?.previousAttempts == 1)
        #expect(try pending(0, 10, 2, .all).lines.count == 6)
    }

    @Test func theEventHistoryIsBounded_KIND25() throws {
        let scratch = try Scratch()
        let store = try DurableJobStore(path: scratch.path, eventHistory: 100)
        defer { store.close() }
        for start in stride(from: 1, to: 1000, by: 50) {
            let events = (start..<start + 50).map { number -> Mutation in
                var event = BrokerEvent(type: "job.queued", at: 1)
                event.number = Int64(number)
                event.job = number % 2 == 0 ? makeID(1) : nil
                return .appendEvent(event)
            }
            #expect(store.commit(events) == nil)
        }
        let (events, oldest) = try wait {
            store.events(after: 0, limit: 10_000, job: nil, completion: $0)
        }
        #expect(
            events.count <= 102 && events.last?.number == 1000 && oldest == events.first?.number)
        let (own, _) = try wait {
            store.events(after: 990, limit: 3, job: makeID(1), completion: $0)
        }
        #expect(own.map(\.number) == [992, 994, 996])
    }

    @Test func blobsKnowWhoNeedsThem() throws {
        let (scratch, store) = try makeStore()
        defer { store.close() }
        _ = scratch
        var job = try makeJob(1)
        job.submission.inputs = [JobInput(name: "train", blob: try makeDigest(1), bytes: 10)]
        #expect(
            store.commit([
                .putBlob(try makeDigest(1), bytes: 10, at: 5),
                .putBlob(try makeDigest(2), bytes: 20, at: 5),
                .putBlob(try makeDigest(3), bytes: 30, at: 500), .insertJob(job),
            ]) == nil)
        let digests = try wait {
            store.unreferencedBlobs(storedBefore: 100, limit: 10, completion: $0)
        }
        #expect(digests == [try makeDigest(2)])
        // What an artifact was made of stays with it, whatever became of the job.
        let second = try makeDigest(2)
        let artifact = ArtifactRecord(
            type: "adapter", name: "M:A", version: 1, digest: try makeDigest(9), bytes: 1,
            path: "/a", meta: Array(#"{"inputs":{"train":"\#(second.text)","n":3}}"#.utf8),
            createdAt: 1)
        #expect(store.commit([.insertArtifact(artifact)]) == nil)
        let kept = try wait {
            store.unreferencedBlobs(storedBefore: 100, limit: 10, completion: $0)
        }
        #expect(kept == [])
        let fourth = try makeDigest(4)
        let unneeded = try wait {
            store.stillUnneeded([second, fourth], storedBefore: 100, completion: $0)
        }
        #expect(unneeded == [fourth])
        #expect(store.commit([.deleteArtifact(artifact.key)]) == nil)
        let after = try wait {
            store.unreferencedBlobs(storedBefore: 100, limit: 10, completion: $0)
        }
        #expect(after == [second])
        let third = try makeDigest(3)
        let bytes = try wait { store.blobBytes(third, completion: $0) }
        #expect(bytes == 30)
    }
}
