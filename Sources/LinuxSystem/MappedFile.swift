import CLinux
import Glibc

/// A file mapped read-only and shared, so that every process that maps it uses the same memory.
///
/// The file must be private to loraq and never be changed in place: truncating a mapped file makes
/// reads of it fatal. `@unchecked Sendable` is sound because the mapping is immutable and lives as
/// long as the object.
public final class MappedFile: @unchecked Sendable {
    public let path: String
    public let count: Int
    private let base: UnsafeMutableRawPointer?

    public init(path: String) throws(SystemError) {
        self.path = path
        let descriptor = try retryingInterrupts("open", path) {
            open(path, O_RDONLY | O_CLOEXEC)
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw SystemError("look at", path) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw SystemError(operation: "map", path: path, code: EISDIR)
        }
        count = Int(status.st_size)
        guard count > 0 else {
            base = nil
            return
        }
        let address = mmap(nil, count, PROT_READ, MAP_SHARED, descriptor, 0)
        guard let address, address != MAP_FAILED else { throw SystemError("map", path) }
        base = address
    }

    deinit { if let base { munmap(base, count) } }

    /// The file's bytes; they must not be used after the object is gone.
    public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    public func withUnsafeBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try withExtendedLifetime(self) { () throws(Failure) -> Result in try body(bytes) }
    }

    /// Asks the kernel to read the pages ahead of use.
    public func willNeed() { if let base { madvise(base, count, MADV_WILLNEED) } }
}
