import JSONModel
import LinuxSystem

/// The names of the files in a prepared model folder.
public enum PreparedFileName {
    public static let manifest = "model.json"
    public static let packed = "packed.bin"
    public static let config = "config.json"
    public static let generationConfig = "generation_config.json"
    public static let tokenizerJSON = "tokenizer.json"
    public static let tokenizerGGUF = "tokenizer.gguf.json"
    public static let tokenizerConfig = "tokenizer_config.json"
    public static let chatTemplate = "chat_template.jinja"
}

/// Turns a base model into the private folder that workers map: packed matrices, configuration, tokenizer, template.
public enum ModelPreparation {
    public struct Progress: Sendable, Equatable {
        public enum Stage: String, Sendable { case digest, pack }
        public let stage: Stage
        /// Tensors digested, or bytes packed.
        public let done: Int
        public let total: Int
    }

    /// The type that a source's matrices keep: float32 if they are stored so, else bfloat16.
    public static func naturalElementType(of source: ModelSource) -> ElementType {
        let wide = source.config.expectedTensors.contains { tensor in
            tensor.role != .vector
                && source.tensors.description(of: tensor.name)?.elementType == .float32
        }
        return wide ? .float32 : .bfloat16
    }

    /// Writes the folder, each file durably, `model.json` last.
    ///
    /// - Parameters:
    ///   - folder: Made if it is missing; files of an earlier, interrupted try are replaced.
    ///   - elementType: Type of the packed matrices; nil keeps the source's.
    ///   - progress: Throwing from it ends the work; `model.json` is then not there.
    public static func prepare(
        _ source: ModelSource, into folder: String, elementType: ElementType? = nil,
        packer: some MatrixPacker, progress: (Progress) throws -> Void = { _ in }
    ) throws -> ModelManifest {
        let type = elementType ?? naturalElementType(of: source)
        guard type == .bfloat16 || type == .float32 else {
            throw ModelFileError(
                .unsupported, file: source.path, item: "dtype",
                "\(type.rawValue) is not supported; BF16 and F32 are")
        }
        do { try DurableFile.createDirectories(folder) } catch {
            throw ModelFileError(.unwritable, file: folder, "\(error)")
        }
        let weights = try BaseDigest.weights(config: source.config, source: source.tensors) {
            try progress(Progress(stage: .digest, done: $0, total: $1))
        }
        let base = BaseDigest.base(config: source.config, weights: weights)
        let packed = folder + "/" + PreparedFileName.packed
        try PackedModelWriter.write(
            config: source.config, source: source.tensors, base: base, elementType: type,
            packer: packer, to: packed
        ) { try progress(Progress(stage: .pack, done: $0, total: $1)) }
        // Digested and packed in two passes: both must have seen the same bytes.
        try source.tensors.checkUnchanged()
        let check = try PackedModelFile(path: packed, expectedBase: base)
        try check.verifyContents()

        var files = [
            ModelManifest.File(
                name: PreparedFileName.packed, bytes: check.file.count, digest: nil)
        ]
        for (name, bytes) in try companions(source) {
            do { try DurableFile.write(bytes, to: folder + "/" + name) } catch {
                throw ModelFileError(.unwritable, file: folder + "/" + name, "\(error)")
            }
            files.append(
                ModelManifest.File(
                    name: name, bytes: bytes.count, digest: ContentDigest(of: bytes)))
        }
        let manifest = ModelManifest(
            base: base, weights: weights, family: source.config.family, elementType: type,
            parameterCount: source.config.expectedTensors.reduce(0) {
                $0 + $1.shape.reduce(1, *)
            },
            layerCount: source.config.layerCount, vocabularySize: source.config.vocabularySize,
            maximumPositions: source.config.maximumPositions, source: source.path,
            hasChatTemplate: source.chatTemplate != nil, files: files,
            notes: notes(source, type) + (try untrainedEndTokens(source)))
        let path = folder + "/" + PreparedFileName.manifest
        do { try DurableFile.write(manifest.json.text(pretty: true) + "\n", to: path) } catch {
            throw ModelFileError(.unwritable, file: path, "\(error)")
        }
        return manifest
    }

    /// The small files beside the packed one.
    private static func companions(
        _ source: ModelSource
    ) throws -> [(name: String, bytes: [UInt8])] {
        func pretty(_ value: JSONValue) -> [UInt8] { value.serialized(pretty: true) + [10] }
        var result = [(name: PreparedFileName.config, bytes: pretty(source.configJSON))]
        if let generation = source.generationConfigJSON {
            result.append((PreparedFileName.generationConfig, pretty(generation)))
        }
        switch source.tokenizer {
        case .tokenizerJSON(let bytes): result.append((PreparedFileName.tokenizerJSON, bytes))
        case .gguf(let data):
            let json = try data.json(path: source.path)
            result.append((PreparedFileName.tokenizerGGUF, json.serialized()))
        case nil: break
        }
        if let config = source.tokenizerConfigJSON {
            result.append((PreparedFileName.tokenizerConfig, pretty(config)))
        }
        if let template = source.chatTemplate {
            result.append((PreparedFileName.chatTemplate, Array(template.utf8)))
        }
        return result
    }

    /// End tokens whose embedding row was never trained: an adapter on the linear matrices can hardly teach them.
    private static func untrainedEndTokens(_ source: ModelSource) throws -> [String] {
        let name = source.config.embeddingPath + ".weight"
        let tensor = try source.tensors.require(name)
        var row = [Float](repeating: 0, count: tensor.rowElementCount)
        func norm(_ index: Int) throws -> Double {
            try row.withUnsafeMutableBufferPointer {
                try source.tensors.readFloats(name, rows: index..<index + 1, into: $0)
            }
            return row.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
        }
        let samples = 64
        let step = max(1, tensor.rowCount / samples)
        let norms = try stride(from: 0, to: tensor.rowCount, by: step).map(norm).sorted()
        let typical = norms[norms.count / 2]
        return try source.config.specialTokens.end.compactMap { id in
            guard id < tensor.rowCount else {
                return "end token \(id) has no row in the embedding of \(tensor.rowCount)"
            }
            let length = try norm(id)
            guard length < 0.01 * typical else { return nil }
            return "the embedding row of end token \(id) looks untrained (norm \(Float(length)), "
                + "typical \(Float(typical))): training on linear matrices alone can hardly teach it"
        }
    }

    /// The fields that ask for dropout inside the base. GPT-2's are 0.1 where they are absent.
    static func unappliedDropout(_ config: JSONValue, _ family: ModelFamily) -> [String] {
        [
            "attention_dropout", "residual_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop",
        ].filter {
            let absent = family == .gpt2 && $0.hasSuffix("_pdrop") ? 0.1 : 0
            return config[$0]?.double ?? absent > 0
        }
    }

    private static func notes(_ source: ModelSource, _ type: ElementType) -> [String] {
        var notes = source.config.specialTokens.disagreements
        let stored = Set(
            source.config.expectedTensors.compactMap {
                source.tensors.description(of: $0.name)?.elementType
            })
        if type == .bfloat16, stored.contains(.float32) || stored.contains(.float16) {
            notes.append(
                "matrices stored as \(stored.map(\.rawValue).sorted().joined(separator: ", ")) "
                    + "were rounded to BF16")
        }
        let dropout = unappliedDropout(source.configJSON, source.config.family)
        if !dropout.isEmpty {
            notes.append("training does not apply \(dropout.joined(separator: ", "))")
        }
        if source.tokenizer == nil {
            notes.append("there is no tokenizer: only token ids can be used")
        }
        if source.chatTemplate == nil {
            notes.append("there is no chat template: chat messages cannot be used")
        }
        return notes
    }
}

/// A prepared model folder, opened: what `ModelPreparation` wrote, checked.
public struct PreparedModel: Sendable {
    public let folder: String
    public let manifest: ModelManifest
    public let config: ModelConfig
    public let packed: PackedModelFile

    /// Opens a folder with `model.json`; maps the packed file without reading its matrices.
    public init(folder: String) throws {
        self.folder = folder
        let path = folder + "/" + PreparedFileName.manifest
        guard FilePath.exists(path) else {
            throw ModelFileError(
                .unreadable, file: folder, "there is no model.json: the model is not prepared")
        }
        manifest = try ModelManifest(json: try JSONFile.read(path), path: path)
        config = try ModelConfigReader.read(folder: folder)
        packed = try PackedModelFile(
            path: folder + "/" + PreparedFileName.packed, expectedBase: manifest.base)
    }

    /// The tokenizer's description, read when asked for.
    public func tokenizer() throws -> TokenizerSource? {
        let json = folder + "/" + PreparedFileName.tokenizerJSON
        if FilePath.exists(json) { return .tokenizerJSON(try JSONFile.readBytes(json)) }
        let gguf = folder + "/" + PreparedFileName.tokenizerGGUF
        guard FilePath.exists(gguf) else { return nil }
        return .gguf(try GGUFTokenizerData(json: try JSONFile.read(gguf), path: gguf))
    }

    public func tokenizerConfig() throws -> JSONValue? {
        try ModelConfigReader.optional(folder + "/" + PreparedFileName.tokenizerConfig)
    }

    public func chatTemplate() throws -> String? {
        try ChatTemplateFile.read(folder: folder, tokenizerConfig: tokenizerConfig())
    }
}
