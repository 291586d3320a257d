import CZeroMQ

/// What a ZeroMQ operation failed with: the operation, its endpoint where it has one, and libzmq's
/// own errno and text.
public struct ZeroMQError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Kinds of failure a caller may want to tell apart.
    public enum Code: Sendable, Equatable {
        /// The endpoint is malformed, or its path is too long for a Unix socket.
        case invalidEndpoint
        /// Somebody is bound to the endpoint already.
        case addressInUse
        /// The context was shut down.
        case terminated
        /// A message had more frames or bytes than the caller accepts; it was read and dropped.
        case tooLarge
        /// Any other errno of libzmq.
        case system
    }

    public let code: Code
    /// What was being done, as a phrase that completes "cannot …".
    public let operation: String
    public let endpoint: String?
    /// libzmq's errno; 0 where the error was found before libzmq was asked.
    public let errno: Int32
    public let message: String

    public var description: String {
        let place = endpoint.map { " \($0)" } ?? ""
        return "cannot \(operation)\(place): \(message)"
    }

    init(code: Code, operation: String, endpoint: String? = nil, message: String) {
        self.code = code
        self.operation = operation
        self.endpoint = endpoint
        self.errno = 0
        self.message = message
    }

    /// The error that libzmq's errno of this thread tells of.
    static func last(_ operation: String, endpoint: String? = nil) -> ZeroMQError {
        ZeroMQError(errno: zmq_errno(), operation: operation, endpoint: endpoint)
    }

    init(errno: Int32, operation: String, endpoint: String? = nil) {
        self.code =
            switch errno {
            case EADDRINUSE: .addressInUse
            case EINVAL where endpoint != nil: .invalidEndpoint
            case contextTerminated: .terminated
            default: .system
            }
        self.operation = operation
        self.endpoint = endpoint
        self.errno = errno
        self.message = String(cString: zmq_strerror(errno)) + " (errno \(errno))"
    }
}

/// libzmq's own number for "the context was terminated" (`ZMQ_HAUSNUMERO + 53`), a macro that Swift
/// does not see.
let contextTerminated: Int32 = 156_384_712 + 53

/// Repeats a libzmq call while a signal interrupts it; the one place where EINTR is handled.
///
/// - Returns: What the call gave; negative with `zmq_errno()` set on any other failure.
@inline(__always)
func retryingOnInterrupt(_ call: () -> Int32) -> Int32 {
    while true {
        let result = call()
        if result >= 0 || zmq_errno() != EINTR { return result }
    }
}
