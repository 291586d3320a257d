import Foundation
import Glibc
import LinuxSystem

/// Checks on files that a person names, with errors that say which argument is meant.
enum InputFile {
    /// Refuses what is missing, a folder, unreadable or empty.
    ///
    /// - Returns: The file's size in bytes.
    @discardableResult
    static func check(_ path: String, what: String) throws(ToolError) -> Int {
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw ToolError.usage("\(what) \(path): \(ToolError.systemMessage(errno))")
        }
        if status.st_mode & S_IFMT == S_IFDIR {
            throw ToolError.usage("\(what) \(path) is a folder, but a file is expected")
        }
        guard access(path, R_OK) == 0 else {
            throw ToolError.usage("\(what) \(path): \(ToolError.systemMessage(errno))")
        }
        if status.st_mode & S_IFMT == S_IFREG, status.st_size == 0 {
            throw ToolError.usage("\(what) \(path) is empty")
        }
        return Int(status.st_size)
    }

    /// A small UTF-8 file as a whole.
    static func smallText(_ path: String, limit: Int, what: String) throws(ToolError) -> String {
        try check(path, what: what)
        let bytes = try ByteInput(path, what: what).readAll(limit: limit)
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw ToolError.usage("\(what) \(path) is not UTF-8 text")
        }
        return text
    }

    /// Whether both paths lead to one file.
    static func same(_ first: String, _ second: String) -> Bool {
        var one = stat()
        var other = stat()
        guard stat(first, &one) == 0, stat(second, &other) == 0 else { return false }
        return one.st_dev == other.st_dev && one.st_ino == other.st_ino
    }

    /// Whether two paths would be written as one file, there or yet to be made. Devices and pipes bear two writers.
    static func wouldBeOneFile(_ first: String, _ second: String) -> Bool {
        var status = stat()
        if stat(first, &status) == 0 {
            return status.st_mode & S_IFMT == S_IFREG && same(first, second)
        }
        return same(FilePath.parent(of: first), FilePath.parent(of: second))
            && FilePath.name(of: first) == FilePath.name(of: second)
    }

    static func isRegular(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    }

    static func exists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    /// `path` made absolute from the current folder, `~` not expanded (the shell does that).
    static func absolute(_ path: String) -> String {
        URL(fileURLWithPath: path).standardizedFileURL.path
    }
}
