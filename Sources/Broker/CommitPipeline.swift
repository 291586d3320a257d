import BrokerCore
import JobStore
import LinuxSystem
import Synchronization

/// What is made durable together.
struct CommitBatch: Sendable {
    var number: UInt64
    var mutations: [Mutation]
    var appends: [SegmentAppend]
}

/// Makes batches durable in their order: first their result lines are written, then, in one transaction, the records that claim
/// these lines. Runs beside the event loop.
///
/// Few lines are not synced in their files: the transaction keeps them (`KeptLines`), so one sync makes all durable. About once a
/// second `settle` syncs the files and lets the store drop them; after a sync that failed, and when a broker starts after a
/// crash, they are written again. Many lines at once are synced in their files and not kept.
///
/// A batch before which nothing is under way goes to the store's thread at once: its few lines are written there, which spares
/// a lone task the way over this thread.
///
/// Once a batch has failed, all later ones fail until `reset`; those given before it never reach the
/// store after it.
final class CommitPipeline: Sendable {
    private struct State {
        var files: SegmentFiles
        var isBroken = false
        /// Of the newest kept lines.
        var lastKept: Int64 = 0
        /// Kept since `settle` last began.
        var keptBytes = 0
        /// A sync failed: nobody knows what of the kept lines is in their files.
        var mustWriteAgain = false
        /// The store has been told to drop lines up to here.
        var settled: Int64 = 0
    }

    /// Lines of one commit up to here are kept in the store; and so many until they are settled.
    private static let keptPerCommit = 1 << 20
    private static let keptInAll = 16 << 20
    /// Lines up to here are written by the store's thread.
    private static let writtenAtOnce = 64 << 10

    private let store: DurableJobStore
    let queue: WorkQueue
    /// Syncs files for `settle`.
    let settler: WorkQueue
    private let home: BrokerHome
    private let state: Mutex<State>
    private let syncRuns: SyncRuns
    /// Grows with each `reset`: batches of an earlier one are void.
    private let generation = Mutex<UInt64>(0)
    private let inbox: LoopInbox

    /// Makes durable what was written to files in `runs`.
    typealias SyncRuns = @Sendable () throws(SystemError) -> Void

    /// - Parameter syncRuns: For tests; nil syncs the file system.
    init(
        store: DurableJobStore, home: BrokerHome, inbox: LoopInbox, syncRuns: SyncRuns? = nil
    ) throws(SystemError) {
        self.store = store
        if let syncRuns {
            self.syncRuns = syncRuns
        } else {
            let fileSystem = try SyncedFileSystem(of: home.runs)
            self.syncRuns = { () throws(SystemError) in try fileSystem.sync() }
        }
        self.inbox = inbox
        self.home = home
        queue = try WorkQueue(name: "commit")
        settler = try WorkQueue(name: "settler")
        state = Mutex(State(files: SegmentFiles(home: home)))
    }

    /// Writes to their files what a broker before had kept; to be called before anything else is done with the files.
    ///
    /// - Throws: `StoreError`, `SystemError`.
    func restoreKept() throws {
        let kept = try store.keptLines()
        guard let last = kept.last else { return }
        try state.withLock { state in
            state.lastKept = last.number
            try Self.write(kept, to: &state.files, syncing: true)
            state.files = SegmentFiles(home: home)
        }
        inbox.post { $0.batch.mutations.append(.dropLines(upTo: last.number)) }
    }

    private static func write(
        _ kept: [KeptLines], to files: inout SegmentFiles, syncing: Bool
    ) throws(SystemError) {
        try files.write(
            kept.map {
                SegmentAppend(
                    job: $0.job.text,
                    claim: SegmentClaim(
                        segment: $0.segment, offset: $0.offset, length: $0.bytes.count),
                    bytes: $0.bytes)
            }, syncing: syncing)
    }

    /// Syncs the files of lines that are kept, and has the store drop them.
    func settle() {
        let (last, mustWriteAgain) = state.withLock { state -> (Int64?, Bool) in
            defer { state.keptBytes = 0 }
            let isDue = state.keptBytes > 0 || state.mustWriteAgain
            return (isDue ? state.lastKept : nil, state.mustWriteAgain)
        }
        guard let last else { return }
        guard mustWriteAgain else { return settler.add { [self] in sync(upTo: last) } }
        // Behind the batches whose lines were written before that sync: the store has them by then.
        queue.add { [self] in
            do {
                let kept = try store.keptLines()
                try state.withLock { state in
                    state.files = SegmentFiles(home: home)
                    try Self.write(kept, to: &state.files, syncing: false)
                    state.mustWriteAgain = false
                }
                if let last = kept.last?.number { settler.add { [self] in sync(upTo: last) } }
            } catch {
                note("kept result lines cannot be written again: \(error)")
            }
        }
    }

    private func sync(upTo last: Int64) {
        do throws(SystemError) {
            try syncRuns()
        } catch {
            // What was dirty counts as clean now, whether it is on the disk or not; so the lines stay kept.
            state.withLock { $0.mustWriteAgain = true }
            return note(error.description)
        }
        Failpoint.linesSettled.reach()
        let isKnown = state.withLock { state in
            // Of two syncs one after the other the first may have failed.
            guard !state.mustWriteAgain else { return false }
            state.settled = last
            return true
        }
        guard isKnown else { return }
        inbox.post { loop in
            // Without a store they stay kept until lines are settled again.
            if loop.core != nil { loop.batch.mutations.append(.dropLines(upTo: last)) }
        }
    }

    private func note(_ problem: String) { inbox.post { $0.log.error("\(problem)") } }

    /// Hands a batch over; `EventLoop.committed` tells how it went.
    ///
    /// - Parameter isAlone: Nothing that was given before is still under way.
    func submit(_ batch: CommitBatch, isAlone: Bool) {
        let bytes = batch.appends.reduce(0) { $0 + $1.bytes.count }
        if isAlone, bytes <= Self.writtenAtOnce {
            return store.apply(
                commit: batch.number,
                making: { [self] () throws(StoreError) in
                    var batch = batch
                    if let reason = writeLines(of: &batch) {
                        throw StoreError(.commitFailed, reason)
                    }
                    return batch.mutations
                }, completion: { [self] in finished($0, $1) })
        }
        let current = generation.withLock { $0 }
        let number = batch.number
        queue.add { [self] in
            var batch = batch
            if let reason = writeLines(of: &batch) ?? apply(batch, generation: current) {
                inbox.post { $0.committed(number, failure: reason) }
            }
        }
    }

    /// Gives the store a batch, unless it is void; says why it did not.
    private func apply(_ batch: CommitBatch, generation current: UInt64) -> String? {
        // Under the lock, so that nothing of before a `reset` gets to the store after it.
        generation.withLock { generation in
            guard generation == current else { return "the queue was read again from the store" }
            store.apply(batch.mutations, commit: batch.number) { [self] in finished($0, $1) }
            return nil
        }
    }

    private func finished(_ number: UInt64, _ error: StoreError?) {
        let reason = error.map(\.description)
        inbox.post { $0.committed(number, failure: reason) }
    }

    private func writeLines(of batch: inout CommitBatch) -> String? {
        guard !batch.appends.isEmpty else {
            return state.withLock { $0.isBroken ? Self.broken : nil }
        }
        let runs = SegmentFiles.joined(batch.appends)
        let bytes = runs.reduce(0) { $0 + $1.bytes.count }
        return state.withLock { state in
            guard !state.isBroken else { return Self.broken }
            let isKept =
                bytes <= Self.keptPerCommit && state.keptBytes + bytes <= Self.keptInAll
            do throws(SystemError) {
                try state.files.write(runs, syncing: !isKept)
            } catch {
                state.isBroken = true
                return "\(error)"
            }
            guard isKept else { return nil }
            state.keptBytes += bytes
            for run in runs {
                guard let job = JobID(text: run.job) else { continue }
                state.lastKept += 1
                batch.mutations.append(
                    .keepLines(
                        KeptLines(
                            number: state.lastKept, job: job, segment: run.claim.segment,
                            offset: run.claim.offset, bytes: run.bytes)))
            }
            return nil
        }
    }

    private static let broken = "an earlier commit failed"

    /// Voids what is on its way and takes batches again; to be called before the store is reloaded.
    func reset(home: BrokerHome) {
        generation.withLock { $0 += 1 }
        state.withLock {
            $0.files = SegmentFiles(home: home)
            $0.isBroken = false
        }
    }

    /// Closes a job's result files.
    func close(job: JobID) {
        queue.add { [self] in state.withLock { $0.files.close(job: job.text) } }
    }

    /// Up to which of the kept lines the files are known to be on the disk.
    var settled: Int64 { state.withLock { $0.settled } }

    func stop() {
        queue.stop()
        settler.stop()
    }
}
