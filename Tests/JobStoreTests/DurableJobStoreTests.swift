import BrokerCore
import Foundation
import GRDB
import Synchronization
import Testing

@testable import JobStore

/// A folder of its own, removed at the end.
final class Scratch {
    let folder: String
    var path: String { folder + "/jobs.sqlite" }

    init() throws {
        folder = NSTemporaryDirectory() + "jobstore-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }
}

/// Blocks the test until a completion has come.
func wait<Value: Sendable>(
    _ start: (@escaping DurableJobStore.Completion<Value>) -> Void
) throws -> Value {
    let semaphore = DispatchSemaphore(value: 0)
    let box = Mutex<Result<Value, StoreError>?>(nil)
    start { result in
        box.withLock { $0 = result }
        semaphore.signal()
    }
    semaphore.wait()
    guard let result = box.withLock({ $0 }) else { throw StoreError(.readFailed, "no answer") }
    return try result.get()
}

extension DurableJobStore {
    /// Commits and waits.
    func commit(_ mutations: [Mutation], _ number: UInt64 = 1) -> StoreError? {
        let semaphore = DispatchSemaphore(value: 0)
        let box = Mutex<StoreError?>(nil)
        apply(mutations, commit: number) { _, error in
            box.withLock { $0 = error }
            semaphore.signal()
        }
        semaphore.wait()
        return box.withLock { $0 }
    }
}

func makeID(_ number: Int) -> JobID {
    JobID(high: UInt64(1_700_000_000_000 + number) << 16 | 0x7000, low: 0x8000_0000_0000_0001)
}

func makeDigest(_ number: Int) throws -> BrokerCore.Digest {
    let hex = String(number, radix: 16)
    return try #require(Digest(hex: String(repeating: "0", count: 64 - hex.count) + hex))
}

func makeJob(_ number: Int, lines: Int? = nil) throws -> JobRecord {
    var submission = Submission(
        id: makeID(number), kind: lines == nil ? "finetune" : "infer",
        spec: Array("{\"a\":1}".utf8),
        digest: try makeDigest(number),
        shape: lines == nil ? .single : .lines(blob: try makeDigest(9_000 + number)))
    submission.label = "label-\(number % 3)"
    return JobRecord(
        submission: submission, sequence: Int64(number), createdAt: 5,
        status: JobStatus(
            state: .queued, counts: JobCounts(total: lines ?? 1), allowsAnyNumerics: false))
}

func makeResult(_ job: JobRecord, line: Int, order: Int64, generation: Int = 1, ok: Bool = true)
    -> ResultRecord
{
    var record = ResultRecord(
        task: TaskID(job: job.id, index: line), jobSequence: job.sequence, generation: generation,
        order: order, state: ok ? .done : .failed, attempt: 1, finishedAt: 9)
    record.location = ResultLocation(segment: 0, offset: order * 100, length: 99)
    if !ok { record.error = BrokerError(.badLine, .user, "bad") }
    return record
}

@Suite struct DurableJobStoreTests {
    @Test func commitsAreSyncedAndThePragmaIsReadBack() throws {
        let scratch = try Scratch()
        let store = try DurableJobStore(path: scratch.path)
        let settings = try store.safetySettings()
        #expect(settings["synchronous"] == "2")
        #expect(settings["journal_mode"] == "wal")
        #expect(settings["foreign_keys"] == "1")
        #expect(settings["user_version"] == "5")
        store.close()
        let again = try DurableJobStore(path: scratch.path)
        #expect(again.epoch == store.epoch + 1)
        again.close()
    }

    @Test func aFileOfAnOlderVersionIsBroughtUpToDateWithItsJobs() throws {
        let scratch = try Scratch()
        let older = try DatabaseQueue(path: scratch.path)
        try older.writeWithoutTransaction { database in
            for sql in Schema.migrations.prefix(2) { try database.execute(sql: sql) }
            try database.execute(sql: "PRAGMA application_id = \(Schema.applicationID)")
            try database.execute(sql: "PRAGMA user_version = 2")
            try database.execute(
                sql: """
                    INSERT INTO jobs (sequence, id, kind, spec, digest, priority, tenant, strict, cost, memory_bytes,
                    created_at, state, held, total, leased, backoff, done, failed, cancelled, dead, generation,
                    first_open_line, result_count, any_numerics, attempts, worked_ns, bad_lines)
                    VALUES (1, ?, 'echo', '{}', ?, 0, 'default', 0, 1, 0, 5, 'queued', 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
                    0, 0, 0)
                    """, arguments: [makeID(1).description, try makeDigest(1).text])
        }
        try older.close()
        var store = try DurableJobStore(path: scratch.path)
        #expect(try store.reload().jobs.map(\.submission.worker) == [nil])
        var second = try makeJob(2)
        second.submission.worker = "peft"
        #expect(store.commit([.insertJob(second)]) == nil)
        store.close()
        store = try DurableJobStore(path: scratch.path)
        #expect(try store.reload().jobs.map(\.submission.worker) == [nil, "peft"])
        store.close()
    }

    @Test func everythingComesBackAfterReopening() throws {
        let scratch = try Scratch()
        var store = try DurableJobStore(path: scratch.path)
        var job = try makeJob(1)
        job.submission.inputs = [JobInput(name: "train", blob: try makeDigest(77), bytes: 12)]
        var dependency = Dependency(
            job: makeID(900), mode: .success,
            condition: DependencyCondition(metric: "loss", comparison: .less, value: 0.5))
        dependency.isFulfilled = true
        var told = Dependency(job: makeID(902), mode: .finish, told: ["loss"])
        told.isFulfilled = true
        told.outcome = DependencyOutcome(
            state: .failed, metrics: ["loss": 0.5],
            error: BrokerError(.invalidSpec, .user, "no labels"))
        job.submission.after = [
            dependency, Dependency(job: makeID(901), mode: .finish), told,
            Dependency(job: makeID(903), mode: .finish, told: []),
        ]
        job.submission.references = ["M", "B:x"]
        job.submission.optionalReferences = ["M:y"]
        job.submission.produces = [ProducedArtifact(type: "adapter", name: "M:A")]
        job.submission.maximumSeconds = 3.5
        job.submission.isStrict = true
        job.submission.memoryBytes = 42
        job.submission.worker = "peft"
        job.bindings = ["M": ArtifactKey(name: "M", version: 1), "B:x": nil, "M:y": nil]
        job.status.state = .running
        job.status.startedAt = 6
        job.status.counts.leased = 1
        job.status.numerics = "n1"
        job.status.attempts = 1
        job.status.usage = ["tokens": 12, "seconds": 0.25]
        var task = TaskRecord(
            id: TaskID(job: job.id, index: 0), jobSequence: 1, generation: 1, state: .leased,
            attempt: 1, cost: 2.5, references: ["M", "B:x"])
        task.lease = Token(high: 1, low: UInt64.max)
        task.worker = "w1"
        task.leasedAt = 6
        task.failures.crash = 2
        task.isSuspect = true
        task.location = LineLocation(offset: 5, length: 6, number: 7)
        var artifact = ArtifactRecord(
            type: "model", name: "M", version: 1, digest: try makeDigest(3), bytes: 10, path: "/m",
            meta: Array("{}".utf8), createdAt: 1)
        artifact.job = makeID(800)
        var event = BrokerEvent(type: "job.running", at: 6)
        event.number = 1
        event.job = job.id
        let mutations: [Mutation] = [
            .insertJob(job), .putTask(task), .insertArtifact(artifact),
            .setTag(name: "M", tag: "best", version: 1), .appendEvent(event),
        ]
        #expect(store.commit(mutations) == nil)
        store.close()
        store = try DurableJobStore(path: scratch.path)
        let snapshot = try store.reload()
        artifact.tags = ["best"]
        #expect(snapshot.jobs == [job])
        #expect(snapshot.tasks == [task])
        #expect(snapshot.artifacts == [artifact])
        #expect(snapshot.artifactVersions == ["M": 1])
        #expect(snapshot.nextJobSequence == 2 && snapshot.nextEventNumber == 2)
        // What is told is told when the other job ends, and again for a job that is run again.
        let outcome = DependencyOutcome(state: .succeeded, metrics: ["loss": 0.25])
        let changes: [Mutation] = [
            .fulfillDependency(jobSequence: 1, position: 1, nil),
            .fulfillDependency(jobSequence: 1, position: 3, outcome),
            .reopenDependency(jobSequence: 1, position: 2),
        ]
        #expect(store.commit(changes) == nil)
        let after = try store.reload().jobs[0].submission.after
        #expect(after.map(\.isFulfilled) == [true, true, false, true])
        #expect(after.map(\.outcome) == [nil, nil, nil, outcome])
        store.close()
    }

    @Test func errorsKeepTheirDetails() throws {
        let error = BrokerError(
            .limit, .retryable, "too much \u{1F600}", hint: "less", retryAfterMilliseconds: 5,
            details: [
                "a": .text("x"), "b": .integer(-3), "c": .number(1.5), "d": .list(["p", "q"]),
                "e": .number(2), "f": .list([]),
            ], opaqueDetails: Array("{\"k\": [1]}".utf8))
        #expect(try brokerError(errorText(error)) == error)
        #expect(try brokerError(nil) == nil)
        #expect(throws: (any Error).self) { try brokerError("{not json") }
    }

    @Test func aFailedCommitLeavesNothingAndClosesTheDoor() throws {
        let scratch = try Scratch()
        let store = try DurableJobStore(path: scratch.path)
        #expect(store.commit([.insertJob(try makeJob(1))]) == nil)
        // The second mutation breaks a constraint: the first must not stay.
        let twice = store.commit([.insertJob(try makeJob(2)), .insertJob(try makeJob(1))], 2)
        #expect(twice?.code == .commitFailed && twice?.sqliteCode != 0)
        let next = store.commit([.insertJob(try makeJob(3))], 3)
        #expect(next?.code == .needsReload)
        #expect(try store.reload().jobs.map(\.sequence) == [1])
        #expect(store.commit([.insertJob(try makeJob(3))], 4) == nil)
        store.failNextCommit()
        #expect(store.commit([.insertJob(try makeJob(4))], 5)?.code == .commitFailed)
        #expect(try store.reload().jobs.map(\.sequence) == [1, 3])
        store.close()
        #expect(store.commit([], 6)?.code == .closed)
    }

    @Test func statesAreTiedToTimestampsByTheSchema() throws {
        let scratch = try Scratch()
        let store = try DurableJobStore(path: scratch.path)
        func refused(_ change: (inout JobStatus) -> Void) throws -> Bool {
            var job = try makeJob(1)
            change(&job.status)
            let error = store.commit([.insertJob(job)])
            _ = try store.reload()
            return error != nil
        }
        #expect(try refused { $0.state = .succeeded })
        #expect(try refused { $0.finishedAt = 3 })
        #expect(try refused { $0.state = .running })
        #expect(try refused { $0.counts.leased = 2 })
        #expect(try !refused { _ in })
        var task = TaskRecord(
            id: TaskID(job: makeID(1), index: 0), jobSequence: 1, generation: 1, state: .ready,
            attempt: 1, cost: 1, references: [])
        task.lease = Token(high: 1, low: 1)
        #expect(store.commit([.putTask(task)]) != nil)
        _ = try store.reload()
        task.lease = nil
        #expect(store.commit([.putTask(task)]) == nil)
        store.close()
    }

    @Test func foreignAndNewerFilesAreRefused() throws {
        let scratch = try Scratch()
        let queue = try DatabaseQueue(path: scratch.path)
        try queue.inDatabase { try $0.execute(sql: "CREATE TABLE cats (name TEXT)") }
        try queue.close()
        #expect(throws: StoreError.self) { try DurableJobStore(path: scratch.path) }
        let other = try Scratch()
        let store = try DurableJobStore(path: other.path)
        store.close()
        let again = try DatabaseQueue(path: other.path)
        try again.inDatabase { try $0.execute(sql: "PRAGMA user_version = 99") }
        try again.close()
        do {
            _ = try DurableJobStore(path: other.path)
            Issue.record("opened a newer schema")
        } catch {
            #expect(error.code == .newerSchema)
        }
    }

    @Test func killedWhileWritingItKeepsWholeCommitsOnly() throws {
        // What a power loss leaves: the file and its WAL as they are, at a moment chosen by nobody.
        let scratch = try Scratch()
        let store = try DurableJobStore(path: scratch.path)
        for number in 1...50 {
            #expect(store.commit([.insertJob(try makeJob(number))]) == nil)
        }
        let copy = try Scratch()
        for name in ["jobs.sqlite", "jobs.sqlite-wal"] {
            try FileManager.default.copyItem(
                atPath: scratch.folder + "/" + name, toPath: copy.folder + "/" + name)
        }
        // A torn last frame is no commit.
        let wal = try #require(FileHandle(forWritingAtPath: copy.folder + "/jobs.sqlite-wal"))
        try wal.truncate(atOffset: try wal.seekToEnd() - 100)
        try wal.close()
        let reopened = try DurableJobStore(path: copy.path)
        let jobs = try reopened.reload().jobs.map(\.sequence)
        #expect(jobs == Array(1...Int64(jobs.count)) && jobs.count >= 49)
        reopened.close()
        store.close()
    }
}
