import LinuxSystem

/// The bytes of a model file as a person gives it: read piece by piece, never mapped.
///
/// A file that shrinks or changes while it is read is an error that says so, not a fatal signal.
struct SourceFile: Sendable {
    private enum Storage: Sendable {
        case file(RandomAccessFile)
        case memory([UInt8])
    }

    /// Pieces in which large ranges are read.
    static let pieceBytes = 1 << 20

    let path: String
    /// Size in bytes when it was opened.
    let count: Int
    private let storage: Storage

    init(path: String) throws {
        self.path = path
        do {
            let file = try RandomAccessFile(path: path)
            storage = .file(file)
            count = file.count
        } catch {
            throw ModelFileError(.unreadable, file: path, "\(error)")
        }
    }

    /// The same over bytes in memory.
    init(bytes: [UInt8], path: String) {
        self.path = path
        count = bytes.count
        storage = .memory(bytes)
    }

    /// Fills `buffer` with the bytes from `offset` on. The range was checked against `count` before.
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws {
        guard offset >= 0, buffer.count <= count, offset <= count - buffer.count else {
            throw ModelFileError(
                .malformed, file: path,
                "bytes \(offset)+\(buffer.count) do not lie in a file of \(count)")
        }
        switch storage {
        case .memory(let bytes):
            bytes.withUnsafeBytes {
                buffer.copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + buffer.count]))
            }
        case .file(let file):
            let done: Int
            do { done = try file.read(at: offset, into: buffer) } catch {
                throw ModelFileError(.unreadable, file: path, "\(error)")
            }
            guard done == buffer.count else {
                throw ModelFileError(
                    .corrupt, file: path,
                    "became shorter while it was read: it had \(count) bytes and ends at "
                        + "\(offset + done) now")
            }
        }
    }

    /// A copy of a range.
    func bytes(_ range: Range<Int>) throws -> [UInt8] {
        guard range.lowerBound >= 0, range.upperBound <= count else {
            throw ModelFileError(
                .malformed, file: path, "bytes \(range) do not lie in a file of \(count)")
        }
        return try [UInt8](unsafeUninitializedCapacity: range.count) { buffer, initialized in
            buffer.initialize(repeating: 0)
            try read(
                at: range.lowerBound,
                into: UnsafeMutableRawBufferPointer(
                    UnsafeMutableBufferPointer(rebasing: buffer[0..<range.count])))
            initialized = range.count
        }
    }

    /// Gives the elements of a range in pieces: the bytes, and the index of the first element of each.
    func forEachPiece(
        at offset: Int, elements: Int, width: Int,
        _ body: (_ bytes: UnsafeRawBufferPointer, _ first: Int) -> Void
    ) throws {
        let step = max(1, Self.pieceBytes / width)
        let piece = UnsafeMutableRawBufferPointer.allocate(
            byteCount: min(step, elements) * width, alignment: 16)
        defer { piece.deallocate() }
        var first = 0
        while first < elements {
            let number = min(step, elements - first)
            let part = UnsafeMutableRawBufferPointer(rebasing: piece[0..<number * width])
            try read(at: offset + first * width, into: part)
            body(UnsafeRawBufferPointer(part), first)
            first += number
        }
    }

    /// - Throws: `ModelFileError.corrupt` if the file is no longer the one that was opened.
    func checkUnchanged() throws {
        guard case .file(let file) = storage else { return }
        let unchanged: Bool
        do { unchanged = try file.isUnchanged() } catch {
            throw ModelFileError(.unreadable, file: path, "\(error)")
        }
        guard unchanged else {
            throw ModelFileError(
                .corrupt, file: path, "was changed while it was read; add the model again")
        }
    }
}
