/// What is wrong with a model file: which file, which tensor or field of it, and why.
public struct ModelFileError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Code: String, Sendable {
        /// The file or folder is not there or cannot be read.
        case unreadable
        /// The bytes do not have the form that they claim to have.
        case malformed
        /// A tensor that the architecture needs is in none of the files.
        case missingTensor
        /// A tensor name occurs twice, or two tensors share bytes.
        case duplicateTensor
        /// A tensor is there that the architecture does not have.
        case unknownTensor
        /// A tensor's shape is not the one that the configuration asks for.
        case shapeMismatch
        /// A field, type or architecture that this version does not compute.
        case unsupported
        /// A checksum or size differs from what was written.
        case corrupt
        /// The file could not be written.
        case unwritable
    }

    public let code: Code
    /// Path of the file, or of the folder where no one file is at fault.
    public let file: String
    /// Tensor name or field, where there is one.
    public let item: String?
    /// Why, and where it helps what to do.
    public let reason: String

    public init(_ code: Code, file: String, item: String? = nil, _ reason: String) {
        self.code = code
        self.file = file
        self.item = item
        self.reason = reason
    }

    public var description: String {
        if let item { return "\(file): \(item): \(reason)" }
        return "\(file): \(reason)"
    }
}

/// Multiplication and addition of claimed numbers: nil instead of a trap when the result does not fit.
enum Checked {
    /// Nil also where only a zero keeps the product small, so that no part of it can overflow later.
    static func product(_ factors: [Int]) -> Int? {
        var result = 1
        for factor in factors {
            guard factor >= 0 else { return nil }
            let (value, overflow) = result.multipliedReportingOverflow(by: max(1, factor))
            if overflow { return nil }
            result = value
        }
        return factors.contains(0) ? 0 : result
    }

    static func sum(_ a: Int, _ b: Int) -> Int? {
        let (value, overflow) = a.addingReportingOverflow(b)
        return overflow ? nil : value
    }

    /// `value` rounded up to a multiple of `alignment` (a positive number).
    static func aligned(_ value: Int, to alignment: Int) -> Int? {
        let remainder = value % alignment
        return remainder == 0 ? value : sum(value, alignment - remainder)
    }
}
