import Foundation
import Glibc

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
        let bytes: Data
        do {
            let handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
            bytes = try handle.read(upToCount: limit + 1) ?? Data()
            try handle.close()
        } catch {
            throw ToolError.usage("\(what) \(path): \(ToolError.reason(error))")
        }
        guard bytes.count <= limit else {
            throw ToolError.usage(
                "\(what) \(path) is larger than \(HumanText.bytes(limit)); is it the right file?")
        }
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

    static func exists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    /// `path` made absolute from the current folder, `~` not expanded (the shell does that).
    static func absolute(_ path: String) -> String {
        URL(fileURLWithPath: path).standardizedFileURL.path
    }
}
