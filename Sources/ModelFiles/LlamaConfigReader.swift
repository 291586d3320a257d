import JSONModel

/// `config.json` of Llama 2, Llama 3 and what shares their computation (SmolLM 2, TinyLlama, …).
enum LlamaConfigReader {
    static func read(_ fields: inout ConfigFields) throws -> ModelConfig {
        let hidden = try fields.size("hidden_size")
        let heads = try fields.size("num_attention_heads", limit: 1 << 16)
        let keyValueHeads = try fields.optionalSize("num_key_value_heads", limit: 1 << 16) ?? heads
        guard heads % keyValueHeads == 0 else {
            throw fields.fault(
                "num_key_value_heads", "\(keyValueHeads) does not divide \(heads) attention heads")
        }
        let headDimension: Int
        if let stated = try fields.optionalSize("head_dim", limit: 1 << 12) {
            headDimension = stated
        } else {
            guard hidden % heads == 0 else {
                throw fields.fault(
                    "num_attention_heads", "\(heads) does not divide hidden_size \(hidden)")
            }
            headDimension = hidden / heads
        }
        guard headDimension % 2 == 0 else {
            throw fields.fault("head_dim", "\(headDimension) is odd, it cannot be rotated in pairs")
        }
        let positions = try fields.optionalSize("max_position_embeddings", limit: 1 << 30) ?? 2048
        let rope = try RopeConfigReader.read(
            &fields, headDimension: headDimension, maximumPositions: positions)
        let layerCount = try fields.size("num_hidden_layers", limit: 1 << 12)

        var config = ModelConfig(
            family: .llama, hiddenSize: hidden,
            intermediateSize: try fields.size("intermediate_size"), headCount: heads,
            keyValueHeadCount: keyValueHeads, headDimension: headDimension,
            vocabularySize: try fields.size("vocab_size"), maximumPositions: positions,
            layers: Array(repeating: LayerConfig(rope: rope), count: layerCount),
            normEpsilon: try epsilon(&fields, "rms_norm_eps", default: 1e-6),
            tiedEmbeddings: try fields.optionalFlag("tie_word_embeddings") ?? false)
        config.activation = try ActivationReader.read(&fields, "hidden_act", default: .silu)
        let attentionBias = try fields.optionalFlag("attention_bias") ?? false
        config.queryKeyValueBias = attentionBias
        config.attentionOutputBias = attentionBias
        config.feedForwardBias = try fields.optionalFlag("mlp_bias") ?? false
        try fields.expect("attention_dropout", 0)
        try fields.expect("residual_dropout", 0)
        try fields.expect("rope_interleaved", false)
        return config
    }

    static func epsilon(
        _ fields: inout ConfigFields, _ key: String, default fallback: Double
    ) throws -> Double {
        let value = try fields.optionalNumber(key) ?? fallback
        guard value > 0, value < 1 else {
            throw fields.fault(key, "\(value) is not between 0 and 1")
        }
        return value
    }
}

/// The names of activations in `config.json`.
enum ActivationReader {
    static func read(
        _ fields: inout ConfigFields, _ key: String, default fallback: Activation
    ) throws -> Activation {
        guard let name = try fields.optionalString(key) else { return fallback }
        switch name {
        case "silu", "swish": return .silu
        case "gelu_pytorch_tanh", "gelu_new", "gelu_fast": return .geluTanh
        case "gelu": return .gelu
        default:
            throw ModelFileError(
                .unsupported, file: fields.path, item: key,
                "activation \(name) is not supported; silu, gelu and gelu_pytorch_tanh are")
        }
    }
}
