/// One kind of a plugin's manifest.
public struct PluginKind: Sendable, Equatable {
    public var name: String
    /// The resource class that a task of it takes a credit of; the plugin's own word.
    public var resourceClass: String
    /// Progress that stands still for longer is hung, in milliseconds; nil: no such rule.
    public var stallMilliseconds: Int?

    public init(name: String, resourceClass: String, stallMilliseconds: Int? = nil) {
        self.name = name
        self.resourceClass = resourceClass
        self.stallMilliseconds = stallMilliseconds
    }
}

/// A plugin that is configured: found in `workers/`, with at least one instance, or seen in a worker's `HELLO`.
public struct PluginDescription: Sendable, Equatable {
    public var name: String
    public var kinds: [PluginKind]
    /// Instances that the supervisor keeps running; 0: scaled down, or started by someone else.
    public var instances: Int
    /// Bytes that one instance may use by itself; 0: not stated.
    public var memoryBytes = 0
    /// Takes only jobs that name it.
    public var isOnRequest = false

    public init(name: String, kinds: [PluginKind], instances: Int) {
        self.name = name
        self.kinds = kinds
        self.instances = instances
    }
}

/// A worker's `HELLO`.
public struct WorkerHello: Sendable, Equatable {
    public var peer: PeerID
    public var instance: String
    public var plugin: String
    public var pluginVersion: String
    public var pid: Int32
    public var startTicks: UInt64?
    public var kinds: [String]
    public var numerics: String
    public var holding: [AttemptKey]
    /// The resource class of what it holds, where it says so: its credits are counted by that.
    public var holdingClasses: [AttemptKey: String] = [:]

    public init(
        peer: PeerID, instance: String, plugin: String, pluginVersion: String, pid: Int32,
        startTicks: UInt64? = nil, kinds: [String], numerics: String, holding: [AttemptKey] = []
    ) {
        self.peer = peer
        self.instance = instance
        self.plugin = plugin
        self.pluginVersion = pluginVersion
        self.pid = pid
        self.startTicks = startTicks
        self.kinds = kinds
        self.numerics = numerics
        self.holding = holding
    }
}

/// An attempt in a `BEAT`.
public struct HeldAttempt: Sendable, Equatable {
    public var key: AttemptKey
    /// A counter that grows while the attempt makes headway.
    public var progress: Int64

    public init(key: AttemptKey, progress: Int64) {
        self.key = key
        self.progress = progress
    }
}

/// A worker's `BEAT`.
public struct WorkerBeat: Sendable, Equatable {
    public var peer: PeerID
    public var session: Token
    public var held: [HeldAttempt]
    public var residentBytes: Int64
    public var peakBytes: Int64?
    /// Digests of what it has in memory; nil: not said.
    public var loaded: [Digest]?

    public init(
        peer: PeerID, session: Token, held: [HeldAttempt], residentBytes: Int64 = 0,
        peakBytes: Int64? = nil, loaded: [Digest]? = nil
    ) {
        self.peer = peer
        self.session = session
        self.held = held
        self.residentBytes = residentBytes
        self.peakBytes = peakBytes
        self.loaded = loaded
    }
}

/// How an attempt came out, by its worker.
public enum AttemptOutcome: Sendable, Equatable {
    case ok
    /// Class `user` is final, `retryable` is tried again, any other counts as `user`.
    case error(BrokerError)
    case preempted
    case cancelled
}

/// One entry of a `RESULT`, its body already appended to a segment where `Core.accepts` said so.
public struct AttemptResult: Sendable, Equatable {
    public var session: Token
    public var key: AttemptKey
    public var outcome: AttemptOutcome
    public var location: ResultLocation?
    public var usage: [String: Double] = [:]
    public var metrics: [String: Double] = [:]
    public var artifacts: [ReportedArtifact] = []
    /// What it really cost, in the unit of the estimate; corrects the tenant's counter.
    public var cost: Double?

    public init(
        session: Token, key: AttemptKey, outcome: AttemptOutcome, location: ResultLocation? = nil
    ) {
        self.session = session
        self.key = key
        self.outcome = outcome
        self.location = location
    }
}

/// A `PROGRESS`: the newest is kept per job, in memory only.
public struct ProgressReport: Sendable, Equatable {
    public var session: Token
    public var key: AttemptKey
    public var counter: Int64
    public var done: Double?
    public var total: Double?
    public var unit: String?
    public var metrics: [String: Double] = [:]
    public var message: String?

    public init(session: Token, key: AttemptKey, counter: Int64) {
        self.session = session
        self.key = key
        self.counter = counter
    }
}

/// How a worker's process ended, as its parent or a pidfd saw it.
public struct ProcessExit: Sendable, Equatable {
    public enum Status: Sendable, Equatable {
        case exited(Int32)
        case signaled(Int32)
        /// An adopted process whose status cannot be known any more.
        case unknown
    }

    public var instance: String
    public var pid: Int32
    public var status: Status
    public var peakBytes: Int64?
    /// The end of its log.
    public var lastLog: String
    /// The supervisor wanted it to end: scaled down, drained, stopped.
    public var isExpected: Bool
    /// The kernel ended it for want of memory.
    public var isOutOfMemory = false

    public init(
        instance: String, pid: Int32, status: Status, peakBytes: Int64? = nil,
        lastLog: String = "", isExpected: Bool = false
    ) {
        self.instance = instance
        self.pid = pid
        self.status = status
        self.peakBytes = peakBytes
        self.lastLog = lastLog
        self.isExpected = isExpected
    }
}

/// A worker process started by the supervisor; stored so that a new broker can adopt it.
public struct ProcessRecord: Sendable, Equatable {
    public var instance: String
    public var plugin: String
    public var pid: Int32
    /// Start time in clock ticks since boot, as `/proc/<pid>/stat` has it: tells the process from a later one of the same pid.
    public var startTicks: UInt64
    public var logPath: String
    public var startedAt: Int64

    public init(
        instance: String, plugin: String, pid: Int32, startTicks: UInt64, logPath: String,
        startedAt: Int64
    ) {
        self.instance = instance
        self.plugin = plugin
        self.pid = pid
        self.startTicks = startTicks
        self.logPath = logPath
        self.startedAt = startedAt
    }
}
