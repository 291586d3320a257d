/// One version of an artifact. Its `type` and `meta` belong to the workers; the core never looks inside.
public struct ArtifactRecord: Sendable, Equatable {
    /// `model`, `adapter`, or a plugin's own word.
    public var type: String
    /// The reference without version: `M` or `M:A`.
    public var name: String
    /// From 1, per name; never used again, even after removal.
    public var version: Int
    public var digest: Digest
    public var bytes: Int64
    /// Absolute path of its folder.
    public var path: String
    public var meta: [UInt8]
    public var createdAt: Int64
    /// The job that made it.
    public var job: JobID?
    /// For `M:A`: the version of `M` that it belongs to.
    public var parentVersion: Int?
    public var tags: [String] = []

    public init(
        type: String, name: String, version: Int, digest: Digest, bytes: Int64, path: String,
        meta: [UInt8], createdAt: Int64
    ) {
        self.type = type
        self.name = name
        self.version = version
        self.digest = digest
        self.bytes = bytes
        self.path = path
        self.meta = meta
        self.createdAt = createdAt
    }

    public var key: ArtifactKey { ArtifactKey(name: name, version: version) }
    /// `M@1`, `M:A@3`.
    public var reference: String { key.description }
    /// For `M:A`: `M`.
    public var parentName: String? { artifactParent(of: name) }
}

/// A name and a version.
public struct ArtifactKey: Hashable, Sendable, CustomStringConvertible {
    public var name: String
    public var version: Int

    public init(name: String, version: Int) {
        self.name = name
        self.version = version
    }

    public var description: String { "\(name)@\(version)" }
}

/// A reference as people write it: `M`, `M:A`, `M@2`, `M:A@3`, `M:A#tag`.
public struct ArtifactReference: Hashable, Sendable {
    public enum Selector: Hashable, Sendable {
        case newest
        case version(Int)
        case tag(String)
    }

    public var name: String
    public var selector: Selector

    /// Nil unless every part is `[A-Za-z0-9][A-Za-z0-9._-]{0,63}` and the version a positive number.
    public init?(text: String) {
        var body = text[...]
        if let mark = body.firstIndex(of: "#") {
            let tag = body[body.index(after: mark)...]
            guard isArtifactWord(tag) else { return nil }
            selector = .tag(String(tag))
            body = body[..<mark]
        } else if let mark = body.firstIndex(of: "@") {
            let number = body[body.index(after: mark)...]
            guard let version = Int(number), version > 0, String(version) == number else {
                return nil
            }
            selector = .version(version)
            body = body[..<mark]
        } else {
            selector = .newest
        }
        let words = body.split(separator: ":", omittingEmptySubsequences: false)
        guard words.count <= 2, words.allSatisfy(isArtifactWord) else { return nil }
        name = String(body)
    }
}

/// What a reference is bound to in one job, for good.
public struct ArtifactBinding: Sendable, Equatable {
    /// As written.
    public var reference: String
    public var artifact: ArtifactRecord

    public init(reference: String, artifact: ArtifactRecord) {
        self.reference = reference
        self.artifact = artifact
    }
}

/// An artifact in a result, already moved to its final place by the runtime.
public struct ReportedArtifact: Sendable, Equatable {
    public var type: String
    public var name: String
    public var digest: Digest
    public var bytes: Int64
    public var path: String
    public var meta: [UInt8]

    public init(
        type: String, name: String, digest: Digest, bytes: Int64, path: String, meta: [UInt8]
    ) {
        self.type = type
        self.name = name
        self.digest = digest
        self.bytes = bytes
        self.path = path
        self.meta = meta
    }
}

/// For `M:A`: `M`. Nil for `M`.
func artifactParent(of name: String) -> String? {
    name.firstIndex(of: ":").map { String(name[..<$0]) }
}

func isArtifactWord(_ text: some StringProtocol) -> Bool {
    guard (1...64).contains(text.utf8.count) else { return false }
    for (position, byte) in text.utf8.enumerated() {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            continue
        case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
            if position == 0 { return false }
        default:
            return false
        }
    }
    return true
}
