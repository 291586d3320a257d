import ZeroMQ

/// Versions of what this module stands on, for people who look for a fault.
public enum ClientLibraries {
    /// The linked libzmq, like `4.3.4`.
    public static var messaging: String { Context.libraryVersion }
}
