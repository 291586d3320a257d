import CLinux
import Glibc

/// A file that belongs to somebody else, open for reading at any place.
///
/// Nothing is mapped, so a file that is cut short meanwhile gives fewer bytes instead of a fatal signal; a
/// file that is replaced by another of the same name changes nothing, since the descriptor keeps the first.
/// `@unchecked Sendable` is sound because `pread` moves no file position and all else is constant.
public final class RandomAccessFile: @unchecked Sendable {
    public let path: String
    /// Size in bytes when the file was opened.
    public let count: Int
    private let descriptor: Int32
    private let opened: stat

    /// - Throws: `SystemError`; what is not a regular file is refused with EISDIR.
    public init(path: String) throws(SystemError) {
        self.path = path
        // Without O_NONBLOCK the opening of a named pipe would wait for its writer.
        let descriptor = try retryingInterrupts("open", path) {
            open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            let error = SystemError("look at", path)
            close(descriptor)
            throw error
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw SystemError(operation: "read", path: path, code: EISDIR)
        }
        self.descriptor = descriptor
        opened = status
        count = Int(status.st_size)
    }

    deinit { close(descriptor) }

    /// Reads from `offset` on until `buffer` is full or the file ends; the number of bytes read.
    public func read(
        at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SystemError) -> Int {
        var done = 0
        while done < buffer.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
            let count = try retryingInterrupts("read", path) {
                pread(descriptor, rest.baseAddress, rest.count, off_t(offset + done))
            }
            if count == 0 { return done }
            done += count
        }
        return done
    }

    /// Whether size and time of change are those of the opening.
    public func isUnchanged() throws(SystemError) -> Bool {
        var now = stat()
        guard fstat(descriptor, &now) == 0 else { throw SystemError("look at", path) }
        return now.st_size == opened.st_size && now.st_mtim.tv_sec == opened.st_mtim.tv_sec
            && now.st_mtim.tv_nsec == opened.st_mtim.tv_nsec
    }
}
