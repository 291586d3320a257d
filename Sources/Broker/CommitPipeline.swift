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

/// Makes batches durable in their order: first their result lines, then, in one transaction, the
/// records that claim these lines. Runs beside the event loop.
///
/// Once a batch has failed, all later ones fail until `reset`; those given before it never reach the
/// store after it.
final class CommitPipeline: Sendable {
    private struct State {
        var files: SegmentFiles
        var isBroken = false
    }

    private let store: DurableJobStore
    private let queue: WorkQueue
    private let state: Mutex<State>
    /// Grows with each `reset`: batches of an earlier one are void.
    private let generation = Mutex<UInt64>(0)
    private let inbox: LoopInbox

    init(store: DurableJobStore, home: BrokerHome, inbox: LoopInbox) throws(SystemError) {
        self.store = store
        self.inbox = inbox
        queue = try WorkQueue(name: "commit")
        state = Mutex(State(files: SegmentFiles(home: home)))
    }

    /// Hands a batch over; `EventLoop.committed` tells how it went.
    func submit(_ batch: CommitBatch) {
        let current = generation.withLock { $0 }
        queue.add { [self] in
            if let reason = writeLines(batch.appends) ?? apply(batch, generation: current) {
                inbox.post { $0.committed(batch.number, failure: reason) }
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

    private func writeLines(_ appends: [SegmentAppend]) -> String? {
        state.withLock { state in
            guard !state.isBroken else { return "an earlier commit failed" }
            do {
                try state.files.write(appends)
                return nil
            } catch {
                state.isBroken = true
                return "\(error)"
            }
        }
    }

    /// Voids what is on its way and takes batches again; to be called before the store is reloaded.
    func reset(home: BrokerHome) {
        generation.withLock { $0 += 1 }
        state.withLock { $0 = State(files: SegmentFiles(home: home)) }
    }

    /// Closes a job's result files.
    func close(job: JobID) {
        queue.add { [self] in state.withLock { $0.files.close(job: job.text) } }
    }

    func stop() { queue.stop() }
}
