import BrokerCore

/// How a broker is set up; read once, at its start.
public struct BrokerConfiguration: Sendable {
    /// `$LORAQ_HOME`: everything the broker keeps.
    public var home: String
    /// Where plugins are looked for after `<home>/workers`, in order.
    public var workerFolders: [String] = []
    /// The folder of `loraqd`, where programs of plugins are looked for first.
    public var programDirectory: String
    /// The environment the broker was started in; a few variables of it go on to workers.
    public var environment: [String: String]
    /// Start the workers that the plugins' manifests name.
    public var startsWorkers = true
    /// Limits of the core: queue lengths, leases, retries.
    public var limits = Limits()
    /// Ended jobs are kept for so long.
    public var retentionDays = 90
    /// Where clients on other machines connect, by CURVE; nil: nowhere.
    public var listen: ListenAddress?
    /// Messages taken from one socket before the others get their turn.
    public var messagesPerTurn = 256
    /// Requests that may wait for the disk, and as many that may read from it.
    public var maximumBacklog = 1_000
    /// Changes under way to the store; beyond, the sockets are not read.
    public var maximumInFlight = 100_000
    /// Sinks attached at once.
    public var maximumSinks = 64
    /// How long `DRAIN stop` lets workers finish what they hold; then they are asked to end.
    public var drainSeconds = 20
    /// How long workers may take to end when the broker stops, before they are killed.
    public var stopGraceSeconds = 10

    public init(home: String, programDirectory: String, environment: [String: String]) {
        self.home = home
        self.programDirectory = programDirectory
        self.environment = environment
    }
}

public enum BrokerVersion {
    public static let current = "0.1.0"
}

/// Why a broker cannot start.
public struct BrokerStartError: Error, Sendable, CustomStringConvertible {
    public enum Code: Sendable {
        /// Another broker has this home.
        case alreadyRunning
        case cannotPrepareHome
        case cannotOpenStore
        case cannotBind
        /// `listen` is set, and the home has no (usable) keys.
        case noKeys
    }

    public let code: Code
    public let description: String

    init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}
