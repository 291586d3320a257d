import CLinux
import Glibc
import Synchronization

/// Every numbered place at which a test may have `loraqd` or a worker killed, as if by `kill -9`.
///
/// The program's main hands over `LORAQ_FAILPOINT=<number>:<count>:<file>`: the process ends by SIGKILL when it comes to that place
/// (number 0: to any) for the count-th time. The file is made just before; where it exists already nothing happens,
/// so a program that is started again dies only once, and a test sees that the place was reached.
/// Unarmed, a place costs the reading of one flag.
public enum Failpoint: Int, CaseIterable, Sendable {
    // loraqd
    /// The store is open; no socket is bound.
    case storeOpened = 1
    /// A worker's process is started; nobody has written that down.
    case workerSpawned = 2
    /// A piece of an upload is written.
    case blobPieceWritten = 3
    /// An upload is whole and synced, under its temporary name.
    case blobSynced = 4
    /// An upload has its name; the store does not know of it.
    case blobPlaced = 5
    /// Part of a batch file is split; nothing of it is stored.
    case batchPartSplit = 6
    /// Result lines are written, not synced; nothing claims them.
    case linesWritten = 7
    /// Many result lines at once are synced; no transaction claims them.
    case linesSynced = 8
    /// A transaction holds all its changes and is not committed.
    case transactionFilled = 9
    /// A transaction is committed; nobody has heard of it.
    case transactionCommitted = 10
    /// The first of what a commit lets out is sent, the others are not.
    case firstOfCommitSent = 11
    /// Tasks are sent to a worker.
    case tasksSent = 12
    /// Results have come; the core does not know.
    case resultsReceived = 13
    /// An artifact's folder is in its place; its result is not taken in.
    case artifactPlaced = 14
    /// Jobs are pruned from the store; their folders are there.
    case jobsPruned = 15
    /// Blobs are forgotten by the store; their files are there.
    case blobsForgotten = 16
    /// The end in good order has begun.
    case stopBegun = 17
    /// The files of kept result lines are synced; the store keeps the lines still.
    case linesSettled = 18

    // Workers, by WorkerRuntime
    /// HELLO is made and not sent.
    case helloMade = 32
    /// WELCOME has come.
    case welcomed = 33
    /// A task has come; the plugin has not seen it.
    case taskReceived = 34
    /// A task has ended; its result is not sent.
    case taskEnded = 35
    /// Results are sent, not acknowledged.
    case resultsSent = 36
    /// Results are acknowledged.
    case resultsAcknowledged = 37
    /// A beat is made and not sent.
    case beatMade = 38
    /// Everything is given back; BYE is not sent.
    case byeMade = 39

    // lora-worker
    /// A checkpoint is whole under its temporary name.
    case checkpointWritten = 48
    /// A checkpoint has its name.
    case checkpointPlaced = 49

    /// The variable that arms one of them.
    public static let variable = "LORAQ_FAILPOINT"

    private struct Plan {
        /// Nil: any place counts.
        var place: Failpoint?
        var countdown: Int
        var file: String
    }

    private static let isArmed = Atomic(false)
    private static let plan = Mutex<Plan?>(nil)

    /// Arms the place that `text` names; nil arms nothing. To be called once, first thing in main.
    ///
    /// - Throws: `EINVAL` when the text is not of the form above.
    public static func arm(_ text: String?) throws(SystemError) {
        guard let text, !text.isEmpty else { return }
        let parts = text.split(separator: ":", maxSplits: 2)
        guard parts.count == 3, let number = Int(parts[0]), let count = Int(parts[1]), count > 0,
            number == 0 || Failpoint(rawValue: number) != nil
        else {
            throw SystemError(operation: "arm a failpoint by \(variable)=\(text):", code: EINVAL)
        }
        let armed = Plan(
            place: Failpoint(rawValue: number), countdown: count, file: String(parts[2]))
        plan.withLock { $0 = armed }
        isArmed.store(true, ordering: .relaxed)
    }

    /// The process is at this place: it ends here, if that was wanted.
    public func reach() {
        if Failpoint.isArmed.load(ordering: .relaxed) { count() }
    }

    private func count() {
        let file = Failpoint.plan.withLock { plan -> String? in
            guard let known = plan, known.place == nil || known.place == self else { return nil }
            plan?.countdown -= 1
            return known.countdown == 1 ? known.file : nil
        }
        guard let file else { return }
        let descriptor = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return }
        close(descriptor)
        kill(getpid(), SIGKILL)
        while true { pause() }
    }
}
