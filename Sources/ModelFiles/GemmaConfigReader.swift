import JSONModel

/// `config.json` of Gemma 2 and of Gemma 3's text models. Defaults of absent fields are those of transformers'
/// `Gemma2Config` and `Gemma3TextConfig`.
enum GemmaConfigReader {
    static func read(
        _ fields: inout ConfigFields, family: ModelFamily
    ) throws -> ModelConfig {
        let heads = try fields.size("num_attention_heads", limit: 1 << 16)
        let keyValueHeads = try fields.optionalSize("num_key_value_heads", limit: 1 << 16) ?? 4
        guard heads % keyValueHeads == 0 else {
            throw fields.fault(
                "num_key_value_heads", "\(keyValueHeads) does not divide \(heads) attention heads")
        }
        let headDimension = try fields.optionalSize("head_dim", limit: 1 << 12) ?? 256
        guard headDimension % 2 == 0 else {
            throw fields.fault("head_dim", "\(headDimension) is odd, it cannot be rotated in pairs")
        }
        let positions =
            try fields.optionalSize("max_position_embeddings", limit: 1 << 30)
            ?? (family == .gemma2 ? 8192 : 131_072)
        let hidden = try fields.size("hidden_size")
        var config = ModelConfig(
            family: family, hiddenSize: hidden,
            intermediateSize: try fields.size("intermediate_size"), headCount: heads,
            keyValueHeadCount: keyValueHeads, headDimension: headDimension,
            vocabularySize: try fields.size("vocab_size"), maximumPositions: positions,
            layers: try layers(
                &fields, family, headDimension: headDimension, positions: positions),
            normEpsilon: try LlamaConfigReader.epsilon(&fields, "rms_norm_eps", default: 1e-6),
            tiedEmbeddings: try fields.optionalFlag("tie_word_embeddings") ?? true)
        config.norm = .rmsUnitOffset
        config.normPlacement = .around
        if family == .gemma3 { config.queryKeyNorm = .perHead }
        config.activation = try ActivationReader.read(
            &fields, "hidden_activation", default: .geluTanh)
        config.embeddingMultiplier = Double(hidden).squareRoot()
        let scalar = try fields.optionalNumber("query_pre_attn_scalar") ?? 256
        guard scalar > 0 else {
            throw fields.fault("query_pre_attn_scalar", "\(scalar) is not positive")
        }
        config.attentionScaling = 1 / scalar.squareRoot()
        config.attentionSoftCap = try softCap(
            &fields, "attn_logit_softcapping", default: family == .gemma2 ? 50 : nil)
        config.logitSoftCap = try softCap(
            &fields, "final_logit_softcapping", default: family == .gemma2 ? 30 : nil)
        let bias = try fields.optionalFlag("attention_bias") ?? false
        config.queryKeyValueBias = bias
        config.attentionOutputBias = bias
        try fields.dropout(["attention_dropout"])
        try fields.expect("use_bidirectional_attention", false)
        // transformers reads `hidden_activation` alone.
        fields.ignore(["cache_implementation", "hidden_act"])
        return config
    }

    /// A null turns the cap off.
    private static func softCap(
        _ fields: inout ConfigFields, _ key: String, default fallback: Double?
    ) throws -> Double? {
        guard fields.has(key) else { return fallback }
        guard let cap = try fields.optionalNumber(key) else { return nil }
        guard cap > 0 else { throw fields.fault(key, "\(cap) is not positive") }
        return cap
    }

    /// Gemma 2 slides in every second layer, Gemma 3 in all but every sixth, where it turns by a short rotation.
    private static func layers(
        _ fields: inout ConfigFields, _ family: ModelFamily, headDimension: Int, positions: Int
    ) throws -> [LayerConfig] {
        let count = try fields.size("num_hidden_layers", limit: 1 << 12)
        let window =
            try fields.optionalSize("sliding_window", limit: 1 << 30)
            ?? (fields.has("sliding_window") ? nil : 4096)
        if family == .gemma2 { try fields.expect("sliding_window_pattern", 2) }
        let pattern =
            try fields.optionalSize("sliding_window_pattern", limit: 1 << 12)
            ?? (family == .gemma2 ? 2 : 6)
        let slides =
            try LayerConfigReader.layerTypes(&fields, count: count)
            ?? (1...count).map { $0 % pattern != 0 }
        guard window != nil || !slides.contains(true) else {
            throw fields.fault("sliding_window", "is null, but there are layers that slide")
        }
        let full: RopeConfig
        let sliding: RopeConfig
        if family == .gemma2 {
            full = try RopeConfigReader(
                headDimension: headDimension, maximumPositions: positions
            ).read(&fields)
            sliding = full
        } else {
            (full, sliding) = try ropes(
                &fields, headDimension: headDimension, positions: positions)
        }
        return slides.map {
            $0 ? LayerConfig(rope: sliding, slidingWindow: window) : LayerConfig(rope: full)
        }
    }

    /// One object for each layer type, or `rope_theta`, `rope_scaling` and `rope_local_base_freq`.
    private static func ropes(
        _ fields: inout ConfigFields, headDimension: Int, positions: Int
    ) throws -> (full: RopeConfig, sliding: RopeConfig) {
        guard let value = fields.value("rope_parameters") else {
            let local = try fields.optionalNumber("rope_local_base_freq") ?? 10_000
            guard local > 0 else {
                throw fields.fault("rope_local_base_freq", "\(local) is not positive")
            }
            return (
                try RopeConfigReader(
                    headDimension: headDimension, maximumPositions: positions,
                    defaultTheta: 1_000_000
                ).read(&fields),
                RopeConfig(theta: local, rotaryDimension: headDimension, scaling: .none)
            )
        }
        let types = ["full_attention", "sliding_attention"]
        guard let object = value.object, object.entries.allSatisfy({ types.contains($0.key) })
        else {
            throw fields.fault(
                "rope_parameters",
                "must have one object each for full_attention and sliding_attention")
        }
        // Older fields beside the objects must say the same.
        let thetas = [fields.value("rope_theta"), fields.value("rope_local_base_freq")]
        func rope(_ index: Int, _ defaultTheta: Double) throws -> RopeConfig {
            var inner = ConfigFields(
                object: JSONObject([
                    ("rope_parameters", object[types[index]] ?? .null),
                    ("rope_theta", thetas[index] ?? .null),
                ]),
                path: fields.path)
            return try RopeConfigReader(
                headDimension: headDimension, maximumPositions: positions,
                defaultTheta: defaultTheta
            ).read(&inner)
        }
        return (try rope(0, 1_000_000), try rope(1, 10_000))
    }
}
