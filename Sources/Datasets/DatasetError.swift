/// Why a data file as a whole cannot be used. Faults of single rows are `RefusedRow`s.
public struct DatasetError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Code: String, Sendable {
        /// The file cannot be read.
        case unreadable = "UNREADABLE"
        /// No row has a label, so there is nothing to learn.
        case noLabels = "NO_LABELS"
        /// The file is too large for the stated limits.
        case limit = "LIMIT"
    }

    public let code: Code
    public let file: String
    public let message: String

    public init(_ code: Code, file: String, _ message: String) {
        self.code = code
        self.file = file
        self.message = message
    }

    public var description: String { "\(file): \(message)" }
}

/// A row that is left out, and why.
public struct RefusedRow: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Code: String, Sendable {
        /// No JSON, another form, a wrong value.
        case badLine = "BAD_LINE"
        /// Nothing in the row is to be learned.
        case noLabels = "NO_LABELS"
        /// Longer than `max_length` tokens.
        case tooLong = "CONTEXT_LENGTH"
        /// The row holds messages and the model has no chat template.
        case noTemplate = "NO_TEMPLATE"
        /// The template refused the messages, or the answers cannot be found in what it made of them.
        case template = "TEMPLATE"
    }

    /// From 1; 0 until the file's reader sets it.
    public var line: Int
    public let code: Code
    public let message: String

    public init(_ code: Code, _ message: String, line: Int = 0) {
        self.code = code
        self.message = message
        self.line = line
    }

    public var description: String { "line \(line): \(message)" }
}
