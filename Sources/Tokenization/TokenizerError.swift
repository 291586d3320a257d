/// Why a tokenizer could not be read or used.
public struct TokenizerError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Code: String, Sendable {
        /// The file is not a tokenizer, or a part of it contradicts another.
        case malformed = "TOKENIZER_MALFORMED"
        /// A component or option that is not understood; named in the message.
        case unsupported = "TOKENIZER_UNSUPPORTED"
        /// The file cannot be read.
        case unreadable = "TOKENIZER_UNREADABLE"
        /// A text needs more than its bound (a regular expression's steps).
        case limit = "TOKENIZER_LIMIT"
        /// A question that cannot be answered (a line of `tokenize --jsonl`).
        case badRequest = "BAD_LINE"
    }

    public let code: Code
    /// What is wrong, where, and what to do.
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}
