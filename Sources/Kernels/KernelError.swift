/// What went wrong before or inside a kernel call: nothing was written when one is thrown.
public struct KernelError: Error, Sendable, CustomStringConvertible {
    public enum Code: String, Sendable {
        /// Rows, columns or counts of the operands do not fit together.
        case shape
        /// An operand has the wrong element type.
        case elementType
        /// An index (token id, position, page) is out of range.
        case range
        /// Bytes that should hold a matrix are too few or not aligned to 64.
        case layout
        /// The system gave no memory.
        case memory
        /// `LORAQ_ISA` names an unknown or unavailable instruction set.
        case instructionSet
        /// A product of a library came out wrong in the self-test at start.
        case selfTest
    }

    public let code: Code
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}

@inline(__always)
func require(
    _ condition: Bool, _ code: KernelError.Code, _ message: @autoclosure () -> String
) throws(KernelError) {
    if !condition { throw KernelError(code, message()) }
}

@inline(__always)
func require(_ condition: Bool, _ message: @autoclosure () -> String) throws(KernelError) {
    if !condition { throw KernelError(.shape, message()) }
}
