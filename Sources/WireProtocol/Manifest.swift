import JSONModel

/// `worker.json`: what a plugin is, how it is started, and what it can do.
///
/// Unlike headers a manifest is written by a person, so unknown fields are refused by name.
public struct WorkerManifest: Codable, Sendable, Equatable {
    public struct Kind: Codable, Sendable, Equatable {
        public var name: WireName
        /// The resource class that its tasks count against; the plugin's own word.
        public var `class`: WireName
        /// An attempt whose progress stands still for longer is hung. Nil: never.
        public var stallMs: Int?
        /// Memory that a task of it needs beside the worker's own, where its submission does not say: an estimate.
        public var memoryBytes: Int?
        /// JSON Schema of the spec, for people and tools.
        public var schema: JSONValue?

        enum CodingKeys: String, CodingKey, CaseIterable {
            case name, `class`
            case stallMs = "stall_ms"
            case memoryBytes = "memory_bytes"
            case schema
        }

        public init(
            name: WireName, class: WireName, stallMs: Int? = nil, memoryBytes: Int? = nil,
            schema: JSONValue? = nil
        ) {
            self.name = name
            self.class = `class`
            self.stallMs = stallMs
            self.memoryBytes = memoryBytes
            self.schema = schema
        }
    }

    public var name: WireName
    public var version: String
    public var `protocol`: String
    /// `exec[0]` is looked up beside the manifest if it holds a `/`, else next to `loraqd`, then on `PATH`.
    public var exec: [String]
    public var kinds: [Kind]
    /// Nil: as many as suit the machine, by the broker's rule.
    public var instances: Int?
    /// Compute threads of one instance; nil lets the broker share the cores out.
    public var threads: Int?
    public var memoryBytes: Int?
    public var env: [String: String]
    public var readyTimeoutMs: Int
    /// Its workers get only jobs that name the plugin (`worker` of the submission).
    public var onRequest: Bool

    public static let fileName = "worker.json"
    public static let instanceRange = 0...64

    enum CodingKeys: String, CodingKey, CaseIterable {
        case name, version, `protocol`, exec, kinds, instances, threads
        case memoryBytes = "memory_bytes"
        case env
        case readyTimeoutMs = "ready_timeout_ms"
        case onRequest = "on_request"
    }

    public init(
        name: WireName, version: String, exec: [String], kinds: [Kind], instances: Int? = nil,
        threads: Int? = nil, memoryBytes: Int? = nil, env: [String: String] = [:],
        readyTimeoutMs: Int = 30_000, onRequest: Bool = false
    ) {
        self.name = name
        self.version = version
        self.protocol = Message.tag
        self.exec = exec
        self.kinds = kinds
        self.instances = instances
        self.threads = threads
        self.memoryBytes = memoryBytes
        self.env = env
        self.readyTimeoutMs = readyTimeoutMs
        self.onRequest = onRequest
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        name = try fields.decode(WireName.self, forKey: .name)
        version = try fields.decode(String.self, forKey: .version)
        `protocol` = try fields.decode(String.self, forKey: .protocol)
        exec = try fields.decode([String].self, forKey: .exec)
        kinds = try fields.decode([Kind].self, forKey: .kinds)
        instances = try fields.decodeIfPresent(Int.self, forKey: .instances)
        threads = try fields.decodeIfPresent(Int.self, forKey: .threads)
        memoryBytes = try fields.decodeIfPresent(Int.self, forKey: .memoryBytes)
        env = try fields.decodeIfPresent([String: String].self, forKey: .env) ?? [:]
        readyTimeoutMs = try fields.decodeIfPresent(Int.self, forKey: .readyTimeoutMs) ?? 30_000
        onRequest = try fields.decodeIfPresent(Bool.self, forKey: .onRequest) ?? false
        try check()
    }

    /// Reads the bytes of a `worker.json`.
    ///
    /// - Throws: `INVALID_SPEC` that names line and column of bad JSON, or the key of a wrong field.
    public init(json: [UInt8]) throws(WireError) {
        let value: JSONValue
        do {
            value = try JSONValue.parse(json, maximumDepth: WireLimits.depth)
        } catch {
            throw WireError(.invalidSpec, "\(Self.fileName) is not JSON: \(error)")
        }
        do throws(WireError) {
            try UnknownKeys.refuse(in: value, except: CodingKeys.self)
            for (index, kind) in (value["kinds"]?.array ?? []).enumerated() {
                do throws(WireError) {
                    try UnknownKeys.refuse(in: kind, except: Kind.CodingKeys.self)
                } catch {
                    throw error.inside("kinds[\(index)]")
                }
            }
            self = try WireDecoder.decode(WorkerManifest.self, from: value)
        } catch {
            throw error.with(code: .invalidSpec)
        }
    }

    private func check() throws(WireError) {
        guard `protocol` == Message.tag else {
            throw WireError(
                .invalidSpec, "must be `\(Message.tag)`, not `\(`protocol`.prefix(40))`",
                key: "protocol")
        }
        guard let program = exec.first, !program.isEmpty else {
            throw WireError(.invalidSpec, "must name the program to start", key: "exec")
        }
        guard !kinds.isEmpty else {
            throw WireError(.invalidSpec, "must name at least one kind", key: "kinds")
        }
        var names: Set<WireName> = []
        for (index, kind) in kinds.enumerated() {
            guard names.insert(kind.name).inserted else {
                throw WireError(
                    .invalidSpec, "the kind \(kind.name) is given twice",
                    key: "kinds[\(index)].name")
            }
            if let stall = kind.stallMs, stall < 1 {
                throw WireError(.invalidSpec, "must be at least 1", key: "kinds[\(index)].stall_ms")
            }
            if let memory = kind.memoryBytes, memory < 1 {
                throw WireError(
                    .invalidSpec, "must be at least 1", key: "kinds[\(index)].memory_bytes")
            }
        }
        if let instances, !Self.instanceRange.contains(instances) {
            throw WireError(.invalidSpec, "must be 0 to 64, not \(instances)", key: "instances")
        }
        if let threads, threads < 1 {
            throw WireError(.invalidSpec, "must be at least 1", key: "threads")
        }
        if let memoryBytes, memoryBytes < 1 {
            throw WireError(.invalidSpec, "must be at least 1", key: "memory_bytes")
        }
        guard readyTimeoutMs >= 1 else {
            throw WireError(.invalidSpec, "must be at least 1", key: "ready_timeout_ms")
        }
    }
}

/// Refuses what a person wrote and this version does not understand.
enum UnknownKeys {
    static func refuse<Keys: CodingKey & CaseIterable>(in value: JSONValue, except keys: Keys.Type)
        throws(WireError)
    {
        guard let object = value.object else { return }
        for entry in object.entries
        where !keys.allCases.contains(where: { $0.stringValue == entry.key }) {
            let known = keys.allCases.map(\.stringValue).joined(separator: ", ")
            throw WireError(
                .invalidSpec, "is not known here; there are \(known)",
                key: String(entry.key.prefix(80)))
        }
    }
}
