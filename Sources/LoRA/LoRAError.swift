/// Why an adapter was refused.
public struct LoRAError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Code: String, Sendable {
        /// `adapter_config.json` is not what PEFT writes: a missing key, a wrong type, a bad value.
        case config = "ADAPTER_CONFIG"
        /// The config asks for something that is understood but not supported here.
        case unsupported = "ADAPTER_UNSUPPORTED"
        /// A target, exclude, pattern or layer entry matches no module, or matches a wrong one.
        case targets = "ADAPTER_TARGETS"
        /// A tensor is missing from the file or has no place in the model.
        case tensors = "ADAPTER_TENSORS"
        /// A tensor's shape does not fit the module.
        case shape = "ADAPTER_SHAPE"
        /// A tensor holds NaN or infinity.
        case nonFinite = "ADAPTER_NON_FINITE"
        /// The adapter belongs to another base model.
        case base = "ADAPTER_BASE"
        /// A file of the adapter cannot be read or written.
        case file = "ADAPTER_FILE"
    }

    public let code: Code
    /// What is wrong and what to do.
    public let message: String
    /// The key or tensor that is meant, if one is.
    public let subject: String?

    public init(_ code: Code, _ message: String, subject: String? = nil) {
        self.code = code
        self.message = message
        self.subject = subject
    }

    public var description: String {
        subject.map { "adapter: \($0): \(message)" } ?? "adapter: \(message)"
    }
}
