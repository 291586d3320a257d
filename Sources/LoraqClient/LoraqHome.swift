import LinuxSystem

/// The folder that holds a broker's whole state, and the places in it that a client needs.
public struct LoraqHome: Sendable, Equatable {
    public let path: String
    /// Set where the folder holds a `broker.json`: the broker is on another machine.
    public let remote: RemoteBroker?

    /// - Parameters:
    ///   - explicit: What `--home` gave, if anything; wins over the environment.
    ///   - environment: Read for `LORAQ_HOME` and `HOME`.
    public init(explicit: String?, environment: [String: String]) throws(ClientError) {
        if let chosen = explicit ?? environment["LORAQ_HOME"], !chosen.isEmpty {
            path = FilePath.absolute(chosen)
            remote = try RemoteBroker(in: path)
            return
        }
        guard let user = environment["HOME"], !user.isEmpty else {
            throw ClientError(
                .badRequest, "neither LORAQ_HOME nor HOME is set",
                hint: "say where loraq keeps its state with --home FOLDER")
        }
        path = FilePath.absolute(user + "/.local/share/loraq")
        remote = try RemoteBroker(in: path)
    }

    public var runFolder: String { path + "/run" }
    public var controlPath: String { runFolder + "/control" }
    public var controlEndpoint: String { remote?.control ?? "ipc://" + controlPath }
    public var eventsEndpoint: String {
        remote?.events ?? "ipc://" + runFolder + "/events"
    }
    public var logFolder: String { path + "/logs" }
    public var brokerLog: String { logFolder + "/loraqd.log" }
}
