import CLinux
import Glibc

/// Questions about paths and what lies there.
public enum FilePath {
    public static func parent(of path: String) -> String {
        let trimmed = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
        guard let slash = trimmed.lastIndex(of: "/") else { return "." }
        return slash == trimmed.startIndex ? "/" : String(trimmed[..<slash])
    }

    public static func name(of path: String) -> String {
        let trimmed = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
        guard let slash = trimmed.lastIndex(of: "/") else { return trimmed }
        return String(trimmed[trimmed.index(after: slash)...])
    }

    /// The path from the root, with `~` as the home folder; links are kept, `.` and `..` resolved.
    public static func absolute(_ path: String) -> String {
        var full = path
        if full == "~" || full.hasPrefix("~/"), let home = getenv("HOME") {
            full = String(cString: home) + full.dropFirst()
        }
        if !full.hasPrefix("/"), let current = getcwd(nil, 0) {
            full = String(cString: current) + "/" + full
            free(current)
        }
        var parts: [Substring] = []
        for part in full.split(separator: "/") {
            if part == ".." { _ = parts.popLast() } else if part != "." { parts.append(part) }
        }
        return "/" + parts.joined(separator: "/")
    }

    public static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    public static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Size in bytes of the file that `path` leads to.
    public static func size(of path: String) throws(SystemError) -> Int {
        var status = stat()
        guard stat(path, &status) == 0 else { throw SystemError("look at", path) }
        return Int(status.st_size)
    }

    public enum Kind: Sendable { case file, folder, other }

    /// What lies at `path` itself, links not followed; nil if nothing does.
    public static func kind(of path: String) -> Kind? {
        var status = stat()
        guard lstat(path, &status) == 0 else { return nil }
        switch status.st_mode & S_IFMT {
        case S_IFREG: return .file
        case S_IFDIR: return .folder
        default: return .other
        }
    }

    /// When the content of what lies at `path` was last written, and when itself was last changed or renamed, in seconds
    /// since 1970 by the wall clock; nil if nothing is there.
    public static func times(of path: String) -> (written: Int, changed: Int)? {
        var status = stat()
        guard lstat(path, &status) == 0 else { return nil }
        return (status.st_mtim.tv_sec, status.st_ctim.tv_sec)
    }

    /// Names inside a folder, sorted by bytes, without `.` and `..`.
    public static func entries(of path: String) throws(SystemError) -> [String] {
        guard let directory = opendir(path) else { throw SystemError("list", path) }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    /// Reads a whole file; refuses one over `limit` bytes, and what is not a regular file.
    public static func read(_ path: String, limit: Int = 1 << 30) throws(SystemError) -> [UInt8] {
        let descriptor = try retryingInterrupts("open", path) {
            open(path, O_RDONLY | O_CLOEXEC)
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw SystemError("look at", path) }
        guard status.st_mode & S_IFMT != S_IFDIR else {
            throw SystemError(operation: "read", path: path, code: EISDIR)
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(min(limit, Int(status.st_size)))
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = try retryingInterrupts("read", path) {
                Glibc.read(descriptor, &chunk, chunk.count)
            }
            if count == 0 { return bytes }
            guard bytes.count + count <= limit else {
                throw SystemError(operation: "read", path: path, code: EFBIG)
            }
            bytes.append(contentsOf: chunk[..<count])
        }
    }

    /// Bytes free to an ordinary user on the file system that holds `path`.
    public static func freeSpace(at path: String) throws(SystemError) -> Int {
        var status = statvfs()
        guard statvfs(path, &status) == 0 else { throw SystemError("look at", path) }
        return Int(status.f_bavail) * Int(status.f_frsize)
    }
}
