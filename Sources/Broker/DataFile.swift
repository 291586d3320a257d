import Glibc
import LinuxSystem

/// sync_file_range(2), which is declared for GNU sources only; 2 is `SYNC_FILE_RANGE_WRITE`.
@_silgen_name("sync_file_range")
private func syncFileRange(_ file: Int32, _ at: Int64, _ count: Int64, _ flags: UInt32) -> Int32

/// An open file that is read and written at offsets; closed when its owner lets go of it.
struct DataFile: ~Copyable {
    let path: String
    private let descriptor: Int32

    enum Access {
        case reading
        /// Made if it is missing.
        case writing

        var flags: Int32 {
            switch self {
            case .reading: O_RDONLY | O_CLOEXEC
            case .writing: O_RDWR | O_CREAT | O_CLOEXEC
            }
        }
    }

    init(path: String, _ access: Access) throws(SystemError) {
        self.path = path
        descriptor = try Self.retrying("open", path) { open(path, access.flags, 0o600) }
    }

    deinit { close(descriptor) }

    func size() throws(SystemError) -> Int {
        var status = stat()
        try Self.retrying("look at", path) { fstat(descriptor, &status) }
        return Int(status.st_size)
    }

    /// Writes all of `bytes` at `offset`.
    func write(_ bytes: [UInt8], at offset: Int) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            done += try Self.retrying("write", path) {
                bytes.withUnsafeBytes {
                    pwrite(
                        descriptor, $0.baseAddress.map { $0 + done }, $0.count - done,
                        offset + done)
                }
            }
        }
    }

    /// Reads `count` bytes at `offset`; fewer only at the file's end.
    func read(at offset: Int, count: Int) throws(SystemError) -> [UInt8] {
        guard count > 0 else { return [] }
        var failure: SystemError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            do throws(SystemError) {
                filled = try read(at: offset, into: UnsafeMutableRawBufferPointer(buffer))
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return bytes
    }

    /// Fills `buffer` from `offset`; gives how many bytes there were.
    func read(
        at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SystemError) -> Int {
        var done = 0
        while done < buffer.count {
            let count = try Self.retrying("read", path) {
                pread(
                    descriptor, buffer.baseAddress.map { $0 + done }, buffer.count - done,
                    offset + done)
            }
            if count == 0 { break }
            done += count
        }
        return done
    }

    /// Has the disk begin with what was written there, so that a later `sync` finds it done. A hint: nothing is durable by it.
    func beginWriteback(at offset: Int, count: Int) {
        _ = syncFileRange(descriptor, Int64(offset), Int64(count), 2)
    }

    func truncate(to count: Int) throws(SystemError) {
        try Self.retrying("truncate", path) { ftruncate(descriptor, count) }
    }

    /// Makes data and size durable.
    func sync() throws(SystemError) {
        try Self.retrying("sync", path) { fdatasync(descriptor) }
    }

    @discardableResult
    private static func retrying<R: FixedWidthInteger & SignedInteger>(
        _ operation: String, _ path: String, _ call: () -> R
    ) throws(SystemError) -> R {
        while true {
            let result = call()
            if result >= 0 { return result }
            if errno != EINTR { throw SystemError(operation: operation, path: path, code: errno) }
        }
    }
}
