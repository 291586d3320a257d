import Collections

/// The artifact references of a task, shared by all tasks of its job that name the same.
final class ReferenceSet: Sendable {
    let references: [String]
    /// As bound: with the base of each `M:A` before it.
    let bindings: [(reference: String, key: ArtifactKey)]
    let digests: [Digest]

    init(
        references: [String], bindings: [(reference: String, key: ArtifactKey)],
        digests: [Digest]
    ) {
        self.references = references
        self.bindings = bindings
        self.digests = digests
    }

    static let empty = ReferenceSet(references: [], bindings: [], digests: [])
}

/// A task in memory: it has not ended.
final class LiveTask {
    unowned let job: LiveJob
    let index: Int
    let references: ReferenceSet
    let cost: Double
    let customID: String?
    let location: LineLocation?
    var attempt: Int
    var state = TaskState.ready
    /// A record of it is in the store.
    var isStored = false
    var failures = FailureCounts()
    var isSuspect = false
    /// Times that it, at the head of its queue, was passed over for affinity's sake.
    var skips = 0

    // While leased
    var lease: Token?
    /// Nil while leased: its worker has not come back since the broker's start.
    weak var worker: LiveWorker?
    var workerName: String?
    var leasedAtWall: Int64 = 0
    var renewedAt: Int64 = 0
    var counter: Int64 = 0
    var counterAt: Int64 = 0
    /// Asked to stop since it does not move; its worker dies when this passes.
    var stopDeadline: Int64?
    var isPreemptRequested = false

    // While in backoff
    var backoffUntil: Int64 = 0
    var backoffMilliseconds = 0
    var backoffReason: String?

    init(
        job: LiveJob, index: Int, references: ReferenceSet, cost: Double, customID: String?,
        location: LineLocation?, attempt: Int
    ) {
        self.job = job
        self.index = index
        self.references = references
        self.cost = cost
        self.customID = customID
        self.location = location
        self.attempt = attempt
    }

    var id: TaskID { TaskID(job: job.id, index: index) }

    var record: TaskRecord {
        var record = TaskRecord(
            id: id, jobSequence: job.sequence, generation: job.status.generation, state: state,
            attempt: attempt, cost: cost, references: references.references)
        record.lease = lease
        record.worker = workerName
        record.leasedAt = state == .leased ? leasedAtWall : nil
        record.backoffMilliseconds = state == .backoff ? backoffMilliseconds : nil
        record.failures = failures
        record.isSuspect = isSuspect
        record.customID = customID
        record.location = location
        return record
    }
}

/// A job in memory.
final class LiveJob {
    let submission: Submission
    let sequence: Int64
    let createdAt: Int64
    var status: JobStatus
    var after: [Dependency]
    var bindings: [String: ArtifactKey?] = [:]
    /// Unfinished jobs that come after this one, with the place in their `after`. By id: a chain of objects would be
    /// freed by a recursion as deep as the chain.
    var dependents: [(job: JobID, position: Int)] = []
    var openDependencies = 0

    var tasks: [Int: LiveTask] = [:]
    /// Loaded and never given out in this generation, by index.
    var fresh: Deque<LiveTask> = []
    /// Given back, ready again.
    var returned: Deque<LiveTask> = []
    var referenceSets: [[String]: ReferenceSet] = [:]
    /// Where the next piece of the file begins.
    var nextLine = 0
    var isExhausted = false
    var pendingRequest: LineRequest?
    var splitLines = 0

    /// The queue that it stands in, while it has something to give out or to load.
    var queue: ReadyQueue?
    /// Its references are bound, its single task made.
    var isActivated = false
    /// Lines that ended while a piece was being loaded: they may be in the answer still.
    var endedWhileLoading: Set<Int> = []
    var isInserted = false
    var isDirty = false
    /// Since when a task of it has been at work, in this broker run.
    var workingSince: Int64?
    var workStoredAt: Int64 = 0
    var progress: ProgressReport?

    init(_ record: JobRecord) {
        submission = record.submission
        sequence = record.sequence
        createdAt = record.createdAt
        status = record.status
        after = record.submission.after
        bindings = record.bindings
    }

    var id: JobID { submission.id }
    var isLines: Bool { submission.shape.isLines }
    var hasReady: Bool { !returned.isEmpty || !fresh.isEmpty }
    /// Nothing of it is still to be split.
    var isSplit: Bool { status.counts.total != nil }
    /// Split (where it must be), not held, and everything that it comes after is there.
    var isRunnable: Bool {
        !status.state.isFinal && !status.isHeld && openDependencies == 0
            && status.counts.total != nil
    }

    func workedNanoseconds(at time: Int64) -> Int64 {
        status.workedNanoseconds + (workingSince.map { time - $0 } ?? 0)
    }

    var record: JobRecord {
        var record = JobRecord(
            submission: submission, sequence: sequence, createdAt: createdAt, status: status)
        record.submission.after = after
        record.bindings = bindings
        return record
    }
}

/// An attempt that its worker must give up.
struct RevokedAttempt {
    /// The worker's progress on it, and when that last changed.
    var counter: Int64
    var at: Int64
    /// Of a cancelled task: what it had produced may still come, and is kept.
    var partial: PartialResult?
}

/// The place of what a cancelled task had produced.
struct PartialResult {
    let job: LiveJob
    let generation: Int
    let customID: String?
    let lineNumber: Int64?
}

/// A connected worker.
final class LiveWorker {
    let hello: WorkerHello
    let session: Token
    /// Resource class by kind.
    let classes: [String: String]
    var credit: [String: Int] = [:]
    var sent: [String: Int] = [:]
    var held: [TaskID: LiveTask] = [:]
    /// How many of them are jobs of one task.
    var singlesHeld = 0
    /// How many of them there are, by resource class.
    var heldCounts: [String: Int] = [:]
    /// What it has in memory, as far as is known.
    var loaded: Set<Digest> = []
    var lastHeard: Int64
    var residentBytes: Int64 = 0
    var peakBytes: Int64?
    var isDraining = false
    /// Holds a suspect, and nothing else until that has ended.
    var isAlone = false
    /// Kept free of other work until it is empty, for a suspect.
    var isReserved = false
    var killReason: String?
    /// When anything last moved, per resource class.
    var classMovedAt: [String: Int64] = [:]
    /// Attempts that it must give up, until it does not name them any more.
    var revoked: [AttemptKey: RevokedAttempt] = [:]

    init(hello: WorkerHello, session: Token, classes: [String: String], at time: Int64) {
        self.hello = hello
        self.session = session
        self.classes = classes
        lastHeard = time
    }

    var instance: String { hello.instance }
    var peer: PeerID { hello.peer }

    func available(_ resourceClass: String) -> Int {
        max(0, (credit[resourceClass] ?? 0) - (sent[resourceClass] ?? 0))
    }

    var heldInOrder: [LiveTask] {
        held.values.sorted { ($0.job.sequence, $0.index) < ($1.job.sequence, $1.index) }
    }

    /// May be given more.
    var isOpen: Bool { !isDraining && !isAlone && !isReserved && killReason == nil }
}

/// Jobs of one lane, priority and tenant, by order of acceptance.
final class ReadyQueue {
    unowned let lane: Lane
    let priority: Int
    let tenant: Tenant
    /// Of batches of more than `Limits.bulkLines` lines; they and the small ones take turns.
    let isBulk: Bool
    var jobs: Deque<LiveJob> = []
    /// Windows may have to be filled.
    var isDirty = false

    init(lane: Lane, priority: Int, tenant: Tenant, isBulk: Bool) {
        self.lane = lane
        self.priority = priority
        self.tenant = tenant
        self.isBulk = isBulk
    }

    /// 0 while it is this queue's turn among its tenant's, else 1.
    var turn: Int { lane.key.isLines && isBulk != tenant.servesBulkNext ? 1 : 0 }

    /// What is served first at one priority: the tenant that had least, of its jobs those whose turn it is, the oldest.
    func precedes(_ job: LiveJob, _ other: ReadyQueue, _ otherJob: LiveJob) -> Bool {
        if tenant.counter != other.tenant.counter { return tenant.counter < other.tenant.counter }
        if turn != other.turn { return turn < other.turn }
        return job.sequence < otherJob.sequence
    }

    /// Position of the job, or where it belongs.
    func position(_ sequence: Int64) -> Int {
        if let last = jobs.last, last.sequence < sequence { return jobs.count }
        var low = 0
        var high = jobs.count
        while low < high {
            let middle = (low + high) / 2
            if jobs[middle].sequence < sequence { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

final class Tenant {
    let name: String
    /// Cost given out so far, lifted to the least active tenant's when it comes back from idleness.
    var counter = 0.0
    var queuedJobs = 0
    var unfinishedJobs = 0
    /// The last line given out was of a small batch, so the next one is of a bulk one, if there is any.
    var servesBulkNext = false

    init(name: String) { self.name = name }
}

struct QueueKey: Hashable {
    let tenant: String
    let isBulk: Bool
}

/// The queues of one priority.
final class Level {
    let priority: Int
    var queues: [QueueKey: ReadyQueue] = [:]

    init(priority: Int) { self.priority = priority }
}

/// What work can go to the same workers: a kind, cut in lines or not, pinned to numerics and to a plugin or free.
struct LaneKey: Hashable {
    let kind: String
    let isLines: Bool
    let numerics: String?
    let worker: String?
}

final class Lane {
    let key: LaneKey
    /// By priority, highest first. None is empty, and no queue in one is.
    var levels: [Level] = []
    var suspects: Deque<LiveTask> = []
    var unavailableSince: Int64?

    init(key: LaneKey) { self.key = key }

}

/// Something that is due at a time; checked against its object's present state when it comes.
struct Timer: Comparable {
    enum Purpose {
        case backoff(LiveTask)
        case cap(LiveJob)
    }

    let deadline: Int64
    let order: Int64
    let purpose: Purpose

    static func < (left: Timer, right: Timer) -> Bool {
        left.deadline != right.deadline
            ? left.deadline < right.deadline : left.order < right.order
    }

    static func == (left: Timer, right: Timer) -> Bool { left.order == right.order }
}
