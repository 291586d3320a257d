import JSONModel

/// `config.json` of GPT-2. Defaults of absent fields are those of transformers' `GPT2Config`.
enum GPT2ConfigReader {
    static func read(_ fields: inout ConfigFields) throws -> ModelConfig {
        let hidden = try fields.optionalSize("n_embd") ?? 768
        let heads = try fields.optionalSize("n_head", limit: 1 << 16) ?? 12
        guard hidden % (2 * heads) == 0 else {
            throw fields.fault(
                "n_head", "\(heads) does not divide n_embd \(hidden) into heads of even width")
        }
        let layerCount = try fields.optionalSize("n_layer", limit: 1 << 12) ?? 12
        let positions = try fields.optionalSize("n_positions") ?? 1024
        if let context = try fields.optionalSize("n_ctx"), context != positions {
            throw fields.fault("n_ctx", "\(context) differs from n_positions \(positions)")
        }
        var config = ModelConfig(
            family: .gpt2, hiddenSize: hidden,
            intermediateSize: try fields.optionalSize("n_inner") ?? 4 * hidden,
            headCount: heads, keyValueHeadCount: heads, headDimension: hidden / heads,
            vocabularySize: try fields.optionalSize("vocab_size") ?? 50257,
            maximumPositions: positions,
            layers: Array(repeating: LayerConfig(rope: nil), count: layerCount),
            normEpsilon: try LlamaConfigReader.epsilon(
                &fields, "layer_norm_epsilon", default: 1e-5),
            tiedEmbeddings: try fields.optionalFlag("tie_word_embeddings") ?? true)
        config.norm = .layer
        config.matrixNaming = .conv1D
        config.learnedPositions = true
        config.gatedFeedForward = false
        config.queryKeyValueBias = true
        config.attentionOutputBias = true
        config.feedForwardBias = true
        config.activation = try ActivationReader.read(
            &fields, "activation_function", default: .geluTanh)
        if try fields.optionalFlag("scale_attn_weights") == false { config.attentionScaling = 1 }
        try fields.expect("scale_attn_by_inverse_layer_idx", false)
        try fields.expect("add_cross_attention", false)
        // Scores are float32 sums here in any case, which is what this asks of half-precision models.
        _ = try fields.optionalFlag("reorder_and_upcast_attn")
        try fields.dropout(["attn_pdrop", "embd_pdrop", "resid_pdrop"])
        // These belong to another head.
        fields.ignore([
            "summary_activation",
            "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
        ])
        return config
    }
}
