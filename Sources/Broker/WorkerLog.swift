import Glibc
import LinuxSystem

/// A worker's log file: what its process writes on standard output and error. Bounded: when it has
/// grown past the limit its end is kept as `<name>.log.1` and it begins anew.
enum WorkerLog {
    static let maximumBytes = 16 << 20
    private static let keptBytes = 4 << 20

    /// Cuts a log that has grown too large. The process goes on writing at the new end, since it has
    /// the file open for appending; lines written between copy and cut are lost.
    static func rotate(_ path: String, maximumBytes: Int = Self.maximumBytes) {
        guard let size = try? FilePath.size(of: path), size > maximumBytes else { return }
        do {
            let file = try DataFile(path: path, .writing)
            let kept = min(size, keptBytes)
            let end = try file.read(at: size - kept, count: kept)
            try DurableFile.write(end, to: "\(path).1")
            try file.truncate(to: 0)
        } catch {
            // A log is not worth stopping for; the next round tries again.
        }
    }

    /// The last bytes of a log, from `start` on, cut to whole lines where possible.
    static func tail(_ path: String, from start: Int = 0, limit: Int) -> String {
        guard let size = try? FilePath.size(of: path),
            let file = try? DataFile(path: path, .reading)
        else { return "" }
        let first = max(min(start, size), size - limit)
        guard var bytes = try? file.read(at: first, count: size - first) else { return "" }
        if first > start, let newline = bytes.firstIndex(of: 0x0A), newline + 1 < bytes.count {
            bytes.removeFirst(newline + 1)
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
