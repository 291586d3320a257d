/// Who can do something about an error; the wire's `class`.
public enum ErrorClass: String, Sendable, CaseIterable {
    /// The request or the data are wrong; trying again gives the same.
    case user
    /// Trying again later may help.
    case retryable
    case auth
    /// A fault in loraq itself.
    case `internal`
}

/// The wire's `code`: one of docs/protocol.md's, or whatever a worker gives in a result.
public struct ErrorCode: RawRepresentable, Hashable, Sendable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    public static let badState = ErrorCode(rawValue: "BAD_STATE")
    public static let conflict = ErrorCode(rawValue: "CONFLICT")
    public static let draining = ErrorCode(rawValue: "DRAINING")
    public static let gone = ErrorCode(rawValue: "GONE")
    public static let inUse = ErrorCode(rawValue: "IN_USE")
    public static let `internal` = ErrorCode(rawValue: "INTERNAL")
    public static let invalidSpec = ErrorCode(rawValue: "INVALID_SPEC")
    public static let limit = ErrorCode(rawValue: "LIMIT")
    public static let numericsUnavailable = ErrorCode(rawValue: "NUMERICS_UNAVAILABLE")
    public static let storeUnavailable = ErrorCode(rawValue: "STORE_UNAVAILABLE")
    public static let unknownArtifact = ErrorCode(rawValue: "UNKNOWN_ARTIFACT")
    public static let unknownJob = ErrorCode(rawValue: "UNKNOWN_JOB")
    public static let unknownKind = ErrorCode(rawValue: "UNKNOWN_KIND")
    public static let unknownSession = ErrorCode(rawValue: "UNKNOWN_SESSION")

    // In results and in a job's error.
    public static let badLine = ErrorCode(rawValue: "BAD_LINE")
    public static let dependencyFailed = ErrorCode(rawValue: "DEPENDENCY_FAILED")
    public static let hung = ErrorCode(rawValue: "HUNG")
    public static let leaseLost = ErrorCode(rawValue: "LEASE_LOST")
    public static let noLineSucceeded = ErrorCode(rawValue: "NO_LINE_SUCCEEDED")
    public static let timeout = ErrorCode(rawValue: "TIMEOUT")
    public static let workerDied = ErrorCode(rawValue: "WORKER_DIED")
}

/// A value in an error's or a reason's details.
public enum DetailValue: Sendable, Equatable {
    case text(String)
    case integer(Int64)
    case number(Double)
    case list([String])
}

/// An error as the wire knows it: a code for machines, a message for people, and a way out where there is one.
public struct BrokerError: Error, Sendable, Equatable, CustomStringConvertible {
    public var code: ErrorCode
    public var errorClass: ErrorClass
    /// What was wrong and where.
    public var message: String
    /// What to do about it.
    public var hint: String?
    /// How long to wait before trying again, in milliseconds; only where waiting helps.
    public var retryAfterMilliseconds: Int?
    public var details: [String: DetailValue]
    /// A worker's own `details`, as the JSON text that it sent; never read by the core.
    public var opaqueDetails: [UInt8]?

    public init(
        _ code: ErrorCode, _ errorClass: ErrorClass, _ message: String, hint: String? = nil,
        retryAfterMilliseconds: Int? = nil, details: [String: DetailValue] = [:],
        opaqueDetails: [UInt8]? = nil
    ) {
        self.code = code
        self.errorClass = errorClass
        self.message = message
        self.hint = hint
        self.retryAfterMilliseconds = retryAfterMilliseconds
        self.details = details
        self.opaqueDetails = opaqueDetails
    }

    public var description: String { "\(code.rawValue): \(message)" }
}
