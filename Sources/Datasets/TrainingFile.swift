import JSONModel
import LinuxSystem

/// A JSONL file, mapped, read line by line. Blank lines are no rows.
public struct TrainingFile: Sendable {
    public let path: String
    private let file: MappedFile

    /// A longer line is refused.
    public static let maximumLineBytes = 64 << 20

    public init(path: String) throws(DatasetError) {
        self.path = path
        do { file = try MappedFile(path: path) } catch {
            throw DatasetError(.unreadable, file: path, "\(error)")
        }
    }

    public var byteCount: Int { file.count }

    /// Calls `body` with each line's number, from 1, and its bytes without the line end.
    public func forEachLine(
        _ body: (_ line: Int, _ bytes: UnsafeRawBufferPointer) throws -> Void
    ) rethrows {
        try file.withUnsafeBytes { all in
            var start = 0
            var line = 0
            // A byte order mark is no part of the first line.
            if all.count >= 3, all[0] == 0xEF, all[1] == 0xBB, all[2] == 0xBF { start = 3 }
            while start < all.count {
                line += 1
                var end = start
                while end < all.count, all[end] != 10 { end += 1 }
                let bytes = UnsafeRawBufferPointer(rebasing: all[start..<end])
                if !bytes.allSatisfy({ $0 == 32 || $0 == 9 || $0 == 13 }) {
                    try body(line, bytes)
                }
                start = end + 1
            }
        }
    }
}
