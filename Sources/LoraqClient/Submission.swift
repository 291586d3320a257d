import Glibc
import JSONModel
import LinuxSystem
import WireProtocol

/// What is sent by `SUBMIT`: built by the client, with an id of its own, so that it can be sent again.
public struct JobRequest: Sendable {
    public struct Dependency: Sendable, Equatable {
        public var job: String
        public var on: String
        /// `{metric, op, value}`.
        public var condition: JSONValue?
        /// Metrics of that job that this one's task is told, with how it ended.
        public var tell: [String]?

        public init(
            job: String, on: String = "success", condition: JSONValue? = nil, tell: [String]? = nil
        ) {
            self.job = job
            self.on = on
            self.condition = condition
            self.tell = tell
        }

        var json: JSONValue {
            var object = JSONObject([
                (key: "job", value: .string(job)), (key: "on", value: .string(on)),
            ])
            object["if"] = condition
            object["tell"] = tell.map { .array($0.map { .string($0) }) }
            return .object(object)
        }
    }

    /// Data of the job: uploaded before, or sent along (at most 4 MiB).
    public enum Input: Sendable {
        case blob(name: String, digest: ContentDigest)
        case body(name: String, bytes: [UInt8])
    }

    public var id: String
    public var kind: String
    public var spec: JSONValue
    public var inputs: [Input] = []
    public var after: [Dependency] = []
    public var priority: Int?
    public var tenant: String?
    public var label: String?
    public var maximumSeconds: Int?
    public var memoryBytes: Int?
    /// The plugin whose workers run it.
    public var worker: String?

    public init(id: String = JobRequest.newID(), kind: String, spec: JSONValue) {
        self.id = id
        self.kind = kind
        self.spec = spec
    }

    /// A fresh UUIDv7.
    public static func newID() -> String {
        var generator = SystemRandomNumberGenerator()
        return JobID(timestampMs: WallClock.milliseconds(), using: &generator).text
    }

    /// The id of an array's element, made from that of its first: the same array sent again is the same jobs.
    public static func id(_ first: String, place: Int) throws(ClientError) -> String {
        guard let low = UInt64(first.suffix(12), radix: 16) else {
            throw ClientError(.badAnswer, "`\(first)` is no job id")
        }
        let digits = String((low &+ UInt64(place)) & 0xFFFF_FFFF_FFFF, radix: 16)
        return first.dropLast(12) + String(repeating: "0", count: 12 - digits.count) + digits
    }

    var json: JSONValue {
        var object = JSONObject([
            (key: "id", value: .string(id)), (key: "kind", value: .string(kind)),
            (key: "spec", value: spec),
        ])
        if !inputs.isEmpty { object["inputs"] = .array(inputs.map(\.json)) }
        if !after.isEmpty { object["after"] = .array(after.map(\.json)) }
        object["priority"] = priority.map { .integer(Int64($0)) }
        object["tenant"] = tenant.map { .string($0) }
        object["label"] = label.map { .string($0) }
        object["max_seconds"] = maximumSeconds.map { .integer(Int64($0)) }
        object["memory_bytes"] = memoryBytes.map { .integer(Int64($0)) }
        object["worker"] = worker.map { .string($0) }
        return .object(object)
    }

    var bodies: [Message.Body] {
        inputs.compactMap {
            if case .body(let name, let bytes) = $0 { Message.Body(name, bytes) } else { nil }
        }
    }
}

extension JobRequest.Input {
    var json: JSONValue {
        switch self {
        case .blob(let name, let digest):
            .object(["name": .string(name), "blob": .string(digest.text)])
        case .body(let name, _): .object(["name": .string(name), "body": .string(name)])
        }
    }
}

/// The answer to a submit.
public struct JobAcceptance: Sendable, Equatable {
    public let job: String
    public let state: String
    /// The same submission had been accepted before.
    public let duplicate: Bool
}
