import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

/// Reads an artifact's files from the broker into a new folder: whole, or not at all, and all of one version.
struct ArtifactDownload {
    let session: Session
    let reference: String

    /// What the reference stood for when it was looked up: a newer version that comes meanwhile changes nothing.
    struct Listing {
        /// As the broker has it: `name`, `version`, `meta`, ….
        let artifact: JSONValue
        /// With its version.
        let pinned: String
        let files: [(name: String, bytes: Int)]
    }

    private func list() throws -> Listing {
        let header = try session.call(.get, ["artifact": .string(reference)]).header
        guard let artifact = header["artifact"], let name = artifact["name"]?.string,
            let version = artifact["version"]?.integer
        else {
            throw ToolError(.failure, "the broker does not say which version \(reference) is")
        }
        return Listing(
            artifact: artifact, pinned: "\(name)@\(version)",
            files: try (header["files"]?.array ?? []).map(ArtifactDownload.file))
    }

    func write(to folder: String) throws -> Listing {
        if FilePath.exists(folder) {
            let isEmpty =
                FilePath.isDirectory(folder) && (try? FilePath.entries(of: folder))?.isEmpty == true
            guard isEmpty else {
                throw ToolError.usage(
                    "\(folder) exists already", hint: "give the name of a folder that is to be made"
                )
            }
        }
        let listing = try list()
        guard !listing.files.isEmpty else {
            throw ToolError(.failure, "the broker has no files for \(reference)")
        }
        let parent = FilePath.parent(of: folder)
        let unique = UInt32.random(in: 0...UInt32.max)
        let working = "\(parent)/.\(FilePath.name(of: folder)).\(unique).partial"
        do {
            try DurableFile.createDirectories(working, mode: 0o755)
            for file in listing.files { try fetch(file, of: listing, into: working) }
            try DurableFile.rename(working, to: folder)
        } catch {
            try? DurableFile.removeTree(working)
            throw error
        }
        return listing
    }

    /// Reads one file of the artifact into an existing folder.
    func write(only name: String, to folder: String) throws {
        let listing = try list()
        guard let file = listing.files.first(where: { $0.name == name }) else {
            throw ToolError(.failure, "the broker has no \(name) of \(reference)")
        }
        try fetch(file, of: listing, into: folder)
    }

    /// A name from the broker is used as a path only if it stays inside the folder.
    static func file(_ json: JSONValue) throws(ToolError) -> (name: String, bytes: Int) {
        let name = json["name"]?.string ?? ""
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        let isPlain =
            !name.isEmpty && !name.utf8.contains(0)
            && parts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
        guard isPlain, let bytes = json["bytes"]?.integer, bytes >= 0 else {
            throw ToolError(
                .failure,
                "the broker names a file that cannot be written: `\(TextTable.oneLine(name))`")
        }
        return (name, bytes)
    }

    private func fetch(
        _ file: (name: String, bytes: Int), of listing: Listing, into folder: String
    ) throws {
        let (name, size) = file
        let path = "\(folder)/\(name)"
        try DurableFile.createDirectories(FilePath.parent(of: path), mode: 0o755)
        var writer = try DurableFileWriter(path: path, mode: 0o644)
        do {
            while writer.count < size {
                let piece = try session.call(
                    .get,
                    [
                        "artifact": .string(listing.pinned), "file": .string(name),
                        "offset": .integer(Int64(writer.count)),
                        "bytes": .integer(Int64(min(WireLimits.bodyBytes, size - writer.count))),
                    ]
                ).body("piece")
                guard let piece, !piece.isEmpty else {
                    throw ToolError(
                        .failure, "the broker sent only \(writer.count) of \(size) bytes of \(name)"
                    )
                }
                try writer.append(piece)
            }
        } catch {
            writer.abandon()
            throw error
        }
        try writer.commit()
    }
}
