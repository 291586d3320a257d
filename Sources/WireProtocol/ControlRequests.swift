import JSONModel

// Headers of the requests on the control socket. The replies stand in ControlReplies.swift.

/// `SUBMIT`; bodies as its inputs name them.
public struct SubmitRequest: Codable, Sendable, Equatable {
    public var job: Submission
    public init(job: Submission) { self.job = job }
}

/// `SUBMIT_BATCH`: answered per item. The items are decoded one by one, so that a wrong one does
/// not spoil its neighbors.
public struct SubmitBatchRequest: Codable, Sendable, Equatable {
    public var jobs: [JSONValue]
    public init(jobs: [JSONValue]) { self.jobs = jobs }

    public init(submissions: [Submission]) throws(WireError) {
        jobs = []
        for submission in submissions { jobs.append(try WireEncoder.encode(submission)) }
    }

    public func submission(at index: Int) throws(WireError) -> Submission {
        do {
            return try WireDecoder.decode(Submission.self, from: jobs[index])
        } catch {
            throw error.inside("jobs[\(index)]")
        }
    }
}

/// `PUT`: a piece of a blob in the body `piece`, or without a body the question how far it is.
public struct PutRequest: Codable, Sendable, Equatable {
    public var digest: BlobDigest
    public var bytesTotal: Int
    public var offset: Int

    enum CodingKeys: String, CodingKey {
        case digest
        case bytesTotal = "bytes_total"
        case offset
    }

    public init(digest: BlobDigest, bytesTotal: Int, offset: Int = 0) {
        self.digest = digest
        self.bytesTotal = bytesTotal
        self.offset = offset
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        digest = try fields.decode(BlobDigest.self, forKey: .digest)
        bytesTotal = try fields.decode(Int.self, forKey: .bytesTotal)
        offset = try fields.decodeIfPresent(Int.self, forKey: .offset) ?? 0
        guard bytesTotal >= 0 else {
            throw WireError(.badHeader, "must not be negative", key: "bytes_total")
        }
        guard (0...bytesTotal).contains(offset) else {
            throw WireError(.badHeader, "must be 0 to `bytes_total`", key: "offset")
        }
    }
}

/// `STATUS`: jobs by selector (an id, its unique beginning or end, `last`, `all`, a label).
public struct StatusRequest: Codable, Sendable, Equatable {
    public var jobs: [String]
    /// `next` of the page before, with the same `jobs`.
    public var after: String?
    /// With each job's spec.
    public var spec: Bool?
    public init(jobs: [String], after: String? = nil, spec: Bool? = nil) {
        self.jobs = jobs
        self.after = after
        self.spec = spec
    }
}

/// `HOLD` and `RELEASE`: jobs by selector, as for `STATUS`.
public struct SelectRequest: Codable, Sendable, Equatable {
    public var jobs: [String]
    public init(jobs: [String]) { self.jobs = jobs }
}

/// `CANCEL`.
public struct CancelRequest: Codable, Sendable, Equatable {
    public var jobs: [String]
    public var reason: String?
    public init(jobs: [String], reason: String? = nil) {
        self.jobs = jobs
        self.reason = reason
    }
}

/// `LIST`: newest first.
public struct ListRequest: Codable, Sendable, Equatable {
    public var state: JobState?
    public var kind: WireName?
    public var tenant: WireName?
    public var label: String?
    public var after: String?
    public var limit: Int?

    public init(
        state: JobState? = nil, kind: WireName? = nil, tenant: WireName? = nil,
        label: String? = nil, after: String? = nil, limit: Int? = nil
    ) {
        self.state = state
        self.kind = kind
        self.tenant = tenant
        self.label = label
        self.after = after
        self.limit = limit
    }
}

/// `RETRY`: opens a new generation of the tasks that failed, or of all.
public struct RetryRequest: Codable, Sendable, Equatable {
    public enum Only: String, Codable, Sendable, CaseIterable, WireEnumeration {
        case failed, all
    }

    /// A selector of one job.
    public var job: String
    public var only: Only
    public var numerics: NumericsRule?

    enum CodingKeys: String, CodingKey { case job, only, numerics }

    public init(job: String, only: Only = .failed, numerics: NumericsRule? = nil) {
        self.job = job
        self.only = only
        self.numerics = numerics
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        job = try fields.decode(String.self, forKey: .job)
        only = try fields.decodeIfPresent(Only.self, forKey: .only) ?? .failed
        numerics = try fields.decodeIfPresent(NumericsRule.self, forKey: .numerics)
    }
}

/// `EXPLAIN`: a selector of one job.
public struct ExplainRequest: Codable, Sendable, Equatable {
    public var job: String
    public init(job: String) { self.job = job }
}

/// Which lines of a job's output are meant.
public enum ResultStream: String, Codable, Sendable, CaseIterable, WireEnumeration {
    case results, errors, all
}

/// `FETCH`.
public struct FetchRequest: Codable, Sendable, Equatable {
    public enum Order: String, Codable, Sendable, CaseIterable, WireEnumeration {
        case completion, input
    }

    /// A selector of one job.
    public var job: String
    public var stream: ResultStream
    public var order: Order
    public var after: String?
    /// The most lines to send.
    public var limit: Int?

    enum CodingKeys: String, CodingKey { case job, stream, order, after, limit }

    public init(
        job: String, stream: ResultStream = .results, order: Order = .completion,
        after: String? = nil, limit: Int? = nil
    ) {
        self.job = job
        self.stream = stream
        self.order = order
        self.after = after
        self.limit = limit
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        job = try fields.decode(String.self, forKey: .job)
        stream = try fields.decodeIfPresent(ResultStream.self, forKey: .stream) ?? .results
        order = try fields.decodeIfPresent(Order.self, forKey: .order) ?? .completion
        after = try fields.decodeIfPresent(String.self, forKey: .after)
        limit = try fields.decodeIfPresent(Int.self, forKey: .limit)
    }
}

/// `EVENTS`.
public struct EventsRequest: Codable, Sendable, Equatable {
    public var after: String?
    public var limit: Int?
    public var job: String?
    public init(after: String? = nil, limit: Int? = nil, job: String? = nil) {
        self.after = after
        self.limit = limit
        self.job = job
    }
}

/// `ARTIFACTS`.
public struct ArtifactsRequest: Codable, Sendable, Equatable {
    public var type: ArtifactType?
    /// A reference, or `M:` for all adapters of M.
    public var name: String?
    public var after: String?
    public var limit: Int?

    public init(
        type: ArtifactType? = nil, name: String? = nil, after: String? = nil, limit: Int? = nil
    ) {
        self.type = type
        self.name = name
        self.after = after
        self.limit = limit
    }
}

/// `GET`: the files of an artifact, or bytes of one of them.
public struct GetRequest: Codable, Sendable, Equatable {
    /// A reference.
    public var artifact: String
    /// A path inside the artifact, as the list of files gives it.
    public var file: String?
    public var offset: Int?
    public var bytes: Int?

    public init(artifact: String, file: String? = nil, offset: Int? = nil, bytes: Int? = nil) {
        self.artifact = artifact
        self.file = file
        self.offset = offset
        self.bytes = bytes
    }
}

/// `TAG`: puts a tag on a version, or takes it off.
public struct TagRequest: Codable, Sendable, Equatable {
    public var artifact: String
    public var tag: WireName
    public var remove: Bool?
    public init(artifact: String, tag: WireName, remove: Bool? = nil) {
        self.artifact = artifact
        self.tag = tag
        self.remove = remove
    }
}

/// `REMOVE`.
public struct RemoveRequest: Codable, Sendable, Equatable {
    public var artifact: String
    public var force: Bool?
    public init(artifact: String, force: Bool? = nil) {
        self.artifact = artifact
        self.force = force
    }
}

/// `SCALE`.
public struct ScaleRequest: Codable, Sendable, Equatable {
    public var plugin: WireName
    public var instances: Int
    enum CodingKeys: String, CodingKey { case plugin, instances }

    public init(plugin: WireName, instances: Int) {
        self.plugin = plugin
        self.instances = instances
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        plugin = try fields.decode(WireName.self, forKey: .plugin)
        instances = try fields.decode(Int.self, forKey: .instances)
        guard WorkerManifest.instanceRange.contains(instances) else {
            throw WireError(.badHeader, "must be 0 to 64, not \(instances)", key: "instances")
        }
    }
}

/// `LOGS`: of a job or of a worker.
public struct LogsRequest: Codable, Sendable, Equatable {
    public var job: String?
    /// An instance.
    public var worker: String?
    public var attempt: Int?
    /// Byte offset, as `next` of the last answer gave it.
    public var after: Int?
    /// The most bytes to send.
    public var limit: Int?
    /// Of a job: what its worker said, or the measurements that it wrote to `metrics.jsonl`.
    public var stream: Stream?

    public enum Stream: String, Codable, Sendable { case log, metrics }

    enum CodingKeys: String, CodingKey { case job, worker, attempt, after, limit, stream }

    public init(
        job: String? = nil, worker: String? = nil, attempt: Int? = nil, after: Int? = nil,
        limit: Int? = nil, stream: Stream? = nil
    ) {
        self.stream = stream
        self.job = job
        self.worker = worker
        self.attempt = attempt
        self.after = after
        self.limit = limit
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        job = try fields.decodeIfPresent(String.self, forKey: .job)
        worker = try fields.decodeIfPresent(String.self, forKey: .worker)
        attempt = try fields.decodeIfPresent(Int.self, forKey: .attempt)
        after = try fields.decodeIfPresent(Int.self, forKey: .after)
        limit = try fields.decodeIfPresent(Int.self, forKey: .limit)
        stream = try fields.decodeIfPresent(Stream.self, forKey: .stream)
        guard (job == nil) != (worker == nil) else {
            throw WireError(.badHeader, "exactly one of `job` and `worker` must be given")
        }
        guard stream != .metrics || (worker == nil && attempt == nil) else {
            throw WireError(
                .badHeader, "`metrics` belong to a job, whatever the attempt", key: "stream")
        }
    }
}

/// `ATTACH`: asks the broker to push results to a PULL socket that the client has bound.
public struct AttachRequest: Codable, Sendable, Equatable {
    public var endpoint: String
    /// Of jobs, as in `STATUS`.
    public var selector: String
    /// Where to begin, by job id: the cursor after which lines are wanted.
    public var after: [String: String]?

    public init(endpoint: String, selector: String, after: [String: String]? = nil) {
        self.endpoint = endpoint
        self.selector = selector
        self.after = after
    }
}

/// `DETACH`.
public struct DetachRequest: Codable, Sendable, Equatable {
    public var sink: String
    public init(sink: String) { self.sink = sink }
}

/// `DRAIN` from a client: one worker, or the whole broker.
public struct DrainRequest: Codable, Sendable, Equatable {
    public var worker: String?
    /// Exit when drained.
    public var stop: Bool?
    public init(worker: String? = nil, stop: Bool? = nil) {
        self.worker = worker
        self.stop = stop
    }
}

/// Header of requests that have no fields: `WORKERS`, `PING`.
public struct EmptyHeader: Codable, Sendable, Equatable {
    public init() {}
}
