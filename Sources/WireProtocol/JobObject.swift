import JSONModel

/// A job's state on the wire.
public enum JobState: String, Codable, Sendable, CaseIterable, WireEnumeration {
    /// The lines of its batch file are being counted and checked.
    case splitting
    /// For the jobs named in `after`.
    case waiting
    case queued, running, held
    case succeeded, failed, cancelled, skipped
    case dependencyFailed = "dependency_failed"

    public var isFinal: Bool {
        switch self {
        case .splitting, .waiting, .queued, .running, .held: false
        case .succeeded, .failed, .cancelled, .skipped, .dependencyFailed: true
        }
    }
}

/// A task's state on the wire.
public enum TaskState: String, Codable, Sendable, CaseIterable, WireEnumeration {
    case ready, leased, backoff
    case done, failed, cancelled, dead
}

/// A job as `STATUS` and `LIST` show it.
public struct JobObject: Codable, Sendable, Equatable {
    public var job: JobID
    public var kind: WireName
    public var state: JobState
    public var label: String?
    public var tenant: WireName
    public var priority: Int
    public var createdAtMs: Int
    public var startedAtMs: Int?
    public var finishedAtMs: Int?
    public var counts: JobCounts
    public var lines: LineCounts?
    public var progress: ProgressObject?
    /// The result object of a job of one task.
    public var result: JSONValue?
    public var error: ErrorObject?
    public var reason: ReasonObject?
    public var after: [Dependency]
    /// Numbers by name, summed over accepted results.
    public var usage: [String: Double]
    /// Of a job of one task that has ended: what `after … if` reads.
    public var metrics: [String: Double]?
    public var numerics: String?
    /// Where it was asked for.
    public var spec: JSONValue?

    enum CodingKeys: String, CodingKey {
        case job, kind, state, label, tenant, priority
        case createdAtMs = "created_at_ms"
        case startedAtMs = "started_at_ms"
        case finishedAtMs = "finished_at_ms"
        case counts, lines, progress, result, error, reason, after, usage, metrics, numerics, spec
    }

    public init(
        job: JobID, kind: WireName, state: JobState, label: String? = nil, tenant: WireName,
        priority: Int = 0, createdAtMs: Int, startedAtMs: Int? = nil, finishedAtMs: Int? = nil,
        counts: JobCounts, lines: LineCounts? = nil, progress: ProgressObject? = nil,
        result: JSONValue? = nil, error: ErrorObject? = nil, reason: ReasonObject? = nil,
        after: [Dependency] = [], usage: [String: Double] = [:], numerics: String? = nil
    ) {
        self.job = job
        self.kind = kind
        self.state = state
        self.label = label
        self.tenant = tenant
        self.priority = priority
        self.createdAtMs = createdAtMs
        self.startedAtMs = startedAtMs
        self.finishedAtMs = finishedAtMs
        self.counts = counts
        self.lines = lines
        self.progress = progress
        self.result = result
        self.error = error
        self.reason = reason
        self.after = after
        self.usage = usage
        self.numerics = numerics
    }
}

/// A job's tasks by state.
public struct JobCounts: Codable, Sendable, Equatable {
    /// Nil while a batch file is being split.
    public var total: Int?
    public var ready: Int
    public var leased: Int
    public var backoff: Int
    public var done: Int
    public var failed: Int
    public var cancelled: Int
    public var dead: Int

    enum CodingKeys: String, CodingKey {
        case total, ready, leased, backoff, done, failed, cancelled, dead
    }

    public init(
        total: Int? = nil, ready: Int = 0, leased: Int = 0, backoff: Int = 0, done: Int = 0,
        failed: Int = 0, cancelled: Int = 0, dead: Int = 0
    ) {
        self.total = total
        self.ready = ready
        self.leased = leased
        self.backoff = backoff
        self.done = done
        self.failed = failed
        self.cancelled = cancelled
        self.dead = dead
    }

    public var finished: Int { done + failed + cancelled + dead }

    /// `total` is written as null where it is not known yet.
    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: CodingKeys.self)
        try fields.encode(total, forKey: .total)
        try fields.encode(ready, forKey: .ready)
        try fields.encode(leased, forKey: .leased)
        try fields.encode(backoff, forKey: .backoff)
        try fields.encode(done, forKey: .done)
        try fields.encode(failed, forKey: .failed)
        try fields.encode(cancelled, forKey: .cancelled)
        try fields.encode(dead, forKey: .dead)
    }
}

/// The lines of a job's input file.
public struct LineCounts: Codable, Sendable, Equatable {
    /// Lines read so far, blank ones not counted.
    public var read: Int
    /// Those refused by the splitter; they stand in the job's errors.
    public var bad: Int
    /// The whole file has been read.
    public var complete: Bool
    public init(read: Int, bad: Int, complete: Bool) {
        self.read = read
        self.bad = bad
        self.complete = complete
    }
}

/// The newest `PROGRESS` of a job of one task.
public struct ProgressObject: Codable, Sendable, Equatable {
    /// Grows while there is headway.
    public var counter: Int
    public var done: Double?
    public var total: Double?
    public var unit: String?
    public var metrics: [String: Double]?
    public var message: String?
    public init(
        counter: Int, done: Double? = nil, total: Double? = nil, unit: String? = nil,
        metrics: [String: Double]? = nil, message: String? = nil
    ) {
        self.counter = counter
        self.done = done
        self.total = total
        self.unit = unit
        self.metrics = metrics
        self.message = message
    }
}

/// What a job waits for, or why it ended without running.
public struct ReasonObject: Codable, Sendable, Equatable {
    public var code: String
    public var message: String
    public var details: JSONValue?
    public init(code: String, message: String, details: JSONValue? = nil) {
        self.code = code
        self.message = message
        self.details = details
    }
}

public enum ArtifactType: String, Codable, Sendable, CaseIterable, WireEnumeration {
    case model, adapter
}

/// A registered version of a model or an adapter.
public struct ArtifactObject: Codable, Sendable, Equatable {
    public var type: ArtifactType
    /// The reference without version: `M` or `M:A`.
    public var name: ArtifactReference
    public var version: Int
    public var digest: BlobDigest
    public var bytes: Int
    public var createdAtMs: Int
    /// The job that made it.
    public var job: JobID?
    public var tags: [WireName]
    /// The worker's own, opaque to the broker.
    public var meta: JSONValue

    enum CodingKeys: String, CodingKey {
        case type, name, version, digest, bytes
        case createdAtMs = "created_at_ms"
        case job, tags, meta
    }

    public init(
        type: ArtifactType, name: ArtifactReference, version: Int, digest: BlobDigest, bytes: Int,
        createdAtMs: Int, job: JobID? = nil, tags: [WireName] = [],
        meta: JSONValue = .object(JSONObject())
    ) {
        self.type = type
        self.name = name
        self.version = version
        self.digest = digest
        self.bytes = bytes
        self.createdAtMs = createdAtMs
        self.job = job
        self.tags = tags
        self.meta = meta
    }
}
