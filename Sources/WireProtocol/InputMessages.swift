import JSONModel

/// `INPUT`: what was submitted as a job, or bytes of one of its input files.
public struct InputRequest: Codable, Sendable, Equatable {
    /// A selector of one job.
    public var job: String
    /// An input's name; nil: only tells what there is.
    public var name: WireName?
    public var offset: Int?
    public var bytes: Int?

    public init(job: String, name: WireName? = nil, offset: Int? = nil, bytes: Int? = nil) {
        self.job = job
        self.name = name
        self.offset = offset
        self.bytes = bytes
    }
}

/// The answer to `INPUT`; with a name in the request a body `piece` follows.
public struct InputReply: Codable, Sendable, Equatable {
    public struct File: Codable, Sendable, Equatable {
        public var name: WireName
        public var digest: BlobDigest
        public var bytes: Int

        public init(name: WireName, digest: BlobDigest, bytes: Int) {
            self.name = name
            self.digest = digest
            self.bytes = bytes
        }
    }

    public var job: JobID
    public var kind: WireName
    public var spec: JSONValue
    public var inputs: [File]
    /// The plugin that the job names.
    public var worker: WireName?

    public init(
        job: JobID, kind: WireName, spec: JSONValue, inputs: [File], worker: WireName? = nil
    ) {
        self.job = job
        self.kind = kind
        self.spec = spec
        self.inputs = inputs
        self.worker = worker
    }
}
