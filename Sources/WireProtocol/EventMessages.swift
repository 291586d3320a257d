import JSONModel

/// `LINE` to a sink, with the line as its body `line`.
public struct SinkLineHeader: Codable, Sendable, Equatable {
    public enum Stream: String, Codable, Sendable, CaseIterable, WireEnumeration {
        case results, errors
    }
    public var sink: String
    /// Counts the messages of the sink from 1; a gap shows what was dropped.
    public var sequence: Int
    public var job: JobID
    public var task: TaskID
    /// For `FETCH after`: what follows this line.
    public var cursor: String
    public var stream: Stream

    public init(
        sink: String, sequence: Int, job: JobID, task: TaskID, cursor: String, stream: Stream
    ) {
        self.sink = sink
        self.sequence = sequence
        self.job = job
        self.task = task
        self.cursor = cursor
        self.stream = stream
    }
}

/// `END` to a sink: a job that its selector names has ended.
public struct SinkEndHeader: Codable, Sendable, Equatable {
    public var sink: String
    public var sequence: Int
    public var job: JobID
    public var state: JobState
    public init(sink: String, sequence: Int, job: JobID, state: JobState) {
        self.sink = sink
        self.sequence = sequence
        self.job = job
        self.state = state
    }
}

/// Header of `EVENT`, and element of `EVENTS`: a few fields that all types share, and the type's own.
public struct EventObject: Codable, Sendable, Equatable {
    /// Counts the events that are kept; those that are not carry the number of the last one kept.
    public var event: Int
    /// Such as `job.succeeded`.
    public var type: String
    public var atMs: Int
    public var job: JobID?
    public var task: TaskID?
    /// Instance.
    public var worker: String?
    /// The type's own fields.
    public var fields: JSONObject

    private static let shared: Set<String> = ["event", "type", "at_ms", "job", "task", "worker"]

    public init(
        event: Int, type: String, atMs: Int, job: JobID? = nil, task: TaskID? = nil,
        worker: String? = nil, fields: JSONObject = JSONObject()
    ) {
        self.event = event
        self.type = type
        self.atMs = atMs
        self.job = job
        self.task = task
        self.worker = worker
        self.fields = fields
    }

    /// `job/<id>`, `worker/<instance>` or `broker`.
    public var topic: String {
        if let job { return "job/\(job.text)" }
        if let worker { return "worker/\(worker)" }
        return "broker"
    }

    private struct Key: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(_ key: String) { stringValue = key }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        event = try container.decode(Int.self, forKey: Key("event"))
        type = try container.decode(String.self, forKey: Key("type"))
        atMs = try container.decode(Int.self, forKey: Key("at_ms"))
        job = try container.decodeIfPresent(JobID.self, forKey: Key("job"))
        task = try container.decodeIfPresent(TaskID.self, forKey: Key("task"))
        worker = try container.decodeIfPresent(String.self, forKey: Key("worker"))
        var members: [(key: String, value: JSONValue)] = []
        for key in container.allKeys where !Self.shared.contains(key.stringValue) {
            members.append((key.stringValue, try container.decode(JSONValue.self, forKey: key)))
        }
        fields = JSONObject(members)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encode(event, forKey: Key("event"))
        try container.encode(type, forKey: Key("type"))
        try container.encode(atMs, forKey: Key("at_ms"))
        try container.encodeIfPresent(job, forKey: Key("job"))
        try container.encodeIfPresent(task, forKey: Key("task"))
        try container.encodeIfPresent(worker, forKey: Key("worker"))
        for entry in fields.entries where !Self.shared.contains(entry.key) {
            try container.encode(entry.value, forKey: Key(entry.key))
        }
    }
}
