import Glibc
import LinuxSystem
import Synchronization
import WireProtocol

/// How much of a blob has arrived.
struct BlobProgress: Sendable, Equatable {
    var received: Int
    var complete: Bool
}

/// Uploaded bytes, each blob a file named by its digest.
///
/// Pieces go to `blobs/.partial/<digest>`; when all bytes are there, their digest is checked, the
/// file is synced and renamed into place. So a file under its own name is always whole.
///
/// The calls wait for the disk: they belong on the I/O thread.
final class BlobStore: Sendable {
    struct Limits: Sendable {
        /// The largest blob.
        var maximumBlobBytes = 64 << 30
        /// The largest piece of one `PUT`.
        var maximumPieceBytes = 4 << 20
        /// What must stay free on the disk after an upload.
        var headroomBytes = 256 << 20
        /// Uploads that are open at once.
        var maximumPartials = 1_024
        /// An upload that got nothing for so long is forgotten.
        var partialLifetimeSeconds = 7 * 86_400
    }

    /// The digest of what a partial file holds so far, so that it need not be read again.
    private struct Partial {
        var builder: DigestBuilder
        var received: Int
    }

    private let directory: String
    private let limits: Limits
    private let partials = Mutex<[ContentDigest: Partial]>([:])

    init(directory: String, limits: Limits = Limits()) throws(SystemError) {
        self.directory = directory
        self.limits = limits
        try DurableFile.createDirectories("\(directory)/.partial")
    }

    func path(of digest: ContentDigest) -> String {
        "\(directory)/\(digest.hex.prefix(2))/\(digest.hex)"
    }

    private func partialPath(of digest: ContentDigest) -> String {
        "\(directory)/.partial/\(digest.hex)"
    }

    /// Bytes of a complete blob; nil if there is none.
    func size(of digest: ContentDigest) -> Int? { try? FilePath.size(of: path(of: digest)) }

    /// What has arrived of a blob.
    func progress(of digest: ContentDigest) -> BlobProgress {
        if let size = size(of: digest) { return BlobProgress(received: size, complete: true) }
        let received = (try? FilePath.size(of: partialPath(of: digest))) ?? 0
        return BlobProgress(received: received, complete: false)
    }

    /// Takes one piece, which must begin where the last one ended: if it does not, nothing is
    /// written and the answer says where to go on.
    ///
    /// - Throws: `LIMIT` for too large blobs and a full disk, `DIGEST_MISMATCH` when the last piece
    ///   is there and the bytes are not the announced ones (the upload is forgotten then).
    func put(
        _ digest: ContentDigest, total: Int, offset: Int, piece: [UInt8]?
    ) throws(ErrorObject) -> BlobProgress {
        if let size = size(of: digest) { return BlobProgress(received: size, complete: true) }
        guard total >= 0, total <= limits.maximumBlobBytes else {
            throw ErrorObject(
                .limit, .user,
                "a blob of \(total) bytes is over the limit of \(limits.maximumBlobBytes)")
        }
        do {
            var partial = try openPartial(digest)
            // All of it may be there already: the broker was killed before it could finish.
            if partial.received == total, FilePath.exists(partialPath(of: digest)) {
                try complete(
                    digest, partial, try DataFile(path: partialPath(of: digest), .writing))
                return BlobProgress(received: total, complete: true)
            }
            let piece = piece ?? []
            guard partial.received == offset, !piece.isEmpty || total == 0 else {
                return BlobProgress(received: partial.received, complete: false)
            }
            guard piece.count <= limits.maximumPieceBytes else {
                throw ErrorObject(
                    .tooLarge, .user,
                    "a piece of \(piece.count) bytes is over the limit of "
                        + "\(limits.maximumPieceBytes)")
            }
            guard partial.received + piece.count <= total else {
                throw ErrorObject(
                    .digestMismatch, .user,
                    "the piece ends at byte \(offset + piece.count), but the blob was announced "
                        + "with \(total)")
            }
            try checkHeadroom(for: total - partial.received)
            let file = try DataFile(path: partialPath(of: digest), .writing)
            try file.write(piece, at: partial.received)
            Failpoint.blobPieceWritten.reach()
            partial.builder.update(piece)
            partial.received += piece.count
            remember(partial, of: digest)
            guard partial.received == total else {
                return BlobProgress(received: partial.received, complete: false)
            }
            try complete(digest, partial, file)
            return BlobProgress(received: total, complete: true)
        } catch let error as ErrorObject {
            throw error
        } catch let error as SystemError {
            throw Self.wireError(error)
        } catch {
            throw ErrorObject(.internalError, .internal, "\(error)")
        }
    }

    /// Stores bytes that came inside a message.
    func store(_ bytes: [UInt8]) throws(ErrorObject) -> ContentDigest {
        let digest = ContentDigest(of: bytes)
        if size(of: digest) != nil { return digest }
        do {
            try checkHeadroom(for: bytes.count)
            let target = path(of: digest)
            try DurableFile.createDirectories(FilePath.parent(of: target))
            try DurableFile.write(bytes, to: target)
        } catch let error as ErrorObject {
            throw error
        } catch let error as SystemError {
            throw Self.wireError(error)
        } catch {
            throw ErrorObject(.internalError, .internal, "\(error)")
        }
        return digest
    }

    /// Removes a blob that nothing needs any more.
    func remove(_ digest: ContentDigest) throws(SystemError) {
        try DurableFile.removeTree(path(of: digest))
    }

    /// Whole blobs whose files were written before this time, in seconds since 1970.
    func written(before seconds: Int) throws(SystemError) -> [ContentDigest] {
        var found: [ContentDigest] = []
        for folder in try FilePath.entries(of: directory) where folder.utf8.count == 2 {
            for name in try FilePath.entries(of: "\(directory)/\(folder)") {
                guard let digest = ContentDigest(text: "sha256:\(name)"),
                    let time = FilePath.times(of: "\(directory)/\(folder)/\(name)")?.written,
                    time < seconds
                else { continue }
                found.append(digest)
            }
        }
        return found
    }

    /// Forgets uploads that were given up long ago, and what a killed broker left half-written.
    ///
    /// - Parameter now: Wall time in seconds since 1970.
    func removeStale(now: Int) throws(SystemError) {
        let folder = "\(directory)/.partial"
        for name in try FilePath.entries(of: folder) {
            var status = stat()
            let path = "\(folder)/\(name)"
            guard stat(path, &status) == 0 else { continue }
            if now - status.st_mtim.tv_sec > limits.partialLifetimeSeconds {
                try DurableFile.removeTree(path)
            }
        }
    }

    // MARK: Parts

    private func openPartial(_ digest: ContentDigest) throws -> Partial {
        let path = partialPath(of: digest)
        let size = (try? FilePath.size(of: path)) ?? 0
        let known = partials.withLock { $0[digest] }
        if let known, known.received == size { return known }
        if size == 0 {
            let open = try FilePath.entries(of: "\(directory)/.partial").count
            guard open < limits.maximumPartials else {
                throw ErrorObject(
                    .limit, .retryable, "\(open) uploads are open already", retryAfterMs: 60_000)
            }
            return Partial(builder: DigestBuilder(), received: 0)
        }
        // Left by a broker before this one: its digest so far has to be computed again.
        var builder = DigestBuilder()
        let file = try DataFile(path: path, .reading)
        var offset = 0
        while offset < size {
            let bytes = try file.read(at: offset, count: min(1 << 20, size - offset))
            if bytes.isEmpty { break }
            builder.update(bytes)
            offset += bytes.count
        }
        return Partial(builder: builder, received: offset)
    }

    private func remember(_ partial: Partial, of digest: ContentDigest) {
        partials.withLock { known in
            if known.count >= 64, known[digest] == nil { known.removeAll() }
            known[digest] = partial
        }
    }

    private func complete(
        _ digest: ContentDigest, _ partial: Partial, _ file: borrowing DataFile
    ) throws {
        partials.withLock { _ = $0.removeValue(forKey: digest) }
        let actual = partial.builder.finish()
        guard actual == digest else {
            try DurableFile.removeTree(partialPath(of: digest))
            throw ErrorObject(
                .digestMismatch, .user,
                "the \(partial.received) bytes received have the digest \(actual), not \(digest)",
                hint: "upload again; the file may have changed meanwhile")
        }
        try file.sync()
        Failpoint.blobSynced.reach()
        let target = path(of: digest)
        try DurableFile.createDirectories(FilePath.parent(of: target))
        try DurableFile.rename(partialPath(of: digest), to: target)
        Failpoint.blobPlaced.reach()
    }

    private func checkHeadroom(for bytes: Int) throws {
        let free = try FilePath.freeSpace(at: directory)
        guard free - bytes >= limits.headroomBytes else {
            throw ErrorObject(
                .limit, .retryable,
                "\(bytes) bytes do not fit: \(free) are free at \(directory), of which "
                    + "\(limits.headroomBytes) are kept",
                hint: "free disk space, or use another LORAQ_HOME", retryAfterMs: 60_000)
        }
    }

    static func wireError(_ error: SystemError) -> ErrorObject {
        error.isOutOfSpace
            ? ErrorObject(
                .limit, .retryable, error.description, hint: "free disk space",
                retryAfterMs: 60_000)
            : ErrorObject(.internalError, .internal, error.description)
    }
}
