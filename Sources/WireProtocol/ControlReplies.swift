import JSONModel

// Headers of `OK`, per request.

public struct SubmitReply: Codable, Sendable, Equatable {
    public var job: JobID
    public var state: JobState
    /// Whether the same submission had been accepted before.
    public var duplicate: Bool
    public init(job: JobID, state: JobState, duplicate: Bool) {
        self.job = job
        self.state = state
        self.duplicate = duplicate
    }
}

public struct SubmitBatchReply: Codable, Sendable, Equatable {
    /// Either `state` and `duplicate`, or `error`.
    public struct Item: Codable, Sendable, Equatable {
        /// As it was sent; nil if the item had none.
        public var job: String?
        public var state: JobState?
        public var duplicate: Bool?
        public var error: ErrorObject?
        public init(
            job: String?, state: JobState? = nil, duplicate: Bool? = nil, error: ErrorObject? = nil
        ) {
            self.job = job
            self.state = state
            self.duplicate = duplicate
            self.error = error
        }
    }

    /// In the order of the request.
    public var results: [Item]
    public init(results: [Item]) { self.results = results }
}

public struct PutReply: Codable, Sendable, Equatable {
    public var digest: BlobDigest
    /// Bytes that the broker has: where to go on.
    public var received: Int
    public var complete: Bool
    public init(digest: BlobDigest, received: Int, complete: Bool) {
        self.digest = digest
        self.received = received
        self.complete = complete
    }
}

/// `STATUS` and `LIST`.
public struct JobsReply: Codable, Sendable, Equatable {
    public var jobs: [JobObject]
    public var next: String?
    public init(jobs: [JobObject], next: String? = nil) {
        self.jobs = jobs
        self.next = next
    }
}

/// `CANCEL`, `HOLD` and `RELEASE`.
public struct JobStatesReply: Codable, Sendable, Equatable {
    public struct Item: Codable, Sendable, Equatable {
        public var job: JobID
        public var state: JobState
        public init(job: JobID, state: JobState) {
            self.job = job
            self.state = state
        }
    }
    public var jobs: [Item]
    public init(jobs: [Item]) { self.jobs = jobs }
}

public struct RetryReply: Codable, Sendable, Equatable {
    public var job: JobID
    public var state: JobState
    /// How many run again.
    public var tasks: Int
    public init(job: JobID, state: JobState, tasks: Int) {
        self.job = job
        self.state = state
        self.tasks = tasks
    }
}

public struct ExplainReply: Codable, Sendable, Equatable {
    public var job: JobID
    public var state: JobState
    public var reason: ReasonObject
    public init(job: JobID, state: JobState, reason: ReasonObject) {
        self.job = job
        self.state = state
        self.reason = reason
    }
}

/// Body `lines`: whole JSON lines, each ended by a line feed.
public struct FetchReply: Codable, Sendable, Equatable {
    public var count: Int
    public var next: String
    /// Nothing will follow.
    public var complete: Bool
    public init(count: Int, next: String, complete: Bool) {
        self.count = count
        self.next = next
        self.complete = complete
    }
}

public struct EventsReply: Codable, Sendable, Equatable {
    public var events: [EventObject]
    public var next: String
    /// The cursor before the oldest event that is still kept.
    public var oldest: String
    public init(events: [EventObject], next: String, oldest: String) {
        self.events = events
        self.next = next
        self.oldest = oldest
    }
}

public struct ArtifactsReply: Codable, Sendable, Equatable {
    public var artifacts: [ArtifactObject]
    public var next: String?
    public init(artifacts: [ArtifactObject], next: String? = nil) {
        self.artifacts = artifacts
        self.next = next
    }
}

/// `GET` without `file`: `files`; with it: `size`, and the body `piece`.
public struct GetReply: Codable, Sendable, Equatable {
    public struct File: Codable, Sendable, Equatable {
        public var name: String
        public var bytes: Int
        public init(name: String, bytes: Int) {
            self.name = name
            self.bytes = bytes
        }
    }
    public var artifact: ArtifactObject
    public var files: [File]?
    /// Of the whole file, in bytes.
    public var size: Int?
    public init(artifact: ArtifactObject, files: [File]? = nil, size: Int? = nil) {
        self.artifact = artifact
        self.files = files
        self.size = size
    }
}

/// `TAG`.
public struct ArtifactReply: Codable, Sendable, Equatable {
    public var artifact: ArtifactObject
    public init(artifact: ArtifactObject) { self.artifact = artifact }
}

public struct RemoveReply: Codable, Sendable, Equatable {
    /// References with their versions.
    public var removed: [ArtifactReference]
    public init(removed: [ArtifactReference]) { self.removed = removed }
}

public struct WorkersReply: Codable, Sendable, Equatable {
    public var workers: [WorkerObject]
    public var plugins: [PluginObject]
    public init(workers: [WorkerObject], plugins: [PluginObject]) {
        self.workers = workers
        self.plugins = plugins
    }
}

public struct ScaleReply: Codable, Sendable, Equatable {
    public var plugin: WireName
    public var instances: Int
    public init(plugin: WireName, instances: Int) {
        self.plugin = plugin
        self.instances = instances
    }
}

/// Body `log`.
public struct LogsReply: Codable, Sendable, Equatable {
    /// Byte offset to go on from.
    public var next: Int
    /// The log's process or attempt has ended, and this was the rest.
    public var complete: Bool
    public init(next: Int, complete: Bool) {
        self.next = next
        self.complete = complete
    }
}

public struct AttachReply: Codable, Sendable, Equatable {
    public var sink: String
    public init(sink: String) { self.sink = sink }
}

public struct DetachReply: Codable, Sendable, Equatable {
    public var sink: String
    public var sent: Int
    public var dropped: Int
    public init(sink: String, sent: Int, dropped: Int) {
        self.sink = sink
        self.sent = sent
        self.dropped = dropped
    }
}

public struct DrainReply: Codable, Sendable, Equatable {
    /// Instances that finish what they hold.
    public var draining: [String]
    public init(draining: [String]) { self.draining = draining }
}

public struct PingReply: Codable, Sendable, Equatable {
    public var epoch: Int
    public var brokerVersion: String
    public var uptimeMs: Int
    /// Jobs by state; states without jobs may be left out.
    public var jobs: [String: Int]

    enum CodingKeys: String, CodingKey {
        case epoch
        case brokerVersion = "broker_version"
        case uptimeMs = "uptime_ms"
        case jobs
    }

    public init(epoch: Int, brokerVersion: String, uptimeMs: Int, jobs: [String: Int]) {
        self.epoch = epoch
        self.brokerVersion = brokerVersion
        self.uptimeMs = uptimeMs
        self.jobs = jobs
    }
}
