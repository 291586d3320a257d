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
/// Once a batch has failed, all later ones fail until `reset`.
final class CommitPipeline: Sendable {
    private struct State {
        var files: SegmentFiles
        var isBroken = false
    }

    private let store: DurableJobStore
    private let queue: WorkQueue
    private let state: Mutex<State>
    private let inbox: LoopInbox

    init(store: DurableJobStore, home: BrokerHome, inbox: LoopInbox) throws(SystemError) {
        self.store = store
        self.inbox = inbox
        queue = try WorkQueue(name: "commit")
        state = Mutex(State(files: SegmentFiles(home: home)))
    }

    /// Hands a batch over; `EventLoop.committed` tells how it went.
    func submit(_ batch: CommitBatch) {
        queue.add { [self] in
            if let reason = writeLines(batch.appends) {
                inbox.post { $0.committed(batch.number, failure: reason) }
                return
            }
            store.apply(batch.mutations, commit: batch.number) { [inbox] number, error in
                let reason = error.map(\.description)
                inbox.post { $0.committed(number, failure: reason) }
            }
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

    /// Takes batches again; the store has been reloaded.
    func reset(home: BrokerHome) {
        state.withLock { $0 = State(files: SegmentFiles(home: home)) }
    }

    /// Closes a job's result files.
    func close(job: JobID) {
        queue.add { [self] in state.withLock { $0.files.close(job: job.text) } }
    }

    func stop() { queue.stop() }
}
