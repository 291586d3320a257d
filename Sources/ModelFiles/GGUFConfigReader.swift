import JSONModel
import LinuxSystem

/// Reads a `ModelConfig` from GGUF metadata.
enum GGUFConfigReader {
    static func read(_ file: GGUFFile) throws -> ModelConfig {
        guard let architecture = file.value("general.architecture")?.string else {
            throw ModelFileError(
                .malformed, file: file.path, item: "general.architecture", "is missing")
        }
        guard architecture == "llama" else {
            throw ModelFileError(
                .unsupported, file: file.path, item: "general.architecture",
                "\(architecture) is not supported; supported are: llama")
        }
        let fields = GGUFFields(file: file, architecture: architecture)
        let hidden = try fields.size("embedding_length")
        let heads = try fields.size("attention.head_count", limit: 1 << 16)
        let keyValueHeads =
            try fields.optionalSize("attention.head_count_kv", limit: 1 << 16) ?? heads
        guard heads % keyValueHeads == 0 else {
            throw fields.fault(
                "attention.head_count_kv", "\(keyValueHeads) does not divide \(heads)")
        }
        let headDimension = try headDimension(fields, hidden: hidden, heads: heads)
        let positions = try fields.size("context_length", limit: 1 << 30)
        let rope = try rope(fields, headDimension: headDimension)
        let layerCount = try fields.size("block_count", limit: 1 << 12)
        let epsilon = try fields.number("attention.layer_norm_rms_epsilon")
        guard epsilon > 0, epsilon < 1 else {
            throw fields.fault("attention.layer_norm_rms_epsilon", "is not between 0 and 1")
        }
        guard let embedding = file.tensor("token_embd.weight"), let rows = embedding.shape.first
        else {
            throw ModelFileError(
                .missingTensor, file: file.path, item: "token_embd.weight", "no such tensor")
        }
        if let stated = try fields.optionalSize("vocab_size"), stated != rows {
            throw fields.fault("vocab_size", "\(stated) differs from the embedding's \(rows) rows")
        }
        var config = ModelConfig(
            family: .llama, hiddenSize: hidden,
            intermediateSize: try fields.size("feed_forward_length"), headCount: heads,
            keyValueHeadCount: keyValueHeads, headDimension: headDimension, vocabularySize: rows,
            maximumPositions: positions,
            layers: Array(repeating: LayerConfig(rope: rope), count: layerCount),
            normEpsilon: epsilon, tiedEmbeddings: file.tensor("output.weight") == nil,
            specialTokens: try specialTokens(file))
        config.queryKeyValueBias = file.tensor("blk.0.attn_q.bias") != nil
        // Llama's config.json has one flag for all four; where some are not there the inventory says so.
        config.attentionOutputBias = config.queryKeyValueBias
        config.feedForwardBias = file.tensor("blk.0.ffn_up.bias") != nil
        try refuseUnread(fields)
        return config
    }

    private static func headDimension(
        _ fields: GGUFFields, hidden: Int, heads: Int
    ) throws -> Int {
        let key = try fields.optionalSize("attention.key_length", limit: 1 << 12)
        let value = try fields.optionalSize("attention.value_length", limit: 1 << 12)
        if let key, let value, key != value {
            throw fields.fault("attention.value_length", "\(value) differs from key_length \(key)")
        }
        guard key != nil || hidden % heads == 0 else {
            throw fields.fault("attention.head_count", "\(heads) does not divide \(hidden)")
        }
        let dimension = key ?? hidden / heads
        guard dimension % 2 == 0 else {
            throw fields.fault("attention.key_length", "\(dimension) is odd")
        }
        return dimension
    }

    private static func rope(_ fields: GGUFFields, headDimension: Int) throws -> RopeConfig {
        let theta = try fields.optionalNumber("rope.freq_base") ?? 10000
        let rotary =
            try fields.optionalSize("rope.dimension_count", limit: 1 << 12) ?? headDimension
        guard rotary == headDimension else {
            throw ModelFileError(
                .unsupported, file: fields.file.path, item: "llama.rope.dimension_count",
                "\(rotary) is not the head's \(headDimension): partial rotation is not supported")
        }
        var scaling = RopeConfig.Scaling.none
        switch fields.text("rope.scaling.type") ?? "none" {
        case "none": break
        case "linear":
            scaling = .linear(factor: try fields.number("rope.scaling.factor"))
        case let other:
            throw ModelFileError(
                .unsupported, file: fields.file.path, item: "llama.rope.scaling.type",
                "\(other) is not supported; none and linear are")
        }
        if let tensor = fields.file.tensor("rope_freqs.weight") {
            guard scaling == .none, tensor.type == .f32, tensor.shape == [rotary / 2] else {
                throw ModelFileError(
                    .unsupported, file: fields.file.path, item: tensor.name,
                    "is not \(rotary / 2) F32 factors without another scaling")
            }
            let factors = try fields.file.floats(tensor)
            guard factors.allSatisfy({ $0.isFinite && $0 > 0 }) else {
                throw ModelFileError(
                    .malformed, file: fields.file.path, item: tensor.name,
                    "a factor is not a positive number")
            }
            scaling = .factors(factors)
        }
        return RopeConfig(theta: theta, rotaryDimension: rotary, scaling: scaling)
    }

    private static func specialTokens(_ file: GGUFFile) throws -> SpecialTokenIDs {
        guard let data = try GGUFTokenizerData(file: file) else { return SpecialTokenIDs() }
        var end: [Int] = []
        for id in [data.end, data.endOfTurn].compactMap({ $0 }) where !end.contains(id) {
            end.append(id)
        }
        return SpecialTokenIDs(beginning: data.beginning, end: end, padding: data.padding)
    }

    /// Keys of the architecture that were not read may change the computation.
    private static func refuseUnread(_ fields: GGUFFields) throws {
        let known: Set<String> = [
            "embedding_length", "attention.head_count", "attention.head_count_kv",
            "attention.key_length", "attention.value_length", "context_length", "block_count",
            "feed_forward_length", "attention.layer_norm_rms_epsilon", "vocab_size",
            "rope.freq_base", "rope.dimension_count", "rope.scaling.type", "rope.scaling.factor",
            "rope.scaling.original_context_length", "rope.scaling.finetuned", "tensor_data_layout",
        ]
        let prefix = fields.architecture + "."
        let unknown = fields.file.metadata.map(\.key)
            .filter { $0.hasPrefix(prefix) && !known.contains(String($0.dropFirst(prefix.count))) }
        guard unknown.isEmpty else {
            throw ModelFileError(
                .unsupported, file: fields.file.path, item: unknown.joined(separator: ", "),
                "not understood, and may change what the model computes")
        }
    }

    /// A `config.json` that says what `config` says, in transformers' words.
    static func configJSON(_ config: ModelConfig, elementType: ElementType) -> JSONValue {
        func whole(_ value: Int) -> JSONValue { .integer(Int64(value)) }
        let rope = config.layers.first?.rope
        var scaling = JSONValue.null
        if case .linear(let factor)? = rope?.scaling {
            scaling = ["rope_type": "linear", "factor": .number(factor)]
        }
        if case .factors(let factors)? = rope?.scaling {
            scaling = [
                "rope_type": "factors", "factors": .array(factors.map { .number(Double($0)) }),
            ]
        }
        let special = config.specialTokens
        let end: JSONValue =
            special.end.count == 1 ? whole(special.end[0]) : .array(special.end.map(whole))
        return [
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "attention_bias": .bool(config.queryKeyValueBias),
            "mlp_bias": .bool(config.feedForwardBias), "attention_dropout": 0,
            "use_cache": true,
            "torch_dtype": elementType == .float32 ? "float32" : "bfloat16",
            "tie_word_embeddings": .bool(config.tiedEmbeddings),
            "hidden_size": whole(config.hiddenSize),
            "intermediate_size": whole(config.intermediateSize),
            "num_hidden_layers": whole(config.layerCount),
            "num_attention_heads": whole(config.headCount),
            "num_key_value_heads": whole(config.keyValueHeadCount),
            "head_dim": whole(config.headDimension),
            "max_position_embeddings": whole(config.maximumPositions),
            "vocab_size": whole(config.vocabularySize),
            "rms_norm_eps": .number(config.normEpsilon),
            "rope_theta": .number(rope?.theta ?? 10000), "rope_scaling": scaling,
            "bos_token_id": special.beginning.map(whole) ?? .null,
            "eos_token_id": special.end.isEmpty ? .null : end,
            "pad_token_id": special.padding.map(whole) ?? .null,
        ]
    }
}

/// Typed access to the metadata of one architecture.
struct GGUFFields {
    let file: GGUFFile
    let architecture: String

    func fault(_ key: String, _ reason: String) -> ModelFileError {
        ModelFileError(.malformed, file: file.path, item: "\(architecture).\(key)", reason)
    }

    private func value(_ key: String) -> GGUFValue? { file.value("\(architecture).\(key)") }

    func text(_ key: String) -> String? { value(key)?.string }

    func optionalSize(_ key: String, limit: Int = 1 << 24) throws -> Int? {
        guard let value = value(key) else { return nil }
        guard let size = value.integer, size > 0, size <= limit else {
            throw fault(key, "is not a whole number from 1 to \(limit)")
        }
        return size
    }

    func size(_ key: String, limit: Int = 1 << 24) throws -> Int {
        guard let size = try optionalSize(key, limit: limit) else { throw fault(key, "is missing") }
        return size
    }

    /// A float32 as the shortest decimal that means it, as checkpoints state it: 1e-05, not 9.99999975e-06.
    func optionalNumber(_ key: String) throws -> Double? {
        guard let value = value(key) else { return nil }
        guard let number = value.double, number.isFinite else { throw fault(key, "is no number") }
        return Double("\(Float(number))") ?? number
    }

    func number(_ key: String) throws -> Double {
        guard let number = try optionalNumber(key) else { throw fault(key, "is missing") }
        return number
    }
}
