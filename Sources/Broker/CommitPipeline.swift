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
/// second `settle` syncs the files and lets the store drop them; a broker that starts after a crash writes them again. Many lines
/// at once are synced in their files and not kept.
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
    }

    /// Lines of one commit up to here are kept in the store; and so many until they are settled.
    private static let keptPerCommit = 1 << 20
    private static let keptInAll = 16 << 20

    private let store: DurableJobStore
    private let queue: WorkQueue
    /// Syncs files for `settle`.
    private let settler: WorkQueue
    private let home: BrokerHome
    private let state: Mutex<State>
    /// Grows with each `reset`: batches of an earlier one are void.
    private let generation = Mutex<UInt64>(0)
    private let inbox: LoopInbox

    init(store: DurableJobStore, home: BrokerHome, inbox: LoopInbox) throws(SystemError) {
        self.store = store
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
            try state.files.write(
                kept.map {
                    SegmentAppend(
                        job: $0.job.text,
                        claim: SegmentClaim(
                            segment: $0.segment, offset: $0.offset, length: $0.bytes.count),
                        bytes: $0.bytes)
                })
            state.files = SegmentFiles(home: home)
        }
        inbox.post { $0.batch.mutations.append(.dropLines(upTo: last.number)) }
    }

    /// Syncs the files of lines that are kept, and has the store drop them.
    func settle() {
        let last = state.withLock { state -> Int64? in
            defer { state.keptBytes = 0 }
            return state.keptBytes > 0 ? state.lastKept : nil
        }
        guard let last else { return }
        settler.add { [home, inbox] in
            do throws(SystemError) {
                try DurableFile.syncFileSystem(of: home.runs)
                Failpoint.linesSettled.reach()
                inbox.post { loop in
                    // Without a store they stay kept until lines are settled again.
                    if loop.core != nil { loop.batch.mutations.append(.dropLines(upTo: last)) }
                }
            } catch {
                // They stay kept; the next time tries again.
                let reason = error.description
                inbox.post { $0.log.error("\(reason)") }
            }
        }
    }

    /// Hands a batch over; `EventLoop.committed` tells how it went.
    func submit(_ batch: CommitBatch) {
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
            store.apply(batch.mutations, commit: batch.number) { [inbox] number, error in
                let reason = error.map(\.description)
                inbox.post { $0.committed(number, failure: reason) }
            }
            return nil
        }
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

    func stop() {
        queue.stop()
        settler.stop()
    }
}
