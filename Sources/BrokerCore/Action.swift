/// What one step gives: changes to store, then what to do once they are stored.
public struct Step: Sendable {
    /// In order, all or nothing.
    public var mutations: [Mutation] = []
    /// In order, each only after this step's mutations, and all before them, are on disk.
    public var actions: [Action] = []

    public init() {}
}

/// Something for the runtime to do after the commit of the same step.
public enum Action: Sendable {
    case reply(RequestID, Reply)
    /// Which of these ids does the store know? Answered by `Event.jobsFound`.
    case lookUpJobs(lookup: Int64, [JobID])
    /// Split this batch file; answered by `splitPart`…, then `splitFinished` or `splitFailed`. Comes again after a broker start.
    case split(SplitRequest)
    /// Answered by `linesLoaded` or `loadFailed`.
    case loadLines(LineRequest)

    case welcome(PeerID, Welcome)
    case dispatch(PeerID, instance: String, [Assignment])
    case beatAck(PeerID, drop: [AttemptKey])
    case cancelAttempts(PeerID, [AttemptKey], reason: String)
    case preemptAttempts(PeerID, [AttemptKey], reason: String)
    case acknowledge(PeerID, [ResultStatus])
    /// The sender must say `HELLO` again.
    case unknownSession(PeerID)
    case drainWorker(PeerID, instance: String)
    /// Signal the plugin's whole process group.
    case killWorker(instance: String, reason: String)

    /// For XPUB; the numbered ones are stored in the same step.
    case publish(BrokerEvent)
    /// For sinks: an accepted result.
    case resultAccepted(ResultRecord)
    /// For sinks, and for the runtime to let go of what it caches for the job.
    case jobEnded(JobID, JobState)
    /// Nothing refers to these any more: their folders may be deleted.
    case artifactsRemoved([ArtifactRecord])
}

public struct SplitRequest: Sendable, Equatable {
    public var job: JobID
    public var jobSequence: Int64
    public var kind: String
    public var blob: Digest
    public var isStrict: Bool
}

public struct Welcome: Sendable, Equatable {
    public var instance: String
    public var session: Token
    public var keep: [AttemptKey]
    public var drop: [AttemptKey]
}

/// A task for a worker, with all that its envelope needs.
/// How one job that a task's job comes after ended.
public struct ToldOutcome: Sendable, Equatable {
    public var job: JobID
    public var outcome: DependencyOutcome

    public init(job: JobID, outcome: DependencyOutcome) {
        self.job = job
        self.outcome = outcome
    }
}

public struct Assignment: Sendable, Equatable {
    public var key: AttemptKey
    public var kind: String
    public var resourceClass: String
    public var generation: Int
    /// The job's spec and inputs; shared storage, not copied.
    public var submission: Submission
    public var artifacts: [ArtifactBinding]
    /// How jobs that this one comes after ended, where it asked to be told.
    public var outcomes: [ToldOutcome]
    public var customID: String?
    /// Nil for a job of one task.
    public var location: LineLocation?
}

public struct ResultStatus: Sendable, Equatable {
    public var task: TaskID
    public var attempt: Int
    /// Else stale: somebody else has, or had, the task. Either way the worker may forget the result.
    public var isAccepted: Bool

    public init(task: TaskID, attempt: Int, isAccepted: Bool) {
        self.task = task
        self.attempt = attempt
        self.isAccepted = isAccepted
    }
}

/// The answer to a request.
public enum Reply: Sendable, Equatable {
    case submitted([SubmitAnswer])
    /// `CANCEL`, `HOLD`, `RELEASE`: an entry per job, in order.
    case jobs([JobAnswer])
    case retried(JobID, state: JobState, tasks: Int)
    case tagged(ArtifactRecord)
    case removed([String])
    case draining([String])
    case failed(BrokerError)
}

public struct SubmitAnswer: Sendable, Equatable {
    public var job: JobID
    public var state: JobState
    public var isDuplicate = false
    /// Nil: accepted.
    public var error: BrokerError?
}

public struct JobAnswer: Sendable, Equatable {
    public var job: JobID
    public var state: JobState?
    public var error: BrokerError?

    public init(job: JobID, state: JobState?, error: BrokerError?) {
        self.job = job
        self.state = state
        self.error = error
    }
}

/// An event of the history and of XPUB. Fields that do not apply are nil.
public struct BrokerEvent: Sendable, Equatable {
    /// From 1, without gaps, in the order of the commits; nil for the ones that are not kept (`progress`).
    public var number: Int64?
    /// `job.queued`, `task.retry`, `worker.lost`, …: the words of docs/protocol.md.
    public var type: String
    /// Milliseconds since 1970.
    public var at: Int64
    public var job: JobID?
    public var jobSequence: Int64?
    public var task: Int?
    public var attempt: Int?
    public var worker: String?
    /// Artifact reference with version.
    public var artifact: String?
    public var code: String?
    public var message: String?
    public var progress: ProgressReport?

    public init(type: String, at: Int64) {
        self.type = type
        self.at = at
    }
}
