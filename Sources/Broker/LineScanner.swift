import Glibc
import LinuxSystem

/// Reads the lines of a file one after the other, in constant memory.
///
/// A line ends with LF; a CR before it belongs to the end. The last line may lack its LF.
struct LineScanner: ~Copyable {
    struct Line {
        /// Offset of the line's first byte in the file.
        var offset: Int
        /// Bytes without the line's end.
        var length: Int
        /// The line, or nil when it is longer than `maximumLineBytes`.
        var bytes: [UInt8]?

        /// Whether it holds nothing but blanks.
        var isBlank: Bool {
            length == 0
                || bytes.map { $0.allSatisfy { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D } } == true
        }

        /// The line's document: a byte order mark before the file's first line is no part of it.
        func json(number: Int) -> [UInt8]? {
            guard number == 1, let bytes, bytes.starts(with: [0xEF, 0xBB, 0xBF]) else {
                return bytes
            }
            return Array(bytes.dropFirst(3))
        }
    }

    static let maximumLineBytes = 4 << 20

    private let file: DataFile
    private var buffer: [UInt8]
    /// What of the buffer is still to be looked at.
    private var start: Int
    private var fileOffset: Int
    private let end: Int

    init(path: String, from offset: Int = 0) throws(SystemError) {
        let size = try FilePath.size(of: path)
        let opened = try DataFile(path: path, .reading)
        file = opened
        buffer = []
        start = 0
        end = size
        fileOffset = offset
    }

    /// The next line; nil at the end of the file.
    mutating func next() throws(SystemError) -> Line? {
        let lineOffset = fileOffset - (buffer.count - start)
        var searched = start
        while true {
            if let newline = find(from: searched) {
                let length = newline - start
                let line = take(length: length, offset: lineOffset)
                start = newline + 1
                return line
            }
            searched = buffer.count
            if buffer.count - start > Self.maximumLineBytes + 1 {
                return try skipLongLine(offset: lineOffset)
            }
            let before = buffer.count - start
            if try !fill() {
                guard before > 0 else { return nil }
                let line = take(length: before, offset: lineOffset)
                start = buffer.count
                return line
            }
            searched = start + before
        }
    }

    private func find(from index: Int) -> Int? {
        buffer.withUnsafeBytes { bytes in
            guard index < bytes.count, let base = bytes.baseAddress else { return nil }
            guard let found = memchr(base + index, 0x0A, bytes.count - index) else { return nil }
            return UnsafeRawPointer(found) - base
        }
    }

    private func take(length: Int, offset: Int) -> Line {
        var length = length
        if length > 0, buffer[start + length - 1] == 0x0D { length -= 1 }
        guard length <= Self.maximumLineBytes else {
            return Line(offset: offset, length: length, bytes: nil)
        }
        return Line(
            offset: offset, length: length, bytes: Array(buffer[start..<start + length]))
    }

    /// Reads more; false at the end of the file.
    private mutating func fill() throws(SystemError) -> Bool {
        let count = min(1 << 20, end - fileOffset)
        guard count > 0 else { return false }
        if start > 0 {
            buffer.removeSubrange(..<start)
            start = 0
        }
        let bytes = try file.read(at: fileOffset, count: count)
        guard !bytes.isEmpty else { return false }
        fileOffset += bytes.count
        buffer.append(contentsOf: bytes)
        return true
    }

    private mutating func skipLongLine(offset: Int) throws(SystemError) -> Line {
        var length = buffer.count - start
        start = buffer.count
        while try fill() {
            if let newline = find(from: start) {
                length += newline - start
                start = newline + 1
                return Line(offset: offset, length: length, bytes: nil)
            }
            length += buffer.count - start
            start = buffer.count
        }
        return Line(offset: offset, length: length, bytes: nil)
    }
}
