/// Why the engine refuses a model, an adapter or a batch.
public struct TransformerError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Code: String, Sendable {
        /// The architecture has a part that is not computed here.
        case unsupported = "MODEL_UNSUPPORTED"
        /// A matrix is missing or has another shape than the config says.
        case weights = "MODEL_WEIGHTS"
        /// A batch breaks a stated limit or names what is not there.
        case batch = "BATCH_INVALID"
        /// No free page of KV memory, or no memory at all.
        case memory = "MEMORY_EXHAUSTED"
        /// Training was asked for something that cannot be trained.
        case training = "TRAINING_UNSUPPORTED"
        /// A loss, gradient or logit is not finite.
        case nonFinite = "NON_FINITE"
    }

    public let code: Code
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}
