import LinuxSystem
import WireProtocol

/// Who a worker is, where its broker is, and how much it takes.
public struct WorkerConfiguration: Sendable {
    /// Endpoints of the broker's ROUTER and PULL.
    public var dispatchEndpoint: String
    public var resultsEndpoint: String
    /// `<plugin>-<n>`, as the supervisor gave it.
    public var instance: String
    public var plugin: WireName
    public var pluginVersion: String
    public var kinds: [WireName]
    /// The name of one exact way to compute; workers of other numerics do not share a job.
    public var numerics: String
    /// Compute threads, and the cores they are to be bound to; nil where the supervisor said nothing.
    public var threads: Int?
    public var cpus: [Int]?
    /// The most memory that the worker may take, in bytes.
    public var memoryBytes: Int?
    /// By resource class: how many tasks the worker wants to hold at once, those it has not begun
    /// included (they are the prefetch hint).
    public var capacity: [WireName: Int]
    /// How long a worker without a broker and without work stays; nil: for ever.
    public var brokerGrace: Duration?
    /// Unacknowledged results kept; no new work is taken beyond.
    public var spoolResults = 192
    public var spoolBytes = 64 << 20

    public static let defaultBrokerGrace = Duration.seconds(600)
    /// Attempts that one `HELLO` or `BEAT` can name.
    public static let maximumHeld = 256

    public init(
        dispatchEndpoint: String, resultsEndpoint: String, instance: String, plugin: WireName,
        pluginVersion: String, kinds: [WireName], numerics: String, capacity: [WireName: Int]
    ) {
        self.dispatchEndpoint = dispatchEndpoint
        self.resultsEndpoint = resultsEndpoint
        self.instance = instance
        self.plugin = plugin
        self.pluginVersion = pluginVersion
        self.kinds = kinds
        self.numerics = numerics
        self.capacity = capacity
        brokerGrace = nil
    }

    /// Takes endpoints, instance, plugin, threads, cores, memory and grace from the environment that
    /// a supervisor sets (`LORAQ_DISPATCH`, `LORAQ_RESULTS`, `LORAQ_INSTANCE`, `LORAQ_PLUGIN`,
    /// `LORAQ_THREADS`, `LORAQ_CPUS`, `LORAQ_MEMORY_BYTES`, `LORAQ_BROKER_GRACE_MS`).
    ///
    /// - Throws: `.configuration` that names the variable.
    public init(
        environment: [String: String], pluginVersion: String, kinds: [WireName], numerics: String,
        capacity: [WireName: Int]
    ) throws(WorkerError) {
        func text(_ name: String) throws(WorkerError) -> String {
            guard let value = environment[name], !value.isEmpty else {
                throw WorkerError(
                    .configuration,
                    "\(name) is not set: a worker is started by loraqd, or by hand with the variables "
                        + "that docs/protocol.md lists")
            }
            return value
        }
        func number(_ name: String) throws(WorkerError) -> Int? {
            guard let value = environment[name], !value.isEmpty else { return nil }
            guard let number = Int(value), number >= 0 else {
                throw WorkerError(.configuration, "\(name) must be a whole number, not `\(value)`")
            }
            return number
        }
        let pluginText = try text("LORAQ_PLUGIN")
        guard let plugin = WireName(text: pluginText) else {
            throw WorkerError(
                .configuration, "LORAQ_PLUGIN must be \(WireName.form), not `\(pluginText)`")
        }
        self.init(
            dispatchEndpoint: try text("LORAQ_DISPATCH"),
            resultsEndpoint: try text("LORAQ_RESULTS"),
            instance: try text("LORAQ_INSTANCE"), plugin: plugin, pluginVersion: pluginVersion,
            kinds: kinds, numerics: numerics, capacity: capacity)
        threads = try number("LORAQ_THREADS")
        memoryBytes = try number("LORAQ_MEMORY_BYTES")
        brokerGrace =
            try number("LORAQ_BROKER_GRACE_MS").map { .milliseconds($0) } ?? Self.defaultBrokerGrace
        if let list = environment["LORAQ_CPUS"], !list.isEmpty {
            var numbers: [Int] = []
            for part in list.split(separator: ",") {
                guard let cpu = Int(part), cpu >= 0 else {
                    throw WorkerError(
                        .configuration, "LORAQ_CPUS must be numbers with commas, not `\(list)`")
                }
                numbers.append(cpu)
            }
            cpus = numbers
        }
    }
}
