import CLinux
import Glibc

/// A system call that failed: what was tried, on which path, and the kernel's reason.
public struct SystemError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What was tried, as a verb phrase: "write", "open for reading".
    public let operation: String
    public let path: String?
    public let code: Int32

    public init(operation: String, path: String? = nil, code: Int32) {
        self.operation = operation
        self.path = path
        self.code = code
    }

    /// Takes the reason from `errno`, so it must be made right after the call.
    init(_ operation: String, _ path: String?) {
        self.init(operation: operation, path: path, code: errno)
    }

    public var description: String {
        let target = path.map { " \($0)" } ?? ""
        return "cannot \(operation)\(target): \(String(cString: strerror(code)))"
    }

    /// Whether the file system is full or its quota used up.
    public var isOutOfSpace: Bool { code == ENOSPC || code == EDQUOT }
}

/// Repeats `call` while a signal interrupts it; its result if not negative, else the error.
@discardableResult
func retryingInterrupts<Result: FixedWidthInteger & SignedInteger>(
    _ operation: String, _ path: String? = nil, _ call: () -> Result
) throws(SystemError) -> Result {
    while true {
        let result = call()
        if result >= 0 { return result }
        if errno != EINTR { throw SystemError(operation, path) }
    }
}
