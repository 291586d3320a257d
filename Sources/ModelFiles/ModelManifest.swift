import JSONModel
import LinuxSystem

/// `model.json` of a prepared model folder: what it holds and from what it was made. Written last: a folder with it is whole.
public struct ModelManifest: Sendable, Equatable {
    /// Form of the folder.
    public static let formatVersion = 1

    /// Digest of configuration and weights; what adapters are bound to.
    public var base: ContentDigest
    /// Digest of the weights alone, by which another program can tell whether the source still holds them; nil in a folder
    /// that was prepared before it was recorded.
    public var weights: ContentDigest?
    public var family: ModelFamily
    /// Type of the packed matrices.
    public var elementType: ElementType
    /// Elements of all tensors.
    public var parameterCount: Int
    public var layerCount: Int
    public var vocabularySize: Int
    public var maximumPositions: Int
    /// The path it was prepared from; for display.
    public var source: String
    public var hasChatTemplate: Bool
    /// Name, bytes and digest of each other file in the folder. The packed file's digest is in its own last page.
    public var files: [File]
    /// What a person should know: special tokens that differ between files, weights that were rounded.
    public var notes: [String]

    public struct File: Sendable, Equatable {
        public var name: String
        public var bytes: Int
        public var digest: ContentDigest?
    }

    public var json: JSONValue {
        let listed = files.map { file -> JSONValue in
            [
                "name": .string(file.name), "bytes": .integer(Int64(file.bytes)),
                "digest": file.digest.map { .string($0.text) } ?? .null,
            ]
        }
        var object: JSONObject = [
            "format": .integer(Int64(Self.formatVersion)), "base": .string(base.text),
            "family": .string(family.rawValue), "dtype": .string(elementType.rawValue),
            "parameters": .integer(Int64(parameterCount)),
            "layers": .integer(Int64(layerCount)),
            "vocabulary": .integer(Int64(vocabularySize)),
            "max_positions": .integer(Int64(maximumPositions)),
            "source": .string(source), "chat_template": .bool(hasChatTemplate),
            "files": .array(listed), "notes": .array(notes.map { .string($0) }),
        ]
        object["weights"] = weights.map { .string($0.text) }
        return .object(object)
    }

    public init(
        base: ContentDigest, weights: ContentDigest?, family: ModelFamily,
        elementType: ElementType, parameterCount: Int, layerCount: Int, vocabularySize: Int,
        maximumPositions: Int,
        source: String,
        hasChatTemplate: Bool, files: [File], notes: [String]
    ) {
        self.base = base
        self.weights = weights
        self.family = family
        self.elementType = elementType
        self.parameterCount = parameterCount
        self.layerCount = layerCount
        self.vocabularySize = vocabularySize
        self.maximumPositions = maximumPositions
        self.source = source
        self.hasChatTemplate = hasChatTemplate
        self.files = files
        self.notes = notes
    }

    /// - Throws: `ModelFileError` naming the member that is missing or wrong.
    public init(json: JSONValue, path: String) throws {
        func malformed(_ key: String) -> ModelFileError {
            ModelFileError(.malformed, file: path, item: key, "is missing or of another form")
        }
        func whole(_ key: String) throws -> Int {
            guard let value = json[key]?.integer, value >= 0 else { throw malformed(key) }
            return value
        }
        guard try whole("format") == Self.formatVersion else {
            throw ModelFileError(
                .unsupported, file: path, item: "format",
                "was prepared by another version; add the model again")
        }
        guard let base = json["base"]?.string.flatMap(ContentDigest.init(text:)) else {
            throw malformed("base")
        }
        let weights = json["weights"]?.string.flatMap(ContentDigest.init(text:))
        if json["weights"] != nil, weights == nil { throw malformed("weights") }
        guard let family = json["family"]?.string.flatMap(ModelFamily.init(rawValue:)) else {
            throw malformed("family")
        }
        guard let type = json["dtype"]?.string.flatMap(ElementType.init(rawValue:)) else {
            throw malformed("dtype")
        }
        self.init(
            base: base, weights: weights, family: family, elementType: type,
            parameterCount: try whole("parameters"),
            layerCount: try whole("layers"), vocabularySize: try whole("vocabulary"),
            maximumPositions: try whole("max_positions"), source: json["source"]?.string ?? "",
            hasChatTemplate: json["chat_template"]?.bool ?? false,
            files: try (json["files"]?.array ?? []).map { file in
                guard let name = file["name"]?.string, let bytes = file["bytes"]?.integer else {
                    throw malformed("files")
                }
                return File(
                    name: name, bytes: bytes,
                    digest: file["digest"]?.string.flatMap(ContentDigest.init(text:)))
            },
            notes: (json["notes"]?.array ?? []).compactMap(\.string))
    }
}
