/// Why a fine-tune cannot start, go on or be resumed.
public struct FineTuneError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Code: String, Sendable {
        /// A field of the recipe is wrong or asks for what is not computed.
        case recipe = "INVALID_SPEC"
        /// No row has a label.
        case noLabels = "NO_LABELS"
        /// Losses or gradients stay non-finite.
        case nonFinite = "NON_FINITE"
        /// The loss rose far above its minimum and stayed there.
        case diverged = "DIVERGED"
        /// A checkpoint belongs to another run, or none can be written.
        case checkpoint = "CHECKPOINT"
        /// The forward or backward pass failed.
        case compute = "COMPUTE"
    }

    public let code: Code
    public let message: String
    /// The field of the recipe, where one is at fault.
    public let field: String?

    public init(_ code: Code, _ message: String, field: String? = nil) {
        self.code = code
        self.message = message
        self.field = field
    }

    public var description: String { field.map { "\($0): \(message)" } ?? message }
}
