/// The four products of a layer, in order of use. Projections that read the same input are joined in one matrix.
public enum LayerProduct: Int, Sendable, Equatable, CaseIterable {
    case queryKeyValue, attentionOutput, gateUp, down
}

/// A projection as checkpoints and PEFT name it: a range of rows of its product's joined matrix.
public struct Projection: Sendable, Equatable {
    /// `model.layers.0.self_attn.q_proj`
    public let path: String
    /// Its first row in the joined matrix.
    public let firstOutput: Int
    public let outputs: Int
    public let inputs: Int
    public let hasBias: Bool
}

/// Where a norm of the residual stream, or of what is added to it, stands in a layer.
public enum LayerNormPlace: Sendable, Equatable, CaseIterable {
    case attentionInput, attentionOutput, feedForwardInput, feedForwardOutput
}

/// The names of a model's parts: the one place where they differ from family to family.
extension ModelConfig {
    public var embeddingPath: String {
        matrixNaming == .conv1D ? "transformer.wte" : "model.embed_tokens"
    }

    /// Of learned positions.
    public var positionPath: String { "transformer.wpe" }

    public var finalNormPath: String {
        matrixNaming == .conv1D ? "transformer.ln_f" : "model.norm"
    }

    public var headPath: String { "lm_head" }

    public func layerPath(_ layer: Int) -> String {
        (matrixNaming == .conv1D ? "transformer.h." : "model.layers.") + "\(layer)"
    }

    /// nil where the family has no norm there.
    public func normPath(_ layer: Int, _ place: LayerNormPlace) -> String? {
        let name: String?
        switch (place, normPlacement) {
        case (.attentionInput, .before), (.attentionInput, .around):
            name = matrixNaming == .conv1D ? "ln_1" : "input_layernorm"
        case (.attentionOutput, .after), (.attentionOutput, .around):
            name = "post_attention_layernorm"
        case (.feedForwardInput, .before):
            name = matrixNaming == .conv1D ? "ln_2" : "post_attention_layernorm"
        case (.feedForwardInput, .around): name = "pre_feedforward_layernorm"
        case (.feedForwardOutput, .after), (.feedForwardOutput, .around):
            name = "post_feedforward_layernorm"
        default: name = nil
        }
        return name.map { layerPath(layer) + "." + $0 }
    }

    /// Rows of the joined matrix of a product.
    public func outputs(of product: LayerProduct) -> Int {
        switch product {
        case .queryKeyValue: queryWidth + 2 * keyValueWidth
        case .attentionOutput, .down: hiddenSize
        case .gateUp: gatedFeedForward ? 2 * intermediateSize : intermediateSize
        }
    }

    /// Its columns.
    public func inputs(of product: LayerProduct) -> Int {
        switch product {
        case .queryKeyValue, .gateUp: hiddenSize
        case .attentionOutput: queryWidth
        case .down: intermediateSize
        }
    }

    public func hasBias(_ product: LayerProduct) -> Bool {
        switch product {
        case .queryKeyValue: queryKeyValueBias
        case .attentionOutput: attentionOutputBias
        case .gateUp, .down: feedForwardBias
        }
    }

    /// The projections of a product, in the order of their rows.
    public func projections(_ layer: Int, _ product: LayerProduct) -> [Projection] {
        var first = 0
        return names(product).map { name, outputs in
            defer { first += outputs }
            return Projection(
                path: layerPath(layer) + "." + name, firstOutput: first, outputs: outputs,
                inputs: inputs(of: product), hasBias: hasBias(product))
        }
    }

    private func names(_ product: LayerProduct) -> [(name: String, outputs: Int)] {
        let all = outputs(of: product)
        switch (product, matrixNaming) {
        case (.queryKeyValue, .separate):
            return [
                ("self_attn.q_proj", queryWidth), ("self_attn.k_proj", keyValueWidth),
                ("self_attn.v_proj", keyValueWidth),
            ]
        case (.queryKeyValue, .fused): return [("self_attn.qkv_proj", all)]
        case (.queryKeyValue, .conv1D): return [("attn.c_attn", all)]
        case (.attentionOutput, .separate), (.attentionOutput, .fused):
            return [("self_attn.o_proj", all)]
        case (.attentionOutput, .conv1D): return [("attn.c_proj", all)]
        case (.gateUp, .separate):
            return [("mlp.gate_proj", intermediateSize), ("mlp.up_proj", intermediateSize)]
        case (.gateUp, .fused): return [("mlp.gate_up_proj", all)]
        case (.gateUp, .conv1D): return [("mlp.c_fc", all)]
        case (.down, .separate), (.down, .fused): return [("mlp.down_proj", all)]
        case (.down, .conv1D): return [("mlp.c_proj", all)]
        }
    }
}
