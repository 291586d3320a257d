/// A worker process as `WORKERS` shows it.
public struct WorkerObject: Codable, Sendable, Equatable {
    public enum State: String, Codable, Sendable, CaseIterable, WireEnumeration {
        /// Started, and not yet ready.
        case starting
        case ready
        /// Finishes what it holds.
        case draining
        /// Its beats stopped; its lease runs out.
        case silent
        /// It died, and is started again after a backoff.
        case backoff
        case stopped
    }

    /// `<plugin>-<n>`.
    public var instance: String
    public var plugin: WireName
    public var state: State
    public var pid: Int?
    public var numerics: String?
    public var kinds: [WireName]
    /// Tasks that it holds now.
    public var held: Int
    /// By resource class: what it was sent and may be sent.
    public var classes: [String: ClassUse]?
    public var rssBytes: Int?
    public var peakBytes: Int?
    public var loaded: [BlobDigest]?
    public var startedAtMs: Int?
    /// How often it was started again after it died.
    public var restarts: Int
    /// Why it died last.
    public var lastExit: String?

    public struct ClassUse: Codable, Sendable, Equatable {
        public var held: Int
        /// How many more it may be sent.
        public var free: Int
        public init(held: Int, free: Int) {
            self.held = held
            self.free = free
        }
    }

    enum CodingKeys: String, CodingKey {
        case instance, plugin, state, pid, numerics, kinds, held, classes
        case rssBytes = "rss_bytes"
        case peakBytes = "peak_bytes"
        case loaded
        case startedAtMs = "started_at_ms"
        case restarts
        case lastExit = "last_exit"
    }

    public init(
        instance: String, plugin: WireName, state: State, pid: Int? = nil, numerics: String? = nil,
        kinds: [WireName] = [], held: Int = 0, classes: [String: ClassUse]? = nil,
        rssBytes: Int? = nil, peakBytes: Int? = nil, loaded: [BlobDigest]? = nil,
        startedAtMs: Int? = nil, restarts: Int = 0, lastExit: String? = nil
    ) {
        self.instance = instance
        self.plugin = plugin
        self.state = state
        self.pid = pid
        self.numerics = numerics
        self.kinds = kinds
        self.held = held
        self.classes = classes
        self.rssBytes = rssBytes
        self.peakBytes = peakBytes
        self.loaded = loaded
        self.startedAtMs = startedAtMs
        self.restarts = restarts
        self.lastExit = lastExit
    }
}

/// A plugin folder as `WORKERS` shows it.
public struct PluginObject: Codable, Sendable, Equatable {
    public var name: WireName
    public var version: String?
    /// The folder of its manifest.
    public var path: String
    /// Instances wanted.
    public var instances: Int
    public var kinds: [WireName]
    /// Why the plugin cannot be used; its manifest's fault.
    public var error: ErrorObject?

    public init(
        name: WireName, version: String? = nil, path: String, instances: Int, kinds: [WireName],
        error: ErrorObject? = nil
    ) {
        self.name = name
        self.version = version
        self.path = path
        self.instances = instances
        self.kinds = kinds
        self.error = error
    }
}
