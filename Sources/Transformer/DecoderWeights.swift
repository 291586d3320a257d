import Kernels
import ModelFiles

/// The matrices of a decoder as the kernels read them.
///
/// Matrices that multiply the same input lie joined: queries, keys and values one below the other, gate
/// over up. Shapes: D width of the residual stream, Q = (heads + 2 · kvHeads) · headDimension, F the
/// feed-forward width, V tokens.
struct DecoderWeights: Sendable {
    struct Layer: Sendable {
        /// nil where blocks read the residual stream as it is.
        let inputNorm: Norm?
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
        /// Of the attention's output before it is added; nil where that is added as it is.
        let attentionOutputNorm: Norm?
        /// As `inputNorm`.
        let feedForwardNorm: Norm?
        /// `[2F, D]`, paired where F is a multiple of 32; `[F, D]` without a gate.
        let gateUp: PackedMatrix
        /// `[1, 2F]` or `[1, F]`, where the model has it.
        let gateUpBias: Matrix?
        /// `[D, F]`
        let down: PackedMatrix
        /// `[1, D]`, where the model has it.
        let downBias: Matrix?
        /// As `attentionOutputNorm`.
        let feedForwardOutputNorm: Norm?

        func matrix(_ product: LayerProduct) -> PackedMatrix {
            switch product {
            case .queryKeyValue: queryKeyValue
            case .attentionOutput: attentionOutput
            case .gateUp: gateUp
            case .down: down
            }
        }

        func bias(_ product: LayerProduct) -> Matrix? {
            switch product {
            case .queryKeyValue: queryKeyValueBias
            case .attentionOutput: attentionOutputBias
            case .gateUp: gateUpBias
            case .down: downBias
            }
        }

        func norm(_ place: LayerNormPlace) -> Norm? {
            switch place {
            case .attentionInput: inputNorm
            case .attentionOutput: attentionOutputNorm
            case .feedForwardInput: feedForwardNorm
            case .feedForwardOutput: feedForwardOutputNorm
            }
        }
    }

    /// `[V, D]`
    let embedding: PackedMatrix
    /// `[positions, D]`, where positions are learned.
    let positions: PackedMatrix?
    let layers: [Layer]
    /// Divided by the config's logit divisor.
    let finalNorm: Norm
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
            name: Self.embedding, sources: [config.embeddingPath + ".weight"],
            rows: config.vocabularySize, columns: config.hiddenSize, paired: false)
    }

    /// nil where positions are rotations.
    var positionMatrix: JoinedMatrix? {
        guard config.learnedPositions else { return nil }
        return JoinedMatrix(
            name: "positions", sources: [config.positionPath + ".weight"],
            rows: config.maximumPositions, columns: config.hiddenSize, paired: false)
    }

    /// nil when the head is tied.
    var headMatrix: JoinedMatrix? {
        if config.tiedEmbeddings { return nil }
        return JoinedMatrix(
            name: Self.head, sources: [config.headPath + ".weight"], rows: config.vocabularySize,
            columns: config.hiddenSize, paired: false)
    }

    /// The joined matrix of a product.
    func matrix(_ layer: Int, _ product: LayerProduct) -> JoinedMatrix {
        JoinedMatrix(
            name: Self.name(layer, Self.name(product)),
            sources: config.projections(layer, product).map { $0.path + ".weight" },
            rows: config.outputs(of: product), columns: config.inputs(of: product),
            paired: product == .gateUp && config.gatedFeedForward
                && config.intermediateSize % 32 == 0)
    }

    /// The biases of a product's projections; nil where the model has none.
    func bias(_ layer: Int, _ product: LayerProduct) -> JoinedVector? {
        guard config.hasBias(product) else { return nil }
        return JoinedVector(
            name: Self.name(layer, Self.name(product) + "_bias"),
            sources: config.projections(layer, product).map { $0.path + ".bias" },
            count: config.outputs(of: product))
    }

    private static func name(_ product: LayerProduct) -> String {
        switch product {
        case .queryKeyValue: "qkv"
        case .attentionOutput: "o"
        case .gateUp: "gate_up"
        case .down: "down"
        }
    }

    /// A norm's weight and, of a layer norm, its bias.
    struct NormVectors {
        let weight: JoinedVector
        let bias: JoinedVector?

        var all: [JoinedVector] { bias.map { [weight, $0] } ?? [weight] }
    }

    /// nil where the family has no norm there.
    func norm(_ layer: Int, _ place: LayerNormPlace) -> NormVectors? {
        let part =
            switch place {
            case .attentionInput: "input_norm"
            case .attentionOutput: "o_norm"
            case .feedForwardInput: "feed_forward_norm"
            case .feedForwardOutput: "down_norm"
            }
        return config.normPath(layer, place).map { norm(Self.name(layer, part), $0) }
    }

    var finalNorm: NormVectors { norm("final_norm", config.finalNormPath) }

    private func norm(_ name: String, _ path: String) -> NormVectors {
        NormVectors(
            weight: JoinedVector(
                name: name, sources: [path + ".weight"], count: config.hiddenSize),
            bias: config.norm == .layer
                ? JoinedVector(
                    name: name + "_bias", sources: [path + ".bias"], count: config.hiddenSize)
                : nil)
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
            for place in LayerNormPlace.allCases { result += norm(layer, place)?.all ?? [] }
            result += LayerProduct.allCases.compactMap { bias(layer, $0) }
            result += [queryNorm(layer), keyNorm(layer)].compactMap(\.self)
        }
        return result + finalNorm.all
    }

    /// All matrices in order of use.
    var matrices: [JoinedMatrix] {
        var result = [embeddingMatrix]
        if let positions = positionMatrix { result.append(positions) }
        for layer in 0..<config.layerCount {
            result += LayerProduct.allCases.map { matrix(layer, $0) }
        }
        if let head = headMatrix { result.append(head) }
        return result
    }
}
