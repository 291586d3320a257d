import JSONModel

/// How an attempt ended.
public enum TaskOutcome: String, Codable, Sendable, CaseIterable, WireEnumeration {
    case ok
    /// With `error`; class `user` is final, `retryable` is tried again.
    case error
    /// Gave way at a point from which it can go on; back to the queue, free.
    case preempted
    case cancelled
}

/// `RESULT`: ended attempts; their `body` are indices of the message's bodies.
public struct ResultHeader: Codable, Sendable, Equatable {
    public var session: String
    /// Counts the messages of the session on the results socket, from 1.
    public var seq: Int
    public var results: [TaskResult]
    public init(session: String, seq: Int, results: [TaskResult]) {
        self.session = session
        self.seq = seq
        self.results = results
    }
}

public struct TaskResult: Codable, Sendable, Equatable {
    /// A folder that the attempt made below its `workdir`, to be registered.
    public struct Artifact: Codable, Sendable, Equatable {
        public var type: ArtifactType
        /// Without version: `M` or `M:A`. The broker gives the next version.
        public var name: ArtifactReference
        public var digest: BlobDigest
        /// Below `workdir`.
        public var path: String
        public var bytes: Int
        /// Opaque to the broker, at most 8 KiB of JSON.
        public var meta: JSONValue

        public init(
            type: ArtifactType, name: ArtifactReference, digest: BlobDigest, path: String,
            bytes: Int, meta: JSONValue = .object(JSONObject())
        ) {
            self.type = type
            self.name = name
            self.digest = digest
            self.path = path
            self.bytes = bytes
            self.meta = meta
        }

        public init(from decoder: any Decoder) throws {
            let fields = try decoder.container(keyedBy: CodingKeys.self)
            type = try fields.decode(ArtifactType.self, forKey: .type)
            name = try fields.decode(ArtifactReference.self, forKey: .name)
            digest = try fields.decode(BlobDigest.self, forKey: .digest)
            path = try fields.decode(String.self, forKey: .path)
            bytes = try fields.decode(Int.self, forKey: .bytes)
            meta =
                try fields.decodeIfPresent(JSONValue.self, forKey: .meta) ?? .object(JSONObject())
            guard name.selector == .newest else {
                throw WireError(.badHeader, "must not state a version or tag", key: "name")
            }
            guard (name.adapter != nil) == (type == .adapter) else {
                throw WireError(
                    .badHeader, "must be `M` for a model and `M:A` for an adapter", key: "name")
            }
        }
    }

    public var task: TaskID
    public var attempt: Int
    public var lease: LeaseToken
    public var outcome: TaskOutcome
    /// Index among the message's bodies: the output line or result object.
    public var body: Int?
    public var error: ErrorObject?
    /// Counts by name: tokens and the like.
    public var usage: [String: Double]?
    /// What `after … if` reads.
    public var metrics: [String: Double]?
    public var artifacts: [Artifact]?

    public init(
        _ reference: AttemptReference, outcome: TaskOutcome, body: Int? = nil,
        error: ErrorObject? = nil, usage: [String: Double]? = nil,
        metrics: [String: Double]? = nil, artifacts: [Artifact]? = nil
    ) {
        task = reference.task
        attempt = reference.attempt
        lease = reference.lease
        self.outcome = outcome
        self.body = body
        self.error = error
        self.usage = usage
        self.metrics = metrics
        self.artifacts = artifacts
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        task = try fields.decode(TaskID.self, forKey: .task)
        attempt = try fields.decode(Int.self, forKey: .attempt)
        lease = try fields.decode(LeaseToken.self, forKey: .lease)
        outcome = try fields.decode(TaskOutcome.self, forKey: .outcome)
        body = try fields.decodeIfPresent(Int.self, forKey: .body)
        error = try fields.decodeIfPresent(ErrorObject.self, forKey: .error)
        usage = try fields.decodeIfPresent([String: Double].self, forKey: .usage)
        metrics = try fields.decodeIfPresent([String: Double].self, forKey: .metrics)
        artifacts = try fields.decodeIfPresent([Artifact].self, forKey: .artifacts)
        guard (outcome == .error) == (error != nil) else {
            throw WireError(
                .badHeader, "must be given with outcome `error`, and only with it", key: "error")
        }
    }

    public var reference: AttemptReference {
        AttemptReference(task: task, attempt: attempt, lease: lease)
    }
}

/// `PROGRESS`: shown to people; the newest one is kept.
public struct ProgressHeader: Codable, Sendable, Equatable {
    public var session: String
    public var seq: Int
    public var task: TaskID
    public var attempt: Int
    public var lease: LeaseToken
    public var counter: Int
    public var done: Double?
    public var total: Double?
    public var unit: String?
    public var metrics: [String: Double]?
    public var message: String?

    public init(
        session: String, seq: Int, _ reference: AttemptReference, _ progress: ProgressObject
    ) {
        self.session = session
        self.seq = seq
        task = reference.task
        attempt = reference.attempt
        lease = reference.lease
        counter = progress.counter
        done = progress.done
        total = progress.total
        unit = progress.unit
        metrics = progress.metrics
        message = progress.message
    }

    public var reference: AttemptReference {
        AttemptReference(task: task, attempt: attempt, lease: lease)
    }

    public var progress: ProgressObject {
        ProgressObject(
            counter: counter, done: done, total: total, unit: unit, metrics: metrics,
            message: message)
    }
}

/// `LOG`.
public struct LogHeader: Codable, Sendable, Equatable {
    public enum Level: String, Codable, Sendable, CaseIterable, WireEnumeration {
        case debug, info, warning, error
    }
    public var session: String
    public var seq: Int
    public var level: Level
    public var message: String
    public var task: TaskID?

    public init(session: String, seq: Int, level: Level, message: String, task: TaskID? = nil) {
        self.session = session
        self.seq = seq
        self.level = level
        self.message = message
        self.task = task
    }
}

/// `CHUNK`: text as it is generated; passed on in events, never stored.
public struct ChunkHeader: Codable, Sendable, Equatable {
    public var session: String
    public var task: TaskID
    public var attempt: Int
    /// Of the chunk's first token, from 0 for each attempt and choice.
    public var tokenIndex: Int
    /// Which of `n` choices; 0 when left out.
    public var choice: Int?
    public var text: String

    enum CodingKeys: String, CodingKey {
        case session, task, attempt
        case tokenIndex = "token_index"
        case choice, text
    }

    public init(
        session: String, task: TaskID, attempt: Int, tokenIndex: Int, choice: Int? = nil,
        text: String
    ) {
        self.session = session
        self.task = task
        self.attempt = attempt
        self.tokenIndex = tokenIndex
        self.choice = choice
        self.text = text
    }
}
