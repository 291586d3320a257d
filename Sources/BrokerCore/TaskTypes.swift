/// States of a task, as docs/protocol.md names them.
public enum TaskState: String, Sendable, CaseIterable {
    case ready, leased, backoff
    case done, failed, cancelled, dead

    public var isFinal: Bool { self != .ready && self != .leased && self != .backoff }
}

/// Why an attempt gave no result; each class has its own budget and backoff.
public enum FailureClass: String, Sendable, CaseIterable {
    /// The task itself is wrong; never tried again.
    case user
    /// The worker said that trying again may help.
    case retryable
    /// The worker's process died.
    case crash
    /// The lease ran out in silence.
    case lost
    /// Progress stood still for longer than the kind states.
    case timeout
    /// The broker, or the worker for its own reasons, put it back; free.
    case preempted
}

/// Failures of one task so far in this generation, by class.
public struct FailureCounts: Sendable, Equatable {
    public var retryable = 0
    public var crash = 0
    public var lost = 0
    public var timeout = 0
    public var preempted = 0
    /// Deaths of a worker with other tasks in hand; these cost nothing.
    public var shared = 0

    public init() {}
}

/// A task that has been given to a worker at least once and has not ended. Tasks that were never given out, and those
/// that ended, have no such record: the first follow from the job, the second are results.
public struct TaskRecord: Sendable, Equatable {
    public var id: TaskID
    public var jobSequence: Int64
    public var generation: Int
    public var state: TaskState
    /// Attempts begun so far; the present one's number while leased.
    public var attempt: Int
    /// While leased.
    public var lease: Token?
    /// The instance that has, or last had it.
    public var worker: String?
    /// Milliseconds since 1970 at the present attempt's start, for display.
    public var leasedAt: Int64?
    /// While in backoff: the whole wait, in milliseconds; begun anew after a broker start.
    public var backoffMilliseconds: Int?
    public var failures = FailureCounts()
    /// Runs alone on its worker.
    public var isSuspect = false
    public var customID: String?
    public var cost: Double
    /// Where the line lies in its blob, for the runtime's use.
    public var location: LineLocation?
    /// References as written in the line; the job holds what each is bound to.
    public var references: [String]

    public init(
        id: TaskID, jobSequence: Int64, generation: Int, state: TaskState, attempt: Int,
        cost: Double, references: [String]
    ) {
        self.id = id
        self.jobSequence = jobSequence
        self.generation = generation
        self.state = state
        self.attempt = attempt
        self.cost = cost
        self.references = references
    }
}

/// Where a line lies in its blob.
public struct LineLocation: Sendable, Equatable {
    /// Byte offset.
    public var offset: Int64
    /// Bytes, without the line break.
    public var length: Int32
    /// Line number in the file, from 1.
    public var number: Int64

    public init(offset: Int64, length: Int32, number: Int64) {
        self.offset = offset
        self.length = length
        self.number = number
    }
}

/// What is known of an attempt that ended: the evidence behind `dead`, `explain` and `loraq logs`.
public struct AttemptRecord: Sendable, Equatable {
    public var task: TaskID
    public var jobSequence: Int64
    public var attempt: Int
    public var generation: Int
    public var worker: String
    public var pid: Int32?
    public var leasedAt: Int64
    public var endedAt: Int64
    /// `ok`, `error`, `preempted`, `cancelled`, `deferred`, `crash`, `lost`, `timeout`.
    public var outcome: String
    public var error: BrokerError?
    /// Other tasks that the worker held when it died.
    public var companions = 0
    public var exit: ProcessExit?

    public init(
        task: TaskID, jobSequence: Int64, attempt: Int, generation: Int, worker: String,
        pid: Int32?, leasedAt: Int64, endedAt: Int64, outcome: String
    ) {
        self.task = task
        self.jobSequence = jobSequence
        self.attempt = attempt
        self.generation = generation
        self.worker = worker
        self.pid = pid
        self.leasedAt = leasedAt
        self.endedAt = endedAt
        self.outcome = outcome
    }
}

/// Where an accepted result's line lies: `runs/<job>/results-<segment>.jsonl`.
public struct ResultLocation: Sendable, Equatable {
    public var segment: Int32
    public var offset: Int64
    /// Bytes, without the line break.
    public var length: Int32

    public init(segment: Int32, offset: Int64, length: Int32) {
        self.segment = segment
        self.offset = offset
        self.length = length
    }
}

/// How a task ended, in one generation. One exists per task and generation, at most.
public struct ResultRecord: Sendable, Equatable {
    public var task: TaskID
    public var jobSequence: Int64
    /// 0 for a line that was found bad when its file was split: no retry runs it.
    public var generation: Int
    /// Place in the job's completion order, from 1: the cursor of `FETCH`.
    public var order: Int64
    public var state: TaskState
    /// The accepted attempt, or the last one; 0 where there was none.
    public var attempt: Int
    public var worker: String?
    /// The worker's line; nil where the broker itself ended the task, and then `error` tells why.
    public var location: ResultLocation?
    public var error: BrokerError?
    public var customID: String?
    /// Line number in the file, from 1; nil for a job of one task.
    public var lineNumber: Int64?
    public var finishedAt: Int64

    public init(
        task: TaskID, jobSequence: Int64, generation: Int, order: Int64, state: TaskState,
        attempt: Int, finishedAt: Int64
    ) {
        self.task = task
        self.jobSequence = jobSequence
        self.generation = generation
        self.order = order
        self.state = state
        self.attempt = attempt
        self.finishedAt = finishedAt
    }

    /// Goes to the `errors` stream, not to `results`.
    public var isError: Bool { state != .done }
}
