import BrokerCore
import Glibc
import LinuxSystem
import WireProtocol

extension EventLoop {
    func listArtifacts(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(ArtifactsRequest.self)
        let limit = Self.pageLimit(header.limit)
        var prefix: String?
        if let name = header.name {
            if name.hasSuffix(":"), WireName(text: String(name.dropLast())) != nil {
                prefix = name
            } else {
                guard let reference = Wire.ArtifactReference(text: name) else {
                    throw ErrorObject(
                        .badHeader, .user, "`name` must be \(Wire.ArtifactReference.form), or `M:`")
                }
                guard case .newest = reference.selector else {
                    return try listOne(reference.text, header.type, request)
                }
                prefix = name
            }
        }
        let records =
            core?.artifacts(
                type: header.type?.rawValue, prefix: prefix,
                after: try Self.artifactKey(header.after), limit: limit + 1) ?? []
        var objects: [ArtifactObject] = []
        var room = Self.headerRoom
        for record in records.prefix(limit) {
            let object = try record.wire()
            room -= try WireEncoder.encode(object).serialized().count
            if room < 0, !objects.isEmpty { break }
            objects.append(object)
        }
        let next = objects.count < records.count ? records[objects.count - 1].reference : nil
        reply(request, ArtifactsReply(artifacts: objects, next: next))
    }

    private func listOne(
        _ reference: String, _ type: ArtifactType?, _ request: PendingRequest
    ) throws {
        let record = core?.artifact(reference)
        let matches = record.map { type == nil || type?.rawValue == $0.type } ?? false
        let objects = try matches ? record.map { [try $0.wire()] } ?? [] : []
        reply(request, ArtifactsReply(artifacts: objects))
    }

    private static func artifactKey(_ cursor: String?) throws(ErrorObject) -> ArtifactKey? {
        guard let cursor, !cursor.isEmpty else { return nil }
        guard let reference = ArtifactReference(text: cursor),
            case .version(let version) = reference.selector
        else {
            throw ErrorObject(.badHeader, .user, "`after` is no cursor that this broker gave")
        }
        return ArtifactKey(name: reference.name, version: version)
    }

    private func artifact(_ text: String) throws(ErrorObject) -> ArtifactRecord {
        guard Wire.ArtifactReference(text: text) != nil else {
            throw ErrorObject(
                .badHeader, .user, "`artifact` must be \(Wire.ArtifactReference.form)")
        }
        guard let record = core?.artifact(text) else {
            throw ErrorObject(.unknownArtifact, .user, "there is no artifact `\(text)`")
        }
        return record
    }

    /// Lists an artifact's files, or sends bytes of one.
    func get(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(GetRequest.self)
        let record = try artifact(header.artifact)
        let object = try record.wire()
        let folder = record.path
        guard let name = header.file else {
            return offload(reader) {
                Result { () throws(SystemError) in try ArtifactFiles.list(folder) }
            } then: { loop, result in
                switch result {
                case .failure(let error): loop.fail(request, BlobStore.wireError(error))
                case .success(let files):
                    loop.reply(request, GetReply(artifact: object, files: files))
                }
            }
        }
        let offset = max(0, header.offset ?? 0)
        let count = min(max(0, header.bytes ?? WireLimits.bodyBytes), WireLimits.bodyBytes)
        offload(reader) {
            Result { () throws(ErrorObject) in
                try ArtifactFiles.read(name, in: folder, offset: offset, count: count)
            }
        } then: { loop, result in
            switch result {
            case .failure(let error): loop.fail(request, error)
            case .success(let piece):
                loop.reply(
                    request, GetReply(artifact: object, size: piece.size),
                    bodies: [Message.Body("piece", piece.bytes)])
            }
        }
    }

    func tag(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(TagRequest.self)
        _ = try artifact(header.artifact)
        step(
            .tag(
                reference: header.artifact, tag: header.tag.text, remove: header.remove ?? false,
                request: expectReply(request)))
    }

    func remove(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(RemoveRequest.self)
        guard Wire.ArtifactReference(text: header.artifact) != nil else {
            throw ErrorObject(
                .badHeader, .user, "`artifact` must be \(Wire.ArtifactReference.form)")
        }
        step(
            .removeArtifact(
                reference: header.artifact, force: header.force ?? false,
                request: expectReply(request)))
    }

    /// Deletes the folders of artifacts that are no longer registered, unless another one has the
    /// same content.
    func delete(_ removed: [ArtifactRecord]) {
        guard let core, !removed.isEmpty else { return }
        if isBackingUp { return removedDuringBackup.append(contentsOf: removed) }
        let used = Set(
            core.artifacts(type: nil, prefix: nil, after: nil, limit: Int.max).map(\.path))
        for record in removed where !used.contains(record.path) && installing[record.digest] == nil
        {
            guard isOwn(record.path) else { continue }
            let path = record.path
            offload(disk) {
                Result { () throws(SystemError) in try DurableFile.removeTree(path) }
            } then: { loop, result in
                if case .failure(let error) = result { loop.log.error("\(error)") }
            }
        }
    }

    /// Whether a path is a folder that this broker itself put in place.
    private func isOwn(_ path: String) -> Bool {
        let parent = FilePath.parent(of: path)
        return (parent == home.models || parent == home.adapters)
            && FilePath.name(of: path).utf8.count == 64
    }
}

/// Reading inside an artifact's folder. Names come from clients, so each step is checked.
enum ArtifactFiles {
    private static let maximumFiles = 1_000

    struct Piece: Sendable {
        var size: Int
        var bytes: [UInt8]
    }

    /// All regular files below the folder, by path within it.
    static func list(_ folder: String) throws(SystemError) -> [GetReply.File] {
        var files: [GetReply.File] = []
        try list(folder, "", &files, depth: 0)
        return files
    }

    private static func list(
        _ folder: String, _ prefix: String, _ files: inout [GetReply.File], depth: Int
    ) throws(SystemError) {
        guard depth < 16 else { return }
        for name in try FilePath.entries(of: folder) where files.count < maximumFiles {
            let path = "\(folder)/\(name)"
            var status = stat()
            guard lstat(path, &status) == 0 else { continue }
            if status.st_mode & S_IFMT == S_IFDIR {
                try list(path, "\(prefix)\(name)/", &files, depth: depth + 1)
            } else if status.st_mode & S_IFMT == S_IFREG {
                files.append(.init(name: prefix + name, bytes: Int(status.st_size)))
            }
        }
    }

    static func read(
        _ name: String, in folder: String, offset: Int, count: Int
    ) throws(ErrorObject) -> Piece {
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        func refuse() -> ErrorObject {
            ErrorObject(.badHeader, .user, "`file`: the artifact has no file `\(name.prefix(200))`")
        }
        guard !parts.isEmpty, parts.count <= 16, !name.utf8.contains(0),
            parts.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." })
        else { throw refuse() }
        var path = folder
        for (index, part) in parts.enumerated() {
            path += "/\(part)"
            var status = stat()
            let wanted = index + 1 == parts.count ? S_IFREG : S_IFDIR
            guard lstat(path, &status) == 0, status.st_mode & S_IFMT == wanted else {
                throw refuse()
            }
        }
        do {
            let file = try DataFile(path: path, .reading)
            let size = try file.size()
            let first = min(offset, size)
            return Piece(
                size: size, bytes: try file.read(at: first, count: min(count, size - first)))
        } catch {
            throw BlobStore.wireError(error)
        }
    }
}
