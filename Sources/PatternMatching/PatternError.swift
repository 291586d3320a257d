/// Why a regular expression could not be compiled or a match could not be finished.
public struct PatternError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Code: String, Sendable {
        /// The expression does not follow the syntax.
        case syntax = "PATTERN_SYNTAX"
        /// The expression needs more steps, stack or heap on this text than it is allowed.
        case limit = "PATTERN_LIMIT"
        /// The text is not valid UTF-8.
        case notUTF8 = "PATTERN_NOT_UTF8"
        /// PCRE2 answered with an error that should not occur.
        case failed = "PATTERN_FAILED"
    }

    public let code: Code
    public let message: String
    /// The expression that was used.
    public let pattern: String
    /// Where in the expression (bytes) or the text (bytes) the error lies, if known.
    public let offset: Int?

    public init(code: Code, message: String, pattern: String, offset: Int? = nil) {
        self.code = code
        self.message = message
        self.pattern = pattern
        self.offset = offset
    }

    public var description: String {
        let place = offset.map { " at byte \($0)" } ?? ""
        let shown = pattern.count > 200 ? String(pattern.prefix(200)) + "…" : pattern
        return "regular expression '\(shown)'\(place): \(message)"
    }
}
