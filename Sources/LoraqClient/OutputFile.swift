import Glibc
import LinuxSystem

/// A file being written for a person: under a temporary name beside its place until it is whole, and never
/// over an existing file unless that was asked for.
public final class OutputFile {
    public let path: String
    private let replaces: Bool
    /// The name while it is written; `path` itself for devices and pipes.
    private let workingPath: String
    private let descriptor: Int32
    private var isOpen = true
    private var isRegular: Bool { workingPath != path }

    /// - Parameters:
    ///   - replaces: Whether an existing file may be replaced (`--force`).
    ///   - inputs: Files that are being read; writing over one of them is refused even then.
    public init(_ path: String, replaces: Bool, inputs: [String] = []) throws(ClientError) {
        try Self.check(path, replaces: replaces, inputs: inputs)
        self.path = path
        self.replaces = replaces
        var status = stat()
        let isDevice = stat(path, &status) == 0 && status.st_mode & S_IFMT != S_IFREG
        let unique = UInt32.random(in: 0...UInt32.max)
        workingPath =
            isDevice
            ? path
            : "\(FilePath.parent(of: path))/.\(FilePath.name(of: path)).\(getpid()).\(unique).partial"
        descriptor =
            isDevice
            ? open(path, O_WRONLY | O_CLOEXEC)
            : open(workingPath, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            throw ClientError(
                file: SystemError(operation: "create", path: path, code: errno))
        }
    }

    deinit { abandon() }

    /// The checks alone, to be made before a long job is started for the file.
    public static func check(
        _ path: String, replaces: Bool, inputs: [String] = []
    ) throws(ClientError) {
        var status = stat()
        guard stat(path, &status) == 0 else {
            let parent = FilePath.parent(of: path)
            guard FilePath.isDirectory(parent) else {
                throw ClientError(
                    .badRequest, "cannot write \(path): there is no folder \(parent)")
            }
            guard access(parent, W_OK) == 0 else {
                throw ClientError(
                    file: SystemError(operation: "write into", path: parent, code: errno))
            }
            return
        }
        for input in inputs {
            var other = stat()
            if stat(input, &other) == 0, other.st_dev == status.st_dev,
                other.st_ino == status.st_ino
            {
                throw ClientError(
                    .badRequest, "\(path) is the input itself", hint: "choose another output file")
            }
        }
        if status.st_mode & S_IFMT == S_IFDIR {
            throw ClientError(.badRequest, "\(path) is a folder, but a file is to be written")
        }
        if status.st_mode & S_IFMT == S_IFREG, !replaces {
            throw ClientError(
                .badRequest, "\(path) exists already",
                hint: "choose another name, or replace it with --force")
        }
    }

    public func write(_ bytes: [UInt8]) throws(ClientError) {
        var offset = 0
        while offset < bytes.count {
            // The pointer ends with the closure.
            let count = bytes.withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress.map { $0 + offset }, $0.count - offset)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                throw ClientError(file: SystemError(operation: "write", path: path, code: errno))
            }
            offset += count
        }
    }

    /// Gives the file its name. On failure nothing is left behind.
    public func commit() throws(ClientError) {
        guard isRegular else { return abandon() }
        guard fsync(descriptor) == 0 else { throw failed("sync") }
        if replaces {
            guard rename(workingPath, path) == 0 else { throw failed("rename to") }
        } else {
            // `link` refuses a name that exists, also one made a moment ago.
            guard link(workingPath, path) == 0 else {
                guard errno != EEXIST else {
                    abandon()
                    throw ClientError(
                        .file, "\(path) was made by somebody else meanwhile",
                        hint: "the results are still with the broker; write them to another name")
                }
                guard errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS,
                    !FilePath.exists(path), rename(workingPath, path) == 0
                else { throw failed("name") }
                return close()
            }
            unlink(workingPath)
        }
        close()
    }

    private func failed(_ operation: String) -> ClientError {
        let code = errno
        abandon()
        return ClientError(file: SystemError(operation: operation, path: path, code: code))
    }

    /// Removes what was written.
    public func abandon() {
        guard isOpen else { return }
        if isRegular { unlink(workingPath) }
        close()
    }

    private func close() {
        guard isOpen else { return }
        isOpen = false
        Glibc.close(descriptor)
    }
}
