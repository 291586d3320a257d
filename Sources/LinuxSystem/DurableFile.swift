import CLinux
import Glibc

/// Files and folders that are whole or absent after a crash: a temporary name beside the target, data
/// synced, then renamed, then the folder synced.
public enum DurableFile {
    /// Replaces the file at `path` by `bytes`, or leaves it as it was.
    public static func write(
        _ bytes: [UInt8], to path: String, mode: mode_t = 0o600
    ) throws(SystemError) {
        var writer = try DurableFileWriter(path: path, mode: mode)
        do throws(SystemError) {
            try writer.append(bytes)
        } catch {
            writer.abandon()
            throw error
        }
        try writer.commit()
    }

    public static func write(
        _ text: String, to path: String, mode: mode_t = 0o600
    ) throws(SystemError) {
        try write(Array(text.utf8), to: path, mode: mode)
    }

    /// Copies a file by reading it, so that a source that changes meanwhile can fault nothing.
    ///
    /// - Returns: Bytes copied.
    @discardableResult
    public static func copy(
        _ source: String, to target: String, mode: mode_t = 0o600
    ) throws(SystemError) -> Int {
        let descriptor = try retryingInterrupts("open", source) {
            open(source, O_RDONLY | O_CLOEXEC)
        }
        defer { close(descriptor) }
        var writer = try DurableFileWriter(path: target, mode: mode)
        do throws(SystemError) {
            var chunk = [UInt8](repeating: 0, count: 1 << 20)
            while true {
                let count = try retryingInterrupts("read", source) {
                    read(descriptor, &chunk, chunk.count)
                }
                if count == 0 { break }
                try writer.append(chunk[..<count])
            }
        } catch {
            writer.abandon()
            throw error
        }
        let total = writer.count
        try writer.commit()
        return total
    }

    /// Copies a file by the kernel (which shares the blocks where the file system can) to a new one; syncs nothing.
    ///
    /// - Returns: Bytes copied.
    public static func duplicate(
        _ source: String, to target: String, mode: mode_t = 0o600
    ) throws(SystemError) -> Int {
        let from = try retryingInterrupts("open", source) { open(source, O_RDONLY | O_CLOEXEC) }
        defer { close(from) }
        let to = try retryingInterrupts("create", target) {
            open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
        }
        defer { close(to) }
        var total = 0
        while true {
            let count = try retryingInterrupts("copy to \(target) from", source) {
                sendfile(to, from, nil, 1 << 30)
            }
            if count == 0 { return total }
            total += count
        }
    }

    /// Syncs everything on the file system that holds the folder `path`: for many files at once.
    public static func syncFileSystem(of path: String) throws(SystemError) {
        let descriptor = try retryingInterrupts("open", path) {
            open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        }
        defer { close(descriptor) }
        try retryingInterrupts("sync the file system of", path) { syncfs(descriptor) }
    }

    /// Renames and syncs both folders, so that the rename survives a power loss.
    public static func rename(_ source: String, to target: String) throws(SystemError) {
        try retryingInterrupts("rename to \(target) from", source) {
            Glibc.rename(source, target)
        }
        try syncDirectory(FilePath.parent(of: target))
        if FilePath.parent(of: source) != FilePath.parent(of: target) {
            try syncDirectory(FilePath.parent(of: source))
        }
    }

    /// Makes the names inside the folder durable.
    public static func syncDirectory(_ path: String) throws(SystemError) {
        let descriptor = try retryingInterrupts("open", path) {
            open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        }
        defer { close(descriptor) }
        try retryingInterrupts("sync", path) { fsync(descriptor) }
    }

    /// Makes the folder and those above it that are missing; an existing one is left as it is.
    public static func createDirectories(
        _ path: String, mode: mode_t = 0o700
    ) throws(SystemError) {
        if FilePath.isDirectory(path) { return }
        let parent = FilePath.parent(of: path)
        if parent != path { try createDirectories(parent, mode: mode) }
        if mkdir(path, mode) != 0, errno != EEXIST { throw SystemError("make folder", path) }
        guard FilePath.isDirectory(path) else {
            throw SystemError(operation: "make folder", path: path, code: ENOTDIR)
        }
        try syncDirectory(parent)
    }

    /// Removes a file or a whole folder; links are removed, never followed. Absent: nothing happens.
    public static func removeTree(_ path: String) throws(SystemError) {
        var status = stat()
        if lstat(path, &status) != 0 {
            if errno == ENOENT { return }
            throw SystemError("look at", path)
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            if unlink(path) != 0, errno != ENOENT { throw SystemError("remove", path) }
            return
        }
        for name in try FilePath.entries(of: path) { try removeTree("\(path)/\(name)") }
        if rmdir(path) != 0, errno != ENOENT { throw SystemError("remove", path) }
    }

    /// Syncs every file and folder below `path`, then the folder itself, before it is renamed into place.
    public static func syncTree(_ path: String) throws(SystemError) {
        for name in try FilePath.entries(of: path) {
            let entry = "\(path)/\(name)"
            if FilePath.isDirectory(entry) {
                try syncTree(entry)
            } else {
                let descriptor = try retryingInterrupts("open", entry) {
                    open(entry, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
                }
                defer { close(descriptor) }
                try retryingInterrupts("sync", entry) { fsync(descriptor) }
            }
        }
        try syncDirectory(path)
    }
}

/// Writes a file piece by piece under a temporary name; `commit` syncs it and gives it its name.
///
/// Without `commit` call `abandon`, which removes what was written. A process that is killed leaves at
/// most a file named `.<name>.<pid>.<n>.tmp`, never half a target.
public struct DurableFileWriter: ~Copyable {
    public let path: String
    /// Bytes written up to here.
    public private(set) var count = 0
    private let temporaryPath: String
    private var descriptor: Int32
    private var buffer: [UInt8] = []
    private static let bufferLimit = 1 << 20

    public init(path: String, mode: mode_t = 0o600) throws(SystemError) {
        self.path = path
        let name = FilePath.name(of: path)
        let unique = UInt64.random(in: 0...UInt64.max)
        let temporaryPath = "\(FilePath.parent(of: path))/.\(name).\(getpid()).\(unique).tmp"
        self.temporaryPath = temporaryPath
        descriptor = try retryingInterrupts("create", temporaryPath) {
            open(temporaryPath, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
        }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    public mutating func append(_ bytes: some Collection<UInt8>) throws(SystemError) {
        buffer.append(contentsOf: bytes)
        count += bytes.count
        if buffer.count >= Self.bufferLimit { try flush() }
    }

    public mutating func append(_ bytes: UnsafeRawBufferPointer) throws(SystemError) {
        if buffer.count + bytes.count < Self.bufferLimit {
            buffer.append(contentsOf: bytes)
        } else {
            try flush()
            try writeAll(bytes, to: descriptor, path: temporaryPath)
        }
        count += bytes.count
    }

    /// Fills with zeros up to the next multiple of `alignment` bytes.
    public mutating func align(to alignment: Int) throws(SystemError) {
        let missing = (alignment - count % alignment) % alignment
        if missing > 0 { try append([UInt8](repeating: 0, count: missing)) }
    }

    private mutating func flush() throws(SystemError) {
        let pending = buffer
        buffer.removeAll(keepingCapacity: true)
        let descriptor = self.descriptor
        let temporaryPath = self.temporaryPath
        let result = pending.withUnsafeBytes { bytes -> SystemError? in
            do throws(SystemError) {
                try writeAll(bytes, to: descriptor, path: temporaryPath)
                return nil
            } catch {
                return error
            }
        }
        if let result { throw result }
    }

    /// Syncs the data, renames the file to `path` and syncs the folder; on failure nothing is left.
    public mutating func commit() throws(SystemError) {
        do throws(SystemError) {
            try flush()
            let descriptor = self.descriptor
            try retryingInterrupts("sync", temporaryPath) { fsync(descriptor) }
            try DurableFile.rename(temporaryPath, to: path)
        } catch {
            abandon()
            throw error
        }
        close(descriptor)
        descriptor = -1
    }

    /// Removes what was written.
    public mutating func abandon() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
        unlink(temporaryPath)
    }
}

/// Writes all of `bytes`, however many calls that takes.
func writeAll(
    _ bytes: UnsafeRawBufferPointer, to descriptor: Int32, path: String?
) throws(SystemError) {
    var offset = 0
    while offset < bytes.count {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[offset...])
        offset += try retryingInterrupts("write", path) {
            Glibc.write(descriptor, rest.baseAddress, rest.count)
        }
    }
}
