import Kernels
import LoRA
import ModelFiles

/// The modules of a decoder by the paths that PEFT sees.
extension Decoder: ModuleInventory {
    public var modules: [AdaptableModule] { Self.modules(of: config) }

    public var hasTiedHead: Bool { config.tiedEmbeddings }

    /// The same from the configuration alone, for plans and estimates.
    public static func modules(of config: ModelConfig) -> [AdaptableModule] {
        let width = config.hiddenSize
        var result = [
            AdaptableModule(
                path: "model.embed_tokens", kind: .embedding, outputs: width,
                inputs: config.vocabularySize)
        ]
        for layer in 0..<config.layerCount {
            func add(
                _ name: String, _ outputs: Int, _ inputs: Int,
                _ kind: AdaptableModule.Kind = .linear
            ) {
                result.append(
                    AdaptableModule(
                        path: "model.layers.\(layer).\(name)", kind: kind, outputs: outputs,
                        inputs: inputs))
            }
            add("self_attn.q_proj", config.queryWidth, width)
            add("self_attn.k_proj", config.keyValueWidth, width)
            add("self_attn.v_proj", config.keyValueWidth, width)
            add("self_attn.o_proj", width, config.queryWidth)
            add("mlp.gate_proj", config.intermediateSize, width)
            add("mlp.up_proj", config.intermediateSize, width)
            add("mlp.down_proj", width, config.intermediateSize)
            if config.queryKeyNorm != .none {
                add("self_attn.q_norm", config.queryNormWidth, 0, .other)
                add("self_attn.k_norm", config.keyNormWidth, 0, .other)
            }
            add("mlp.act_fn", width, 0, .other)
            if config.normPlacement != .after { add("input_layernorm", width, 0, .other) }
            add("post_attention_layernorm", width, 0, .other)
            if config.normPlacement == .around {
                add("pre_feedforward_layernorm", width, 0, .other)
            }
            if config.normPlacement != .before {
                add("post_feedforward_layernorm", width, 0, .other)
            }
        }
        result.append(
            AdaptableModule(path: "model.norm", kind: .other, outputs: width, inputs: 0))
        result.append(
            AdaptableModule(path: "model.rotary_emb", kind: .other, outputs: width, inputs: 0))
        result.append(
            AdaptableModule(
                path: "lm_head", kind: .head, outputs: config.vocabularySize, inputs: width))
        return result
    }

    public func baseWeights(of path: String) throws -> [Float] {
        if path == "model.embed_tokens" {
            return try rows(weights.embedding, 0..<config.vocabularySize)
        }
        if path == "lm_head" { return try rows(weights.head, 0..<config.vocabularySize) }
        let parts = path.split(separator: ".")
        guard parts.count == 5, let layer = Int(parts[2]), weights.layers.indices.contains(layer)
        else { throw TransformerError(.weights, "there is no matrix \(path)") }
        let query = config.queryWidth
        let keyValue = config.keyValueWidth
        let inner = config.intermediateSize
        let matrices = weights.layers[layer]
        switch parts[4] {
        case "q_proj": return try rows(matrices.queryKeyValue, 0..<query)
        case "k_proj": return try rows(matrices.queryKeyValue, query..<query + keyValue)
        case "v_proj":
            return try rows(matrices.queryKeyValue, query + keyValue..<query + 2 * keyValue)
        case "o_proj": return try rows(matrices.attentionOutput, 0..<config.hiddenSize)
        case "gate_proj": return try rows(matrices.gateUp, 0..<inner)
        case "up_proj": return try rows(matrices.gateUp, inner..<2 * inner)
        case "down_proj": return try rows(matrices.down, 0..<config.hiddenSize)
        default: throw TransformerError(.weights, "there is no matrix \(path)")
        }
    }

    /// Rows of a packed matrix, row-major.
    private func rows(_ matrix: PackedMatrix, _ range: Range<Int>) throws -> [Float] {
        var result: [Float] = []
        result.reserveCapacity(range.count * matrix.columns)
        for row in range {
            for column in 0..<matrix.columns { result.append(matrix[row, column]) }
        }
        return result
    }
}
