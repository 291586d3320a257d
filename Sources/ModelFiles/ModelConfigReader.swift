import JSONModel
import LinuxSystem

/// Reads `config.json` and `generation_config.json` into a `ModelConfig`.
///
/// A field that is not known may change the computation, so it is refused by name unless it is null.
public enum ModelConfigReader {

    /// - Parameters:
    ///   - config: Contents of `config.json`.
    ///   - generation: Contents of `generation_config.json`, where there is one.
    ///   - path: Path of `config.json`, for messages.
    public static func read(
        config: JSONValue, generation: JSONValue?, path: String
    ) throws -> ModelConfig {
        guard let object = config.object else {
            throw ModelFileError(.malformed, file: path, "is \(config.kindName), no object")
        }
        var fields = ConfigFields(object: object, path: path)
        let family = try family(&fields)
        // Every configuration of transformers 4 has these.
        try fields.expect("add_cross_attention", false)
        try fields.expect("pruned_heads", [:])
        var result: ModelConfig
        switch family {
        case .gemma2, .gemma3:
            result = try GemmaConfigReader.read(&fields, family: family)
        case .gpt2: result = try GPT2ConfigReader.read(&fields)
        default: result = try LlamaConfigReader.read(&fields, family: family)
        }
        result.specialTokens = try SpecialTokenReader.read(&fields, generation: generation)
        try fields.refuseUnread()
        return result
    }

    /// Reads the two files of a model folder.
    public static func read(folder: String) throws -> ModelConfig {
        let path = folder + "/config.json"
        let config = try JSONFile.read(path)
        return try read(
            config: config, generation: try optional(folder + "/generation_config.json"), path: path
        )
    }

    static func optional(_ path: String) throws -> JSONValue? {
        // `nil` alone would be read as JSON's null.
        FilePath.exists(path) ? try JSONFile.read(path) : JSONValue?.none
    }

    private static func family(_ fields: inout ConfigFields) throws -> ModelFamily {
        let supported = ModelFamily.allCases.map(\.rawValue).joined(separator: ", ")
        let architectures = try fields.strings("architectures")
        let type = try fields.optionalString("model_type")
        guard let name = type ?? architectures.first else {
            throw ModelFileError(
                .malformed, file: fields.path, item: "model_type", "is missing")
        }
        guard
            let family = ModelFamily(rawValue: name)
                ?? ModelFamily.allCases.first(where: { type == nil && $0.architecture == name })
        else {
            throw ModelFileError(
                .unsupported, file: fields.path, item: "model_type",
                "\(name) is not supported; supported are: \(supported)")
        }
        if let architecture = architectures.first,
            architecture != family.architecture
        {
            throw ModelFileError(
                .unsupported, file: fields.path, item: "architectures",
                "\(architecture) is not a causal language model of the family \(name)")
        }
        return family
    }
}

/// The members of a config file, with a record of which were looked at.
struct ConfigFields {
    let path: String
    private let object: JSONObject
    private var read: Set<String> = []

    init(object: JSONObject, path: String) {
        self.object = object
        self.path = path
    }

    func fault(_ key: String, _ reason: String) -> ModelFileError {
        ModelFileError(.malformed, file: path, item: key, reason)
    }

    /// The member, nil if it is absent or null.
    mutating func value(_ key: String) -> JSONValue? {
        read.insert(key)
        guard let value = object[key], !value.isNull else { return nil }
        return value
    }

    /// Whether the file has the key, even if it is null.
    func has(_ key: String) -> Bool { object[key] != nil }

    mutating func optionalString(_ key: String) throws -> String? {
        guard let value = value(key) else { return nil }
        guard let text = value.string else { throw fault(key, "is \(value.kindName), no string") }
        return text
    }

    mutating func strings(_ key: String) throws -> [String] {
        guard let value = value(key) else { return [] }
        guard let items = value.array else { throw fault(key, "is \(value.kindName), no array") }
        return try items.map {
            guard let text = $0.string else { throw fault(key, "holds \($0.kindName)") }
            return text
        }
    }

    mutating func optionalSize(_ key: String, limit: Int = 1 << 24) throws -> Int? {
        guard let value = value(key) else { return nil }
        guard let size = value.integer, size > 0, size <= limit else {
            throw fault(key, "\(value.text()) is not a whole number from 1 to \(limit)")
        }
        return size
    }

    mutating func size(_ key: String, limit: Int = 1 << 24) throws -> Int {
        guard let size = try optionalSize(key, limit: limit) else { throw fault(key, "is missing") }
        return size
    }

    mutating func optionalNumber(_ key: String) throws -> Double? {
        guard let value = value(key) else { return nil }
        guard let number = value.double, number.isFinite else {
            throw fault(key, "\(value.text()) is not a number")
        }
        return number
    }

    mutating func optionalFlag(_ key: String) throws -> Bool? {
        guard let value = value(key) else { return nil }
        guard let flag = value.bool else { throw fault(key, "is \(value.kindName), no boolean") }
        return flag
    }

    /// Accepts the field only with the one value that is computed.
    mutating func expect(_ key: String, _ allowed: JSONValue) throws {
        guard let value = value(key) else { return }
        guard value == allowed else {
            throw ModelFileError(
                .unsupported, file: path, item: key,
                "\(value.text()) is not supported, only \(allowed.text())")
        }
    }

    /// Reads probabilities of dropout inside the base: they act in training alone, where this engine does not apply
    /// them (`ModelPreparation` says so in a note).
    mutating func dropout(_ keys: [String]) throws {
        for key in keys {
            guard let probability = try optionalNumber(key) else { continue }
            guard (0..<1).contains(probability) else {
                throw fault(key, "\(probability) is no probability below 1")
            }
        }
    }

    /// Marks fields that do not change what the model computes at inference or in LoRA training.
    mutating func ignore(_ keys: [String]) { read.formUnion(keys) }

    func refuseUnread() throws {
        let unknown = object.entries
            .filter { !read.contains($0.key) && !$0.value.isNull && !Self.harmless($0.key) }
            .map(\.key)
        guard unknown.isEmpty else {
            throw ModelFileError(
                .unsupported, file: path, item: unknown.joined(separator: ", "),
                "not understood, and may change what the model computes; set it to null or remove it "
                    + "if it has no effect")
        }
    }

    /// Bookkeeping that tools leave in `config.json`.
    private static func harmless(_ key: String) -> Bool {
        key.hasPrefix("_") || harmlessKeys.contains(key)
    }

    private static let harmlessKeys: Set<String> = [
        "transformers_version", "torch_dtype", "dtype", "use_cache", "initializer_range",
        "output_attentions", "output_hidden_states", "return_dict", "pretraining_tp", "auto_map",
        "transformers.js_config", "unsloth_version", "unsloth_fixed", "model_name", "name_or_path",
        "problem_type", "task_specific_params", "id2label", "label2id", "num_labels",
        "finetuning_task", "tokenizer_class", "prefix", "license", "language", "pad_token",
        "sep_token_id", "decoder_start_token_id", "gradient_checkpointing",
        "chunk_size_feed_forward",
        "num_beams", "max_length", "min_length", "do_sample", "temperature", "top_k", "top_p",
        "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "early_stopping",
        "bad_words_ids", "begin_suppress_tokens", "cross_attention_hidden_size",
        "diversity_penalty",
        "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "forced_bos_token_id",
        "forced_eos_token_id", "num_beam_groups", "num_return_sequences", "output_scores",
        "remove_invalid_values", "return_dict_in_generate", "suppress_tokens", "tf_legacy_loss",
        "tie_encoder_decoder", "typical_p", "use_bfloat16", "torchscript", "is_decoder",
        "is_encoder_decoder", "is_llama_config",
    ]
}
