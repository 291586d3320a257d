import JSONModel

/// One attempt, as every message about running work names it.
public struct AttemptReference: Codable, Sendable, Hashable {
    public var task: TaskID
    /// From 1.
    public var attempt: Int
    public var lease: LeaseToken

    public init(task: TaskID, attempt: Int, lease: LeaseToken) {
        self.task = task
        self.attempt = attempt
        self.lease = lease
    }
}

/// An attempt named by the broker to the worker that holds it.
public struct AttemptName: Codable, Sendable, Hashable {
    public var task: TaskID
    public var attempt: Int
    public init(task: TaskID, attempt: Int) {
        self.task = task
        self.attempt = attempt
    }
}

/// An entry of `holding` in `HELLO`.
public struct HoldingEntry: Codable, Sendable, Hashable {
    public var task: TaskID
    public var attempt: Int
    public var lease: LeaseToken
    /// It has ended, and its result waits in the worker's spool.
    public var finished: Bool?
    /// The task's resource class: what it counts against.
    public var `class`: WireName?

    public init(_ reference: AttemptReference, finished: Bool? = nil, class: WireName? = nil) {
        task = reference.task
        attempt = reference.attempt
        lease = reference.lease
        self.finished = finished
        self.class = `class`
    }

    public var reference: AttemptReference {
        AttemptReference(task: task, attempt: attempt, lease: lease)
    }
}

/// `HELLO` from a worker on the dispatch socket.
public struct WorkerHello: Codable, Sendable, Equatable {
    public var instance: String
    public var plugin: WireName
    public var pluginVersion: String
    public var pid: Int
    /// Field 22 of `/proc/<pid>/stat`: with the pid it names the process for good.
    public var startTicks: Int?
    public var kinds: [WireName]
    public var numerics: String
    public var threads: Int?
    public var holding: [HoldingEntry]

    enum CodingKeys: String, CodingKey {
        case instance, plugin
        case pluginVersion = "plugin_version"
        case pid
        case startTicks = "start_ticks"
        case kinds, numerics, threads, holding
    }

    public init(
        instance: String, plugin: WireName, pluginVersion: String, pid: Int, startTicks: Int? = nil,
        kinds: [WireName], numerics: String, threads: Int? = nil, holding: [HoldingEntry] = []
    ) {
        self.instance = instance
        self.plugin = plugin
        self.pluginVersion = pluginVersion
        self.pid = pid
        self.startTicks = startTicks
        self.kinds = kinds
        self.numerics = numerics
        self.threads = threads
        self.holding = holding
    }
}

/// `WELCOME` to a worker.
public struct WorkerWelcome: Codable, Sendable, Equatable {
    public var `protocol`: String
    public var epoch: Int
    public var session: String
    public var heartbeatMs: Int
    /// Silence of this length costs the worker its leases.
    public var leaseMs: Int
    public var limits: LimitsObject
    /// What of `holding` goes on.
    public var keep: [AttemptReference]
    /// What of `holding` must stop; its results are not wanted.
    public var drop: [AttemptReference]

    enum CodingKeys: String, CodingKey {
        case `protocol`, epoch, session
        case heartbeatMs = "heartbeat_ms"
        case leaseMs = "lease_ms"
        case limits, keep, drop
    }

    public init(
        epoch: Int, session: String, heartbeatMs: Int, leaseMs: Int,
        limits: LimitsObject = LimitsObject(), keep: [AttemptReference] = [],
        drop: [AttemptReference] = []
    ) {
        self.protocol = Message.tag
        self.epoch = epoch
        self.session = session
        self.heartbeatMs = heartbeatMs
        self.leaseMs = leaseMs
        self.limits = limits
        self.keep = keep
        self.drop = drop
    }
}

/// `CREDIT`: how many tasks the worker may have been sent since `HELLO`, in all, per class.
public struct CreditHeader: Codable, Sendable, Equatable {
    public var session: String
    public var classes: [String: Int]
    public init(session: String, classes: [String: Int]) {
        self.session = session
        self.classes = classes
    }
}

/// `TASK`: tasks for the worker; their `body` are indices of the message's bodies.
public struct TaskHeader: Codable, Sendable, Equatable {
    public var session: String?
    public var tasks: [TaskEnvelope]
    public init(session: String? = nil, tasks: [TaskEnvelope]) {
        self.session = session
        self.tasks = tasks
    }
}

/// All that a worker is told of a task.
public struct TaskEnvelope: Codable, Sendable, Equatable {
    /// An input file of the job, as a path that the worker may read.
    public struct Input: Codable, Sendable, Equatable {
        public var name: WireName
        public var path: String
        public var digest: BlobDigest
        public var bytes: Int
        public init(name: WireName, path: String, digest: BlobDigest, bytes: Int) {
            self.name = name
            self.path = path
            self.digest = digest
            self.bytes = bytes
        }
    }

    /// An artifact that the spec or the line names, resolved and pinned.
    public struct Artifact: Codable, Sendable, Equatable {
        /// As it was written.
        public var ref: String
        public var type: ArtifactType
        /// The reference without version: `M` or `M:A`.
        public var name: ArtifactReference
        public var version: Int
        public var digest: BlobDigest
        /// The folder to read.
        public var path: String
        public var meta: JSONValue?

        public init(
            ref: String, type: ArtifactType, name: ArtifactReference, version: Int,
            digest: BlobDigest, path: String, meta: JSONValue? = nil
        ) {
            self.ref = ref
            self.type = type
            self.name = name
            self.version = version
            self.digest = digest
            self.path = path
            self.meta = meta
        }
    }

    /// How a job that this one comes after ended: of each entry of `after` with `tell`.
    public struct Outcome: Codable, Sendable, Equatable {
        public var job: JobID
        public var state: JobState
        /// Those of the metrics asked for that it has.
        public var metrics: [String: Double]
        public var error: ErrorObject?

        public init(
            job: JobID, state: JobState, metrics: [String: Double] = [:], error: ErrorObject? = nil
        ) {
            self.job = job
            self.state = state
            self.metrics = metrics
            self.error = error
        }
    }

    public var task: TaskID
    public var job: JobID
    public var attempt: Int
    public var lease: LeaseToken
    public var kind: WireName
    public var `class`: WireName
    public var spec: JSONValue
    public var inputs: [Input]
    public var artifacts: [Artifact]
    public var outcomes: [Outcome]?
    /// An absolute folder of this job's, kept between attempts; only for jobs of one task.
    public var workdir: String?
    /// Number of the line in its file, from 1.
    public var line: Int?
    public var customID: String?
    /// Index among the message's bodies: the request line.
    public var body: Int?

    enum CodingKeys: String, CodingKey {
        case task, job, attempt, lease, kind, `class`, spec, inputs, artifacts, outcomes, workdir,
            line
        case customID = "custom_id"
        case body
    }

    public init(
        task: TaskID, attempt: Int, lease: LeaseToken, kind: WireName, class: WireName,
        spec: JSONValue, inputs: [Input] = [], artifacts: [Artifact] = [], workdir: String? = nil,
        line: Int? = nil, customID: String? = nil, body: Int? = nil
    ) {
        self.task = task
        self.job = task.job
        self.attempt = attempt
        self.lease = lease
        self.kind = kind
        self.class = `class`
        self.spec = spec
        self.inputs = inputs
        self.artifacts = artifacts
        self.workdir = workdir
        self.line = line
        self.customID = customID
        self.body = body
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        task = try fields.decode(TaskID.self, forKey: .task)
        job = try fields.decodeIfPresent(JobID.self, forKey: .job) ?? task.job
        attempt = try fields.decode(Int.self, forKey: .attempt)
        lease = try fields.decode(LeaseToken.self, forKey: .lease)
        kind = try fields.decode(WireName.self, forKey: .kind)
        `class` = try fields.decode(WireName.self, forKey: .class)
        spec = try fields.decode(JSONValue.self, forKey: .spec)
        inputs = try fields.decodeIfPresent([Input].self, forKey: .inputs) ?? []
        artifacts = try fields.decodeIfPresent([Artifact].self, forKey: .artifacts) ?? []
        outcomes = try fields.decodeIfPresent([Outcome].self, forKey: .outcomes)
        workdir = try fields.decodeIfPresent(String.self, forKey: .workdir)
        line = try fields.decodeIfPresent(Int.self, forKey: .line)
        customID = try fields.decodeIfPresent(String.self, forKey: .customID)
        body = try fields.decodeIfPresent(Int.self, forKey: .body)
    }

    public var reference: AttemptReference {
        AttemptReference(task: task, attempt: attempt, lease: lease)
    }

    /// The artifact that was written as `ref`.
    public func artifact(_ ref: String) -> Artifact? { artifacts.first { $0.ref == ref } }
}

/// `BEAT`: a sign of life from a thread that never computes.
public struct BeatHeader: Codable, Sendable, Equatable {
    public struct Held: Codable, Sendable, Hashable {
        public var task: TaskID
        public var attempt: Int
        public var lease: LeaseToken
        /// Grows while the attempt makes headway: tokens, steps, bytes.
        public var progress: Int
        public init(_ reference: AttemptReference, progress: Int) {
            task = reference.task
            attempt = reference.attempt
            lease = reference.lease
            self.progress = progress
        }
        public var reference: AttemptReference {
            AttemptReference(task: task, attempt: attempt, lease: lease)
        }
    }

    public var session: String
    public var held: [Held]
    public var rssBytes: Int
    public var peakBytes: Int?
    /// Artifacts in memory, for affinity.
    public var loaded: [BlobDigest]?

    enum CodingKeys: String, CodingKey {
        case session, held
        case rssBytes = "rss_bytes"
        case peakBytes = "peak_bytes"
        case loaded
    }

    public init(
        session: String, held: [Held], rssBytes: Int, peakBytes: Int? = nil,
        loaded: [BlobDigest]? = nil
    ) {
        self.session = session
        self.held = held
        self.rssBytes = rssBytes
        self.peakBytes = peakBytes
        self.loaded = loaded
    }
}

/// `BEAT_ACK`.
public struct BeatAckHeader: Codable, Sendable, Equatable {
    public var epoch: Int
    /// Attempts that are not, or no longer, the sender's.
    public var drop: [AttemptReference]
    public init(epoch: Int, drop: [AttemptReference] = []) {
        self.epoch = epoch
        self.drop = drop
    }
}

/// `DEFER`: gives tasks back unrun; costs no attempt.
public struct DeferHeader: Codable, Sendable, Equatable {
    public var session: String
    public var tasks: [AttemptReference]
    public var reason: String
    public var retryAfterMs: Int

    enum CodingKeys: String, CodingKey {
        case session, tasks, reason
        case retryAfterMs = "retry_after_ms"
    }

    public init(session: String, tasks: [AttemptReference], reason: String, retryAfterMs: Int) {
        self.session = session
        self.tasks = tasks
        self.reason = reason
        self.retryAfterMs = retryAfterMs
    }
}

/// `PREEMPT` and `CANCEL` to a worker.
public struct StopHeader: Codable, Sendable, Equatable {
    public var tasks: [AttemptName]
    public var reason: String
    public init(tasks: [AttemptName], reason: String) {
        self.tasks = tasks
        self.reason = reason
    }
}

/// `RESULT_ACK`: results that the worker may forget.
public struct ResultAckHeader: Codable, Sendable, Equatable {
    public enum Status: String, Codable, Sendable, CaseIterable, WireEnumeration {
        case accepted
        /// Another attempt's result counts.
        case stale
    }
    public struct Item: Codable, Sendable, Hashable {
        public var task: TaskID
        public var attempt: Int
        public var status: Status
        public init(task: TaskID, attempt: Int, status: Status) {
            self.task = task
            self.attempt = attempt
            self.status = status
        }
    }
    public var results: [Item]
    public init(results: [Item]) { self.results = results }
}

/// `BYE`.
public struct ByeHeader: Codable, Sendable, Equatable {
    public var session: String
    public init(session: String) { self.session = session }
}
