/// Why a request cannot be answered, or a field of it not be understood.
public struct GenerationError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The codes of LQP/1's error lines.
    public enum Code: String, Sendable {
        /// A field has a wrong type or value, or is not known.
        case badLine = "BAD_LINE"
        /// Prompt and answer do not fit the model's positions or the KV memory.
        case contextLength = "CONTEXT_LENGTH"
        /// The prompt has no token.
        case emptyPrompt = "EMPTY_PROMPT"
        /// The model computed something that is no number.
        case notFinite = "NOT_FINITE"
        /// The engine stopped or failed while the request ran.
        case engine = "ENGINE"
    }

    public let code: Code
    public let message: String
    /// The field at fault, such as `body.temperature`.
    public let field: String?

    public init(_ code: Code, _ message: String, field: String? = nil) {
        self.code = code
        self.message = message
        self.field = field
    }

    public var description: String { field.map { "\($0): \(message)" } ?? message }
}
