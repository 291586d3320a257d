import CLinux
import Glibc

/// An exclusive lock on a file, held until the object goes or the process ends.
///
/// The file holds the owner's process id, so that who finds it locked can say by whom.
public final class FileLock: Sendable {
    /// Somebody else holds the lock.
    public struct Held: Error, Sendable, CustomStringConvertible {
        public let path: String
        /// The holder's process id, if the file says so.
        public let holder: Int?
        public var description: String {
            "\(path) is locked by " + (holder.map { "process \($0)" } ?? "another process")
        }
    }

    public let path: String
    private let descriptor: Int32

    /// - Throws: `FileLock.Held` when another process has it, `SystemError` otherwise.
    public init(path: String) throws {
        self.path = path
        let descriptor = try retryingInterrupts("open", path) {
            open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        }
        // A lock by open file description: not lost when another descriptor of the file is closed.
        if flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            let reason = SystemError("lock", path)
            close(descriptor)
            guard reason.code == EWOULDBLOCK else { throw reason }
            let text = (try? FilePath.read(path, limit: 64)).map {
                String(decoding: $0, as: UTF8.self)
            }
            throw Held(path: path, holder: text.flatMap { Int($0.filter(\.isNumber)) })
        }
        let content = Array("\(getpid())\n".utf8)
        ftruncate(descriptor, 0)
        _ = content.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, 0) }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }
}
