import Kernels
import ModelFiles

/// The matrices of a decoder as the kernels read them.
///
/// Matrices that multiply the same input lie joined: queries, keys and values one below the other, gate
/// over up. Shapes: D width of the residual stream, Q = (heads + 2 · kvHeads) · headDimension, F the
/// feed-forward width, V tokens.
struct DecoderWeights: Sendable {
    struct Layer: Sendable {
        /// `[1, D]`; nil where blocks read the residual stream as it is.
        let inputNorm: Matrix?
        /// `[Q, D]`, queries, keys, values.
        let queryKeyValue: PackedMatrix
        /// `[1, Q]`, where the family has it.
        let queryKeyValueBias: Matrix?
        /// Where the family normalizes queries and keys: `[1, headDimension]` each head by head, else their widths.
        let queryNorm: Matrix?
        let keyNorm: Matrix?
        /// `[D, heads · headDimension]`
        let attentionOutput: PackedMatrix
        /// `[1, D]`, where the model has it.
        let attentionOutputBias: Matrix?
        /// `[1, D]`, of the attention's output before it is added; nil where that is added as it is.
        let attentionOutputNorm: Matrix?
        /// `[1, D]`, as `inputNorm`.
        let feedForwardNorm: Matrix?
        /// `[2F, D]`, paired where F is a multiple of 32.
        let gateUp: PackedMatrix
        /// `[1, 2F]`, where the model has it.
        let gateUpBias: Matrix?
        /// `[D, F]`
        let down: PackedMatrix
        /// `[1, D]`, where the model has it.
        let downBias: Matrix?
        /// `[1, D]`, as `attentionOutputNorm`.
        let feedForwardOutputNorm: Matrix?
    }

    /// `[V, D]`
    let embedding: PackedMatrix
    let layers: [Layer]
    /// `[1, D]`, divided by the config's logit divisor.
    let finalNorm: Matrix
    /// `[V, D]`; the embedding itself when tied.
    let head: PackedMatrix
}

/// One matrix of the packed form: its name in the file and the checkpoint tensors it is joined from.
struct JoinedMatrix: Sendable, Equatable {
    let name: String
    /// Rows come in this order.
    let sources: [String]
    let rows: Int
    let columns: Int
    let paired: Bool
}

/// One float32 vector of the packed form and the checkpoint tensors it is joined from, in this order.
struct JoinedVector: Sendable, Equatable {
    let name: String
    let sources: [String]
    let count: Int
}

/// The packed form of a configuration: which matrices and vectors there are.
struct DecoderLayout: Sendable {
    let config: ModelConfig

    /// - Throws: `TransformerError.unsupported`, naming the part that is not computed here.
    init(_ config: ModelConfig) throws(TransformerError) {
        func refuse(_ condition: Bool, _ part: String) throws(TransformerError) {
            if condition {
                throw TransformerError(
                    .unsupported, "\(config.family.rawValue): \(part) is not supported")
            }
        }
        try refuse(config.norm == .layer, "the norm \(config.norm.rawValue)")
        try refuse(!config.gatedFeedForward, "a feed-forward block without gate")
        try refuse(config.matrixNaming != .separate, "\(config.matrixNaming.rawValue) matrices")
        try refuse(config.learnedPositions, "learned positions")
        try refuse(
            config.headCount % config.keyValueHeadCount != 0,
            "\(config.headCount) heads over \(config.keyValueHeadCount) key/value heads")
        self.config = config
    }

    static let embedding = "embedding"
    static let head = "head"
    static func name(_ layer: Int, _ part: String) -> String { "layers.\(layer).\(part)" }

    var embeddingMatrix: JoinedMatrix {
        JoinedMatrix(
            name: Self.embedding, sources: ["model.embed_tokens.weight"],
            rows: config.vocabularySize, columns: config.hiddenSize, paired: false)
    }

    /// nil when the head is tied.
    var headMatrix: JoinedMatrix? {
        if config.tiedEmbeddings { return nil }
        return JoinedMatrix(
            name: Self.head, sources: ["lm_head.weight"], rows: config.vocabularySize,
            columns: config.hiddenSize, paired: false)
    }

    func queryKeyValue(_ layer: Int) -> JoinedMatrix {
        matrix(
            layer, "qkv", ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            config.queryWidth + 2 * config.keyValueWidth, config.hiddenSize)
    }

    func attentionOutput(_ layer: Int) -> JoinedMatrix {
        matrix(layer, "o", ["self_attn.o_proj"], config.hiddenSize, config.queryWidth)
    }

    func gateUp(_ layer: Int) -> JoinedMatrix {
        matrix(
            layer, "gate_up", ["mlp.gate_proj", "mlp.up_proj"], 2 * config.intermediateSize,
            config.hiddenSize, paired: config.intermediateSize % 32 == 0)
    }

    func down(_ layer: Int) -> JoinedMatrix {
        matrix(layer, "down", ["mlp.down_proj"], config.hiddenSize, config.intermediateSize)
    }

    private func matrix(
        _ layer: Int, _ part: String, _ sources: [String], _ rows: Int, _ columns: Int,
        paired: Bool = false
    ) -> JoinedMatrix {
        JoinedMatrix(
            name: Self.name(layer, part),
            sources: sources.map { "model.layers.\(layer).\($0).weight" }, rows: rows,
            columns: columns, paired: paired)
    }

    var finalNormVector: JoinedVector {
        JoinedVector(
            name: "final_norm", sources: ["model.norm.weight"], count: config.hiddenSize)
    }

    /// Norms of what a block reads; nil where they stand after the blocks.
    func inputNorm(_ layer: Int) -> JoinedVector? {
        guard config.normPlacement != .after else { return nil }
        return vector(layer, "input_norm", ["input_layernorm.weight"], config.hiddenSize)
    }

    func feedForwardNorm(_ layer: Int) -> JoinedVector? {
        guard config.normPlacement != .after else { return nil }
        let source =
            config.normPlacement == .around
            ? "pre_feedforward_layernorm.weight" : "post_attention_layernorm.weight"
        return vector(layer, "feed_forward_norm", [source], config.hiddenSize)
    }

    /// Norms of what a block gives; nil where they stand before the blocks.
    func attentionOutputNorm(_ layer: Int) -> JoinedVector? {
        guard config.normPlacement != .before else { return nil }
        return vector(layer, "o_norm", ["post_attention_layernorm.weight"], config.hiddenSize)
    }

    func feedForwardOutputNorm(_ layer: Int) -> JoinedVector? {
        guard config.normPlacement != .before else { return nil }
        return vector(layer, "down_norm", ["post_feedforward_layernorm.weight"], config.hiddenSize)
    }

    /// Biases of the four matrices; nil where the model has none.
    func queryKeyValueBias(_ layer: Int) -> JoinedVector? {
        guard config.queryKeyValueBias else { return nil }
        return vector(
            layer, "qkv_bias",
            ["self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"],
            config.queryWidth + 2 * config.keyValueWidth)
    }

    func attentionOutputBias(_ layer: Int) -> JoinedVector? {
        guard config.attentionOutputBias else { return nil }
        return vector(layer, "o_bias", ["self_attn.o_proj.bias"], config.hiddenSize)
    }

    func gateUpBias(_ layer: Int) -> JoinedVector? {
        guard config.feedForwardBias else { return nil }
        return vector(
            layer, "gate_up_bias", ["mlp.gate_proj.bias", "mlp.up_proj.bias"],
            2 * config.intermediateSize)
    }

    func downBias(_ layer: Int) -> JoinedVector? {
        guard config.feedForwardBias else { return nil }
        return vector(layer, "down_bias", ["mlp.down_proj.bias"], config.hiddenSize)
    }

    /// Norms of queries and of keys; nil where the family has none.
    func queryNorm(_ layer: Int) -> JoinedVector? {
        guard config.queryKeyNorm != .none else { return nil }
        return vector(layer, "q_norm", ["self_attn.q_norm.weight"], config.queryNormWidth)
    }

    func keyNorm(_ layer: Int) -> JoinedVector? {
        guard config.queryKeyNorm != .none else { return nil }
        return vector(layer, "k_norm", ["self_attn.k_norm.weight"], config.keyNormWidth)
    }

    private func vector(
        _ layer: Int, _ part: String, _ sources: [String], _ count: Int
    ) -> JoinedVector {
        JoinedVector(
            name: Self.name(layer, part), sources: sources.map { "model.layers.\(layer).\($0)" },
            count: count)
    }

    /// All vectors.
    var vectors: [JoinedVector] {
        var result: [JoinedVector] = []
        for layer in 0..<config.layerCount {
            result += [
                inputNorm(layer), feedForwardNorm(layer), attentionOutputNorm(layer),
                feedForwardOutputNorm(layer), queryKeyValueBias(layer),
                attentionOutputBias(layer), gateUpBias(layer), downBias(layer), queryNorm(layer),
                keyNorm(layer),
            ].compactMap(\.self)
        }
        return result + [finalNormVector]
    }

    /// All matrices in order of use.
    var matrices: [JoinedMatrix] {
        var result = [embeddingMatrix]
        for layer in 0..<config.layerCount {
            result += [
                queryKeyValue(layer), attentionOutput(layer), gateUp(layer), down(layer),
            ]
        }
        if let head = headMatrix { result.append(head) }
        return result
    }
}
