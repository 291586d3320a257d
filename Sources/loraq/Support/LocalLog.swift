import Foundation
import LinuxSystem

/// Reads a log file of this machine, to its end or on and on.
enum LocalLog {
    static let rotationBytes = 16 << 20

    /// Puts a log that has grown large aside, over the one put aside before.
    static func rotate(_ path: String) throws(SystemError) {
        guard let size = try? FilePath.size(of: path), size > rotationBytes else { return }
        try DurableFile.rename(path, to: path + ".1")
    }

    static func copy(_ path: String, follow: Bool, _ write: ([UInt8]) throws -> Void) throws {
        let handle: FileHandle
        do {
            handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
        } catch {
            throw ToolError(.failure, "cannot read \(path): \(ToolError.reason(error))")
        }
        defer { try? handle.close() }
        while true {
            let piece = try handle.read(upToCount: 1 << 16) ?? Data()
            if !piece.isEmpty {
                try write([UInt8](piece))
                continue
            }
            guard follow else { return }
            try Logs.pause()
        }
    }

    /// The last lines of a log, for an error message.
    static func tail(_ path: String, from offset: UInt64, lines: Int) -> String {
        guard let handle = try? FileHandle(forReadingFrom: URL(fileURLWithPath: path)) else {
            return ""
        }
        defer { try? handle.close() }
        try? handle.seek(toOffset: offset)
        let data = (try? handle.read(upToCount: 1 << 16)) ?? Data()
        let text = String(decoding: data, as: UTF8.self)
        return text.split(separator: "\n").suffix(lines).joined(separator: "\n")
    }
}
