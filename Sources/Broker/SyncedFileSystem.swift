import CLinux
import Glibc
import LinuxSystem

/// The file system that holds a folder, to be synced for many files at once.
///
/// The folder stays open: an error of writing back is told to those who had something open when it happened (syncfs(2)).
final class SyncedFileSystem: Sendable {
    private let descriptor: Int32
    private let path: String

    init(of path: String) throws(SystemError) {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw SystemError(operation: "open", path: path, code: errno)
        }
        self.descriptor = descriptor
        self.path = path
    }

    deinit { close(descriptor) }

    /// Waits until all that was written before is on the disk.
    ///
    /// - Throws: When that cannot be known. The kernel takes what it could not write for written then: a sync that succeeds
    ///   later says nothing of it.
    func sync() throws(SystemError) {
        while syncfs(descriptor) != 0 {
            guard errno == EINTR else {
                throw SystemError(
                    operation: "sync the file system of", path: path, code: errno)
            }
        }
    }
}
