/// How a job's work is cut.
public enum JobShape: Sendable, Equatable {
    /// One task.
    case single
    /// A task per line of a JSONL blob.
    case lines(blob: Digest)

    public var isLines: Bool {
        if case .lines = self { return true }
        return false
    }
}

/// A named input of a job; its bytes are a blob.
public struct JobInput: Sendable, Equatable {
    public var name: String
    public var blob: Digest
    public var bytes: Int64

    public init(name: String, blob: Digest, bytes: Int64) {
        self.name = name
        self.blob = blob
        self.bytes = bytes
    }
}

public enum DependencyMode: String, Sendable {
    /// The other job must have succeeded.
    case success
    /// The other job must have ended, however.
    case finish
}

public enum ComparisonOperator: String, Sendable, CaseIterable {
    case less = "<"
    case lessOrEqual = "<="
    case greater = ">"
    case greaterOrEqual = ">="
    case equal = "=="
    case notEqual = "!="

    /// False whenever either side is NaN, but for `!=`, as IEEE 754 has it.
    public func holds(_ left: Double, _ right: Double) -> Bool {
        switch self {
        case .less: left < right
        case .lessOrEqual: left <= right
        case .greater: left > right
        case .greaterOrEqual: left >= right
        case .equal: left == right
        case .notEqual: left != right
        }
    }
}

/// A condition on a metric in the result of the job before.
public struct DependencyCondition: Sendable, Equatable {
    public var metric: String
    public var comparison: ComparisonOperator
    public var value: Double

    public init(metric: String, comparison: ComparisonOperator, value: Double) {
        self.metric = metric
        self.comparison = comparison
        self.value = value
    }
}

/// How a job that another one comes after ended, as far as the other one asked to be told.
public struct DependencyOutcome: Sendable, Equatable {
    public var state: JobState
    public var metrics: [String: Double]
    public var error: BrokerError?

    public init(state: JobState, metrics: [String: Double] = [:], error: BrokerError? = nil) {
        self.state = state
        self.metrics = metrics
        self.error = error
    }

    /// What of a job's end the entry asks for.
    init(_ status: JobStatus, told: [String]) {
        state = status.state
        metrics = status.metrics.filter { told.contains($0.key) && $0.value.isFinite }
        error = status.error.map { error in
            BrokerError(
                error.code, error.errorClass, String(error.message.prefix(Self.messageLength)))
        }
    }

    /// Characters of an error's message: what a task is told must fit one message.
    static let messageLength = 240
}

/// One entry of a job's `after`.
public struct Dependency: Sendable, Equatable {
    public var job: JobID
    public var mode: DependencyMode
    public var condition: DependencyCondition?
    /// Metrics of the other job that the task is told, with how that job ended; nil: it is told nothing.
    public var told: [String]?
    /// Set by the core, and stored, once the other job has ended and this entry is fulfilled.
    public var isFulfilled = false
    /// Set with `isFulfilled` where `told` is not nil.
    public var outcome: DependencyOutcome?

    public init(
        job: JobID, mode: DependencyMode, condition: DependencyCondition? = nil,
        told: [String]? = nil
    ) {
        self.job = job
        self.mode = mode
        self.condition = condition
        self.told = told
    }

    /// What a retry looks at: not fulfilled, or to be told anew.
    var isOpenOrTold: Bool { !isFulfilled || told != nil }
}

/// An artifact that a job will make, known at submit: its type and its name without version (`M`, `M:A`).
public struct ProducedArtifact: Sendable, Equatable {
    public var type: String
    public var name: String

    public init(type: String, name: String) {
        self.type = type
        self.name = name
    }
}

/// What a client submits, read and checked by the runtime as far as form goes.
public struct Submission: Sendable, Equatable {
    public var id: JobID
    public var kind: String
    /// The spec's JSON text; the core never looks inside.
    public var spec: [UInt8]
    /// Digest of kind, spec and inputs: what makes two submissions of one id the same.
    public var digest: Digest
    public var shape: JobShape
    public var inputs: [JobInput] = []
    public var after: [Dependency] = []
    public var priority = 0
    public var tenant = "default"
    public var label: String?
    /// The cap that the job itself asks for, in seconds of being at work.
    public var maximumSeconds: Double?
    /// The job may go on under other numerics than those of its first attempt.
    public var allowsAnyNumerics = false
    /// One bad line refuses the whole file.
    public var isStrict = false
    /// Artifact references that the spec names (`M`, `M:A`, `M:A@3`, `M:A#tag`): each must exist, or be produced by a job in `after`.
    public var references: [String] = []
    /// The same, but what is not there when the job may run is left out of its task. Only for jobs of one task; sorted.
    public var optionalReferences: [String] = []
    public var produces: [ProducedArtifact] = []
    /// Cost estimate of a job of one task, in any one unit that the kinds share.
    public var cost: Double = 1
    /// Memory that the task needs beside what its worker has anyway, in bytes; 0: not known.
    public var memoryBytes = 0
    /// The plugin whose workers run it; nil: any that takes the kind unasked.
    public var worker: String?

    public init(id: JobID, kind: String, spec: [UInt8], digest: Digest, shape: JobShape) {
        self.id = id
        self.kind = kind
        self.spec = spec
        self.digest = digest
        self.shape = shape
    }
}

/// States of a job, as docs/protocol.md names them.
public enum JobState: String, Sendable, CaseIterable {
    case splitting, waiting, queued, running, held
    case succeeded, failed, cancelled, skipped
    case dependencyFailed = "dependency_failed"

    public var isFinal: Bool {
        switch self {
        case .splitting, .waiting, .queued, .running, .held: false
        case .succeeded, .failed, .cancelled, .skipped, .dependencyFailed: true
        }
    }
}

/// A job's tasks by state. `total` is nil while a batch file is being split.
public struct JobCounts: Sendable, Equatable {
    public var total: Int?
    public var leased = 0
    public var backoff = 0
    public var done = 0
    public var failed = 0
    public var cancelled = 0
    public var dead = 0

    public init(total: Int? = nil) { self.total = total }

    /// Tasks that ended, in whatever way.
    public var ended: Int { done + failed + cancelled + dead }
    /// Tasks that wait for a worker, in memory or still in the file.
    public var ready: Int { max(0, (total ?? 0) - leased - backoff - ended) }
    /// Tasks that have not ended.
    public var open: Int { max(0, (total ?? 0) - ended) }
}

/// Which tasks a `RETRY` runs again.
public enum RetryScope: String, Sendable {
    /// Those that did not succeed.
    case failed
    case all
}

/// The part of a job that changes; stored whole at each change.
public struct JobStatus: Sendable, Equatable {
    public var state: JobState
    public var isHeld = false
    public var counts: JobCounts
    /// Milliseconds since 1970, for display.
    public var startedAt: Int64?
    public var finishedAt: Int64?
    /// 1 for the first run, one more with each retry by a person.
    public var generation = 1
    /// What the newest retry runs again; nil in generation 1.
    public var retryScope: RetryScope?
    /// The generation that last began with everything: what succeeded in an earlier one does not count as done.
    public var wholeGeneration = 1
    /// Every line below this one has been given to a worker or has ended, in this generation.
    public var firstOpenLine = 0
    /// Lines that cannot be run in any generation, found when the file was split.
    public var badLines = 0
    /// Results accepted so far: the next result's place in completion order.
    public var resultCount: Int64 = 0
    /// The numerics of the first attempt; the job's tasks go to no other, unless it allows it.
    public var numerics: String?
    public var allowsAnyNumerics: Bool
    public var error: BrokerError?
    /// For a job of one task: attempts begun so far, over all generations.
    public var attempts = 0
    /// Nanoseconds at work before the present broker run; counts towards `maximumSeconds`.
    public var workedNanoseconds: Int64 = 0
    /// Sums over the accepted results, by name.
    public var usage: [String: Double] = [:]
    /// Metrics of the accepted result of a job of one task.
    public var metrics: [String: Double] = [:]

    public init(state: JobState, counts: JobCounts, allowsAnyNumerics: Bool) {
        self.state = state
        self.counts = counts
        self.allowsAnyNumerics = allowsAnyNumerics
    }
}

/// A job as it is stored.
public struct JobRecord: Sendable, Equatable {
    public var submission: Submission
    /// Order of acceptance, from 1; the store's key.
    public var sequence: Int64
    /// Milliseconds since 1970, for display.
    public var createdAt: Int64
    public var status: JobStatus
    /// Artifact references that the job names, with what each is bound to once it is.
    public var bindings: [String: ArtifactKey?] = [:]

    public init(submission: Submission, sequence: Int64, createdAt: Int64, status: JobStatus) {
        self.submission = submission
        self.sequence = sequence
        self.createdAt = createdAt
        self.status = status
    }

    public var id: JobID { submission.id }
}
