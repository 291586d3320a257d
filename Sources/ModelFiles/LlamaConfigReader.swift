import JSONModel

/// `config.json` of Llama 2 and 3 and of the families that differ from them in a few parts: Mistral, Qwen2,
/// Qwen3, SmolLM3, Granite, OLMo 2. Defaults of absent fields are those of transformers' configuration classes.
enum LlamaConfigReader {
    static func read(
        _ fields: inout ConfigFields, family: ModelFamily
    ) throws -> ModelConfig {
        let hidden = try fields.size("hidden_size")
        let heads = try fields.size("num_attention_heads", limit: 1 << 16)
        let keyValueHeads =
            try fields.optionalSize("num_key_value_heads", limit: 1 << 16)
            ?? defaultKeyValueHeads(fields, family, heads)
        guard heads % keyValueHeads == 0 else {
            throw fields.fault(
                "num_key_value_heads", "\(keyValueHeads) does not divide \(heads) attention heads")
        }
        let headDimension: Int
        if let stated = try fields.optionalSize("head_dim", limit: 1 << 12) {
            headDimension = stated
        } else if family == .qwen3, !fields.has("head_dim") {
            headDimension = 128
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
        let positions =
            try fields.optionalSize("max_position_embeddings", limit: 1 << 30)
            ?? defaultPositions(family)
        let rope = try RopeConfigReader(
            headDimension: headDimension, maximumPositions: positions,
            defaultTheta: family == .smollm3 ? 2_000_000 : 10_000, isPhi: family == .phi3
        ).read(&fields)
        let layerCount = try fields.size("num_hidden_layers", limit: 1 << 12)
        let layers = try LayerConfigReader.read(
            &fields, family: family, count: layerCount, rope: rope)

        var config = ModelConfig(
            family: family, hiddenSize: hidden,
            intermediateSize: try fields.size("intermediate_size"), headCount: heads,
            keyValueHeadCount: keyValueHeads, headDimension: headDimension,
            vocabularySize: try fields.size("vocab_size"), maximumPositions: positions,
            layers: layers,
            normEpsilon: try epsilon(
                &fields, "rms_norm_eps", default: family == .olmo2 || family == .phi3 ? 1e-5 : 1e-6),
            tiedEmbeddings: try fields.optionalFlag("tie_word_embeddings") ?? (family == .smollm3))
        config.activation = try ActivationReader.read(&fields, "hidden_act", default: .silu)
        try biases(&fields, &config)
        if family == .qwen3 { config.queryKeyNorm = .perHead }
        if family == .olmo2 {
            config.queryKeyNorm = .whole
            config.normPlacement = .after
        }
        if family == .phi3 { try phi(&fields, &config) }
        if family == .granite { try multipliers(&fields, &config) }
        try fields.dropout(["attention_dropout"])
        if family == .llama || family == .smollm3 {
            try fields.dropout(["residual_dropout"])
            try fields.expect("rope_interleaved", false)
        }
        return config
    }

    private static func biases(
        _ fields: inout ConfigFields, _ config: inout ModelConfig
    ) throws {
        switch config.family {
        case .qwen2:
            config.queryKeyValueBias = true
        case .mistral, .phi3:
            break
        case .llama, .qwen3, .smollm3, .granite, .olmo2, .gemma2, .gemma3, .gpt2:
            let attentionBias = try fields.optionalFlag("attention_bias") ?? false
            config.queryKeyValueBias = attentionBias
            config.attentionOutputBias = attentionBias
            if config.family != .qwen3, config.family != .olmo2 {
                config.feedForwardBias = try fields.optionalFlag("mlp_bias") ?? false
            }
        }
    }

    /// Phi-3's joined matrices, and what its files say beside what `Phi3ForCausalLM` reads.
    private static func phi(
        _ fields: inout ConfigFields, _ config: inout ModelConfig
    ) throws {
        config.matrixNaming = .fused
        for key in ["attention_bias", "mlp_bias", "lm_head_bias"] { try fields.expect(key, false) }
        for key in ["full_attn_mod", "interpolate_factor"] { try fields.expect(key, 1) }
        try fields.dropout(["resid_pdrop", "embd_pdrop"])
    }

    /// Granite's four factors, each 1 where it is absent.
    private static func multipliers(
        _ fields: inout ConfigFields, _ config: inout ModelConfig
    ) throws {
        func factor(_ key: String) throws -> Double {
            let value = try fields.optionalNumber(key) ?? 1
            guard value > 0 else { throw fields.fault(key, "\(value) is not positive") }
            return value
        }
        config.embeddingMultiplier = try factor("embedding_multiplier")
        config.residualMultiplier = try factor("residual_multiplier")
        config.attentionScaling = try factor("attention_multiplier")
        config.logitDivisor = try factor("logits_scaling")
    }

    private static func defaultKeyValueHeads(
        _ fields: ConfigFields, _ family: ModelFamily, _ heads: Int
    ) -> Int {
        // An explicit null means one for each query head everywhere.
        if fields.has("num_key_value_heads") { return heads }
        switch family {
        case .mistral: return 8
        case .qwen2, .qwen3: return 32
        case .smollm3: return 4
        case .llama, .granite, .olmo2, .phi3, .gemma2, .gemma3, .gpt2: return heads
        }
    }

    private static func defaultPositions(_ family: ModelFamily) -> Int {
        switch family {
        case .llama, .granite, .olmo2, .gemma2, .gemma3, .gpt2: 2048
        case .mistral: 4096 * 32
        case .phi3: 4096
        case .qwen2, .qwen3, .smollm3: 32768
        }
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
