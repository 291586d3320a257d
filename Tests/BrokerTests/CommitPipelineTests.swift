import BrokerCore
import Dispatch
import LinuxSystem
import Synchronization
import Testing

@testable import Broker
@testable import JobStore

extension CommitPipeline {
    /// Waits until all is done that was given so far.
    fileprivate func finishWork(in store: DurableJobStore) throws {
        for _ in 0..<2 {
            for queue in [queue, settler] {
                let handover = DispatchSemaphore(value: 0)
                queue.add { handover.signal() }
                handover.wait()
            }
            // Behind what the store's thread was given.
            _ = try store.keptLines()
        }
    }
}

/// Result lines between the commit that claims them and the sync of their files.
@Suite struct CommitPipelineTests {
    private let folder: TemporaryFolder
    private let home: BrokerHome
    private let store: DurableJobStore
    private let job = JobID(text: "019a0000-0000-7000-8000-000000000001")!

    init() throws {
        folder = try TemporaryFolder()
        home = BrokerHome(root: folder.path)
        try home.prepare()
        store = try DurableJobStore(path: home.database)
    }

    /// A disk that may fail to sync; what was written since the last sync is lost then, as after EIO.
    private final class Disk: Sendable {
        let failures: Mutex<Int>
        let lost: String
        init(failures: Int, lost: String) {
            self.failures = Mutex(failures)
            self.lost = lost
        }

        func sync() throws(SystemError) {
            let fails = failures.withLock { left -> Bool in
                defer { left = max(0, left - 1) }
                return left > 0
            }
            guard fails else { return }
            try DurableFile.removeTree(lost)
            throw SystemError(operation: "sync", path: lost, code: 5)
        }
    }

    private func batch(_ number: UInt64, _ text: String, at offset: Int) -> CommitBatch {
        let line = bytes(text + "\n")
        let claim = SegmentClaim(segment: 0, offset: offset, length: line.count)
        return CommitBatch(
            number: number, mutations: [],
            appends: [SegmentAppend(job: job.text, claim: claim, bytes: line)])
    }

    private func content() throws -> String {
        let path = ResultSegment.path(home.run(of: job.text), 0)
        return String(decoding: try FilePath.read(path, limit: 1 << 20), as: UTF8.self)
    }

    @Test("After a sync that failed, kept lines are written again before they may be dropped")
    func afterAFailedSyncLinesAreWrittenAgain() throws {
        let inbox = try LoopInbox()
        let disk = Disk(failures: 1, lost: ResultSegment.path(home.run(of: job.text), 0))
        let pipeline = try CommitPipeline(
            store: store, home: home, inbox: inbox,
            syncRuns: { () throws(SystemError) in try disk.sync() })
        pipeline.submit(batch(1, "{}", at: 0), isAlone: true)
        pipeline.submit(batch(2, "{}", at: 3), isAlone: false)
        try pipeline.finishWork(in: store)
        // Which thread writes first is nobody's matter: lines are written where they belong.
        #expect(try store.keptLines().map(\.offset).sorted() == [0, 3])
        let told = inbox.take().count
        #expect(told == 2, "both are committed")

        pipeline.settle()
        try pipeline.finishWork(in: store)
        #expect(!FilePath.exists(disk.lost), "the disk has lost them")
        #expect(pipeline.settled == 0, "nothing may be dropped")

        // Without new lines, too.
        pipeline.settle()
        try pipeline.finishWork(in: store)
        #expect(try content() == "{}\n{}\n")
        #expect(pipeline.settled == 2)

        pipeline.settle()
        try pipeline.finishWork(in: store)
        #expect(inbox.take().count == 2, "one complaint, one drop; nothing is left to settle")
        pipeline.stop()
        store.close()
    }

    @Test(
        "A batch whose lines cannot be written fails, and so do those behind it",
        arguments: [true, false])
    func unwritableLines(isAlone: Bool) throws {
        // The job's folder cannot be made: a file is in its place.
        try DurableFile.write("", to: home.run(of: job.text))
        let inbox = try LoopInbox()
        let pipeline = try CommitPipeline(store: store, home: home, inbox: inbox)
        pipeline.submit(batch(1, "{}", at: 0), isAlone: isAlone)
        let other = ProcessRecord(
            instance: "w-1", plugin: "w", pid: 1, startTicks: 1, logPath: "", startedAt: 0)
        pipeline.submit(
            CommitBatch(number: 2, mutations: [.putProcess(other)], appends: []), isAlone: false)
        try pipeline.finishWork(in: store)
        #expect(inbox.take().count == 2)
        #expect(try store.processes().isEmpty, "what came behind it is not in the store")
        #expect(try store.keptLines().isEmpty)
        pipeline.stop()
        store.close()
    }
}
