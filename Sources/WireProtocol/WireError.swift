import JSONModel

/// A stable, upper-case code that programs act on, such as `BAD_HEADER`.
///
/// A struct and not an enum: a worker may give a code of its own in a result.
public struct ErrorCode: RawRepresentable, Hashable, Sendable, Codable, CustomStringConvertible {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
    public init(_ rawValue: String) { self.rawValue = rawValue }
    public var description: String { rawValue }

    // Frames and headers
    public static let badFrame = ErrorCode("BAD_FRAME")
    public static let badHeader = ErrorCode("BAD_HEADER")
    public static let unknownVerb = ErrorCode("UNKNOWN_VERB")
    public static let tooLarge = ErrorCode("TOO_LARGE")
    // Requests
    public static let invalidSpec = ErrorCode("INVALID_SPEC")
    public static let unknownKind = ErrorCode("UNKNOWN_KIND")
    public static let unknownJob = ErrorCode("UNKNOWN_JOB")
    public static let ambiguous = ErrorCode("AMBIGUOUS")
    public static let unknownArtifact = ErrorCode("UNKNOWN_ARTIFACT")
    public static let unknownBlob = ErrorCode("UNKNOWN_BLOB")
    public static let unknownSession = ErrorCode("UNKNOWN_SESSION")
    public static let unknownWorker = ErrorCode("UNKNOWN_WORKER")
    public static let conflict = ErrorCode("CONFLICT")
    public static let gone = ErrorCode("GONE")
    public static let inUse = ErrorCode("IN_USE")
    public static let limit = ErrorCode("LIMIT")
    public static let storeUnavailable = ErrorCode("STORE_UNAVAILABLE")
    public static let numericsUnavailable = ErrorCode("NUMERICS_UNAVAILABLE")
    public static let badState = ErrorCode("BAD_STATE")
    public static let digestMismatch = ErrorCode("DIGEST_MISMATCH")
    public static let draining = ErrorCode("DRAINING")
    public static let internalError = ErrorCode("INTERNAL")
    // Results
    public static let badLine = ErrorCode("BAD_LINE")
    public static let contextLength = ErrorCode("CONTEXT_LENGTH")
    public static let noTemplate = ErrorCode("NO_TEMPLATE")
    public static let noLabels = ErrorCode("NO_LABELS")
    public static let workerDied = ErrorCode("WORKER_DIED")
    public static let leaseLost = ErrorCode("LEASE_LOST")
    public static let hung = ErrorCode("HUNG")
    public static let timeout = ErrorCode("TIMEOUT")
    public static let cancelled = ErrorCode("CANCELLED")
}

/// Who can mend an error, and whether trying again helps.
public enum ErrorClass: String, Sendable, CaseIterable, Codable, WireEnumeration {
    /// The request or its data are wrong: the same again fails again.
    case user
    /// The same again may succeed, after `retry_after_ms` where given.
    case retryable
    /// The peer may not do this.
    case auth
    /// A fault of loraq or of a plugin.
    case `internal`
}

/// The `error` object of `ERROR` replies, results and job objects.
public struct ErrorObject: Error, Sendable, Equatable, Codable, CustomStringConvertible {
    public var code: ErrorCode
    public var `class`: ErrorClass
    public var message: String
    /// What to do about it.
    public var hint: String?
    public var retryAfterMs: Int?
    public var details: JSONValue?

    enum CodingKeys: String, CodingKey {
        case code, `class`, message, hint
        case retryAfterMs = "retry_after_ms"
        case details
    }

    public init(
        _ code: ErrorCode, _ class: ErrorClass, _ message: String, hint: String? = nil,
        retryAfterMs: Int? = nil, details: JSONValue? = nil
    ) {
        self.code = code
        self.class = `class`
        self.message = message
        self.hint = hint
        self.retryAfterMs = retryAfterMs
        self.details = details
    }

    public var description: String {
        hint.map { "\(code): \(message) (\($0))" } ?? "\(code): \(message)"
    }
}

/// What is wrong with bytes that came from a peer, or with a value about to be sent.
///
/// Everything that this module throws is one of these; `errorObject` is the answer to the peer.
public struct WireError: Error, Sendable, Equatable, CustomStringConvertible {
    public var code: ErrorCode
    /// What is wrong, without the key.
    public var problem: String
    /// Path of the field in its header or line, such as `job.after[0].on`; empty for the whole.
    public var key: String
    /// The request's id where it could still be read, to be echoed in the `ERROR`.
    public var requestID: String?

    public init(_ code: ErrorCode, _ problem: String, key: String = "", requestID: String? = nil) {
        self.code = code
        self.problem = problem
        self.key = key
        self.requestID = requestID
    }

    public var message: String { key.isEmpty ? problem : "`\(key)`: \(problem)" }
    public var description: String { "\(code): \(message)" }
    public var errorObject: ErrorObject {
        ErrorObject(
            code, .user, message, details: key.isEmpty ? nil : ["key": .string(key)])
    }

    /// The same error seen from one level further out.
    func inside(_ outer: String) -> WireError {
        var error = self
        if key.isEmpty {
            error.key = outer
        } else if key.hasPrefix("[") {
            error.key = outer + key
        } else {
            error.key = outer + "." + key
        }
        return error
    }

    func with(code: ErrorCode) -> WireError {
        var error = self
        error.code = code
        return error
    }
}
