import JSONModel

/// What a client asks for: the element of `SUBMIT` and `SUBMIT_BATCH`.
public struct Submission: Codable, Sendable, Equatable {
    public var id: JobID
    public var kind: WireName
    /// An object; what it holds is the kind's.
    public var spec: JSONValue
    public var inputs: [SubmissionInput]
    public var after: [Dependency]
    /// -100…100, higher first.
    public var priority: Int
    public var tenant: WireName
    /// Free text of at most 200 bytes, for people and selectors.
    public var label: String?
    /// A cap on the running time of each attempt, in seconds.
    public var maxSeconds: Int?
    /// Memory that each task needs beside what its worker has anyway: an estimate, for admission.
    public var memoryBytes: Int?
    /// `any` lets the job go on under other numerics than those of its first attempt.
    public var numerics: NumericsRule?
    /// The plugin whose workers run it; nil: any that takes the kind unasked.
    public var worker: WireName?

    public static let defaultTenant = "default"
    public static let priorities = -100...100
    public static let labelBytes = 200

    enum CodingKeys: String, CodingKey {
        case id, kind, spec, inputs, after, priority, tenant, label
        case maxSeconds = "max_seconds"
        case memoryBytes = "memory_bytes"
        case numerics, worker
    }

    public init(
        id: JobID, kind: WireName, spec: JSONValue, inputs: [SubmissionInput] = [],
        after: [Dependency] = [], priority: Int = 0, tenant: WireName? = nil, label: String? = nil,
        maxSeconds: Int? = nil, memoryBytes: Int? = nil, numerics: NumericsRule? = nil,
        worker: WireName? = nil
    ) {
        self.id = id
        self.kind = kind
        self.spec = spec
        self.inputs = inputs
        self.after = after
        self.priority = priority
        self.tenant = tenant ?? WireName(known: Self.defaultTenant)
        self.label = label
        self.maxSeconds = maxSeconds
        self.memoryBytes = memoryBytes
        self.numerics = numerics
        self.worker = worker
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        id = try fields.decode(JobID.self, forKey: .id)
        kind = try fields.decode(WireName.self, forKey: .kind)
        spec = try fields.decode(JSONValue.self, forKey: .spec)
        inputs = try fields.decodeIfPresent([SubmissionInput].self, forKey: .inputs) ?? []
        after = try fields.decodeIfPresent([Dependency].self, forKey: .after) ?? []
        priority = try fields.decodeIfPresent(Int.self, forKey: .priority) ?? 0
        tenant =
            try fields.decodeIfPresent(WireName.self, forKey: .tenant)
            ?? WireName(known: Self.defaultTenant)
        label = try fields.decodeIfPresent(String.self, forKey: .label)
        maxSeconds = try fields.decodeIfPresent(Int.self, forKey: .maxSeconds)
        memoryBytes = try fields.decodeIfPresent(Int.self, forKey: .memoryBytes)
        numerics = try fields.decodeIfPresent(NumericsRule.self, forKey: .numerics)
        worker = try fields.decodeIfPresent(WireName.self, forKey: .worker)
        try check()
    }

    private func check() throws(WireError) {
        guard case .object = spec else {
            throw WireError(.invalidSpec, "must be an object, not \(spec.kindName)", key: "spec")
        }
        guard Self.priorities.contains(priority) else {
            throw WireError(.invalidSpec, "must be -100 to 100, not \(priority)", key: "priority")
        }
        if let label, label.utf8.count > Self.labelBytes || label.isEmpty {
            throw WireError(.invalidSpec, "must have 1 to \(Self.labelBytes) bytes", key: "label")
        }
        if let maxSeconds, maxSeconds < 1 {
            throw WireError(
                .invalidSpec, "must be at least 1, not \(maxSeconds)", key: "max_seconds")
        }
        if let memoryBytes, memoryBytes < 1 {
            throw WireError(
                .invalidSpec, "must be at least 1, not \(memoryBytes)", key: "memory_bytes")
        }
        var names: Set<WireName> = []
        for (index, input) in inputs.enumerated() where !names.insert(input.name).inserted {
            throw WireError(
                .invalidSpec, "the name \(input.name) is given twice", key: "inputs[\(index)].name")
        }
        let tellers = after.count { $0.tell != nil }
        guard tellers <= Dependency.maximumTellers else {
            throw WireError(
                .invalidSpec,
                "must have at most \(Dependency.maximumTellers) entries with `tell`, not \(tellers)",
                key: "after")
        }
        for (index, dependency) in after.enumerated() where dependency.job == id {
            throw WireError(
                .invalidSpec, "a job cannot wait for itself", key: "after[\(index)].job")
        }
    }
}

/// Which numerics may run a job's later tasks.
public enum NumericsRule: String, Codable, Sendable, CaseIterable, WireEnumeration {
    case any
}

/// An input file of a job: a blob that was uploaded with `PUT`, or a body of the same message.
public struct SubmissionInput: Codable, Sendable, Equatable {
    public enum Source: Sendable, Equatable {
        case blob(BlobDigest)
        /// The name of a body of the message.
        case body(WireName)
    }

    public var name: WireName
    public var source: Source

    enum CodingKeys: String, CodingKey { case name, blob, body }

    public init(name: WireName, source: Source) {
        self.name = name
        self.source = source
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        name = try fields.decode(WireName.self, forKey: .name)
        let blob = try fields.decodeIfPresent(BlobDigest.self, forKey: .blob)
        let body = try fields.decodeIfPresent(WireName.self, forKey: .body)
        switch (blob, body) {
        case (let blob?, nil): source = .blob(blob)
        case (nil, let body?): source = .body(body)
        default:
            throw WireError(.invalidSpec, "must have exactly one of `blob` and `body`")
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: CodingKeys.self)
        try fields.encode(name, forKey: .name)
        switch source {
        case .blob(let digest): try fields.encode(digest, forKey: .blob)
        case .body(let body): try fields.encode(body, forKey: .body)
        }
    }
}

/// One entry of `after`: the job that must end first, how, and with what metric.
public struct Dependency: Codable, Sendable, Equatable {
    public enum Outcome: String, Codable, Sendable, CaseIterable, WireEnumeration {
        /// Only if the other job succeeds.
        case success
        /// However the other job ends.
        case finish
    }

    public enum Comparison: String, Codable, Sendable, CaseIterable, WireEnumeration {
        case less = "<"
        case lessOrEqual = "<="
        case greater = ">"
        case greaterOrEqual = ">="
        case equal = "=="
        case notEqual = "!="

        /// Whether `metric op value` holds; a metric that is not a number holds for nothing.
        public func holds(_ metric: Double, _ value: Double) -> Bool {
            guard !metric.isNaN else { return false }
            return switch self {
            case .less: metric < value
            case .lessOrEqual: metric <= value
            case .greater: metric > value
            case .greaterOrEqual: metric >= value
            case .equal: metric == value
            case .notEqual: metric != value
            }
        }
    }

    /// A metric in the result of the job before.
    public struct Condition: Codable, Sendable, Equatable {
        public var metric: String
        public var op: Comparison
        public var value: Double

        public init(metric: String, op: Comparison, value: Double) {
            self.metric = metric
            self.op = op
            self.value = value
        }
    }

    public var job: JobID
    public var on: Outcome
    public var `if`: Condition?
    /// The job's task is told how the other job ended, with these of its metrics; nil: it is told nothing.
    public var tell: [String]?

    /// Of one entry; entries with `tell` of one job.
    public static let maximumTold = 16
    public static let maximumTellers = 64

    enum CodingKeys: String, CodingKey { case job, on, `if`, tell }

    public init(
        job: JobID, on: Outcome = .success, if condition: Condition? = nil, tell: [String]? = nil
    ) {
        self.job = job
        self.on = on
        self.if = condition
        self.tell = tell
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        job = try fields.decode(JobID.self, forKey: .job)
        on = try fields.decodeIfPresent(Outcome.self, forKey: .on) ?? .success
        `if` = try fields.decodeIfPresent(Condition.self, forKey: .if)
        tell = try fields.decodeIfPresent([String].self, forKey: .tell)
        if let tell, tell.count > Self.maximumTold {
            throw WireError(
                .invalidSpec, "must have at most \(Self.maximumTold) metrics, not \(tell.count)",
                key: "tell")
        }
        for (index, metric) in (tell ?? []).enumerated()
        where !(1...200).contains(metric.utf8.count) {
            throw WireError(.invalidSpec, "must have 1 to 200 bytes", key: "tell[\(index)]")
        }
    }
}
