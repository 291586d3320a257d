/// Why a worker cannot run, or must end.
public struct WorkerError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Code: Sendable, Equatable {
        /// The environment or the configuration lacks something or holds nonsense.
        case configuration
        /// A socket or thread could not be made or used.
        case system
        /// The broker refuses this worker for good.
        case refused
        /// The broker has been gone for longer than the grace time, and nothing is running.
        case brokerGone
    }

    public let code: Code
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}
