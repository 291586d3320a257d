import JSONModel
import LinuxSystem
import WireProtocol
import ZeroMQ

/// What a client's call failed with: what, where, and what to do.
public struct ClientError: Error, Sendable, CustomStringConvertible {
    public enum Kind: Sendable, Equatable {
        /// Nobody listens at the broker's socket, or the broker went away.
        case unreachable
        /// A broker listens, but no answer came in time; or the caller's own limit ran out.
        case timeout
        /// The broker answered with an error.
        case refused(ErrorCode)
        /// The caller asked to stop.
        case interrupted
        /// A local file cannot be read or written.
        case file
        /// The broker's answer does not follow LQP/1.
        case badAnswer
        /// The request cannot be expressed.
        case badRequest
    }

    public let kind: Kind
    public let message: String
    public let hint: String?
    /// The broker's own error, where it sent one.
    public let answer: ErrorObject?

    public init(
        _ kind: Kind, _ message: String, hint: String? = nil, answer: ErrorObject? = nil
    ) {
        self.kind = kind
        self.message = message
        self.hint = hint
        self.answer = answer
    }

    public var description: String { hint.map { "\(message) (\($0))" } ?? message }

    /// The broker's `ERROR`, as a client error.
    init(refusal: ErrorObject) {
        var hint = refusal.hint
        if hint == nil, let wait = refusal.retryAfterMs {
            hint = "try again in \(max(1, (wait + 999) / 1000)) s"
        }
        self.init(.refused(refusal.code), refusal.message, hint: hint, answer: refusal)
    }

    init(wire error: WireError, answering: Bool) {
        let what = answering ? "the broker's answer" : "the request"
        self.init(
            answering ? .badAnswer : .badRequest, "\(what) is malformed: \(error.message)",
            hint: answering ? "are `loraq` and `loraqd` of the same version?" : nil)
    }

    init(socket error: ZeroMQError) {
        self.init(error.code == .invalidEndpoint ? .badRequest : .unreachable, error.description)
    }

    init(file error: SystemError) {
        self.init(
            .file, error.description,
            hint: error.isOutOfSpace ? "free some space and run the command again" : nil)
    }

    static func unreachable(_ endpoint: String) -> ClientError {
        ClientError(
            .unreachable, "no broker at \(endpoint)", hint: "start one with `loraq up`")
    }

    public static let interrupted = ClientError(.interrupted, "interrupted")
}
