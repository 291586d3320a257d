import JSONModel
import LinuxSystem

/// Where a model's tokenizer is described.
public enum TokenizerSource: Sendable {
    /// The bytes of a `tokenizer.json`.
    case tokenizerJSON([UInt8])
    /// What a GGUF file says of its tokenizer.
    case gguf(GGUFTokenizerData)
}

/// A base model as a person gives it: a Hugging Face folder or a GGUF file, opened and checked.
public struct ModelSource: Sendable {
    /// The folder or file.
    public let path: String
    public let config: ModelConfig
    public let tensors: any TensorSource
    /// `config.json` as it was written, or made from GGUF metadata.
    public let configJSON: JSONValue
    public let generationConfigJSON: JSONValue?
    public let tokenizer: TokenizerSource?
    public let tokenizerConfigJSON: JSONValue?
    /// The default chat template, byte for byte.
    public let chatTemplate: String?

    /// Opens a folder with `config.json`, or a `.gguf` file, and checks every tensor's name and shape.
    ///
    /// - Parameter ggufElementType: `bfloat16` rounds a GGUF's weights as checkpoints are stored; `float32` leaves them
    ///   as dequantized.
    /// - Throws: `ModelFileError`.
    public static func open(
        _ path: String, ggufElementType: ElementType = .bfloat16
    ) throws -> ModelSource {
        let source =
            FilePath.isDirectory(path)
            ? try folder(path) : try gguf(path, elementType: ggufElementType)
        try TensorInventory.check(source.tensors, against: source.config)
        return source
    }

    private static func gguf(_ path: String, elementType: ElementType) throws -> ModelSource {
        guard FilePath.exists(path) else {
            throw ModelFileError(.unreadable, file: path, "there is no such file or folder")
        }
        let file = try GGUFFile(path: path)
        let model = try GGUFModel(file: file, elementType: elementType)
        return ModelSource(
            path: path, config: model.config, tensors: model, configJSON: model.configJSON,
            generationConfigJSON: model.generationConfigJSON,
            tokenizer: try model.tokenizerSource,
            tokenizerConfigJSON: try model.tokenizerConfigJSON,
            chatTemplate: try model.tokenizer?.chatTemplate)
    }

    private static func folder(_ path: String) throws -> ModelSource {
        let configPath = path + "/config.json"
        guard FilePath.exists(configPath) else {
            throw ModelFileError(.unreadable, file: path, "there is no config.json in this folder")
        }
        let configJSON = try JSONFile.read(configPath)
        let generation = try ModelConfigReader.optional(path + "/generation_config.json")
        let config = try ModelConfigReader.read(
            config: configJSON, generation: generation, path: configPath)
        let tokenizerConfig = try ModelConfigReader.optional(path + "/tokenizer_config.json")
        let tokenizerPath = path + "/tokenizer.json"
        return ModelSource(
            path: path, config: config,
            tensors: try CheckpointSource.open(folder: path, config: config),
            configJSON: configJSON, generationConfigJSON: generation,
            tokenizer: FilePath.exists(tokenizerPath)
                ? .tokenizerJSON(try JSONFile.readBytes(tokenizerPath)) : nil,
            tokenizerConfigJSON: tokenizerConfig,
            chatTemplate: try ChatTemplateFile.read(folder: path, tokenizerConfig: tokenizerConfig))
    }
}

/// The places where a Hugging Face folder keeps its chat template.
public enum ChatTemplateFile {
    /// `chat_template.jinja`, else `chat_template.json`, else `chat_template` in `tokenizer_config.json`, which is a
    /// string or a list of named ones, of which `default` is taken. Nil if there is none.
    public static func read(folder: String, tokenizerConfig: JSONValue?) throws -> String? {
        let jinja = folder + "/chat_template.jinja"
        if FilePath.exists(jinja) {
            guard let text = String(validating: try JSONFile.readBytes(jinja), as: UTF8.self) else {
                throw ModelFileError(.malformed, file: jinja, "is not UTF-8")
            }
            return text
        }
        let json = folder + "/chat_template.json"
        if let value = try ModelConfigReader.optional(json) {
            return try template(value["chat_template"], path: json)
        }
        return try template(
            tokenizerConfig?["chat_template"], path: folder + "/tokenizer_config.json")
    }

    private static func template(_ value: JSONValue?, path: String) throws -> String? {
        guard let value, !value.isNull else { return nil }
        if let text = value.string { return text }
        let named = value.array ?? []
        let chosen =
            named.first { $0["name"]?.string == "default" } ?? (named.count == 1 ? named[0] : .null)
        guard let text = chosen["template"]?.string else {
            throw ModelFileError(
                .malformed, file: path, item: "chat_template",
                "is neither a template nor a list of templates with one named default")
        }
        return text
    }
}
