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
                path: config.embeddingPath, kind: .embedding, outputs: width,
                inputs: config.vocabularySize)
        ]
        func other(_ path: String, _ outputs: Int, hasBias: Bool = false) {
            result.append(
                AdaptableModule(
                    path: path, kind: .other, outputs: outputs, inputs: 0, hasBias: hasBias))
        }
        if config.learnedPositions { other(config.positionPath, width) }
        for layer in 0..<config.layerCount {
            for product in LayerProduct.allCases {
                result += config.projections(layer, product).map {
                    AdaptableModule(
                        path: $0.path, kind: .linear, outputs: $0.outputs, inputs: $0.inputs,
                        hasBias: $0.hasBias)
                }
            }
            let path = config.layerPath(layer)
            if config.queryKeyNorm != .none {
                other(path + ".self_attn.q_norm", config.queryNormWidth)
                other(path + ".self_attn.k_norm", config.keyNormWidth)
            }
            switch config.matrixNaming {
            case .separate: other(path + ".mlp.act_fn", width)
            case .fused:
                for name in ["mlp.activation_fn", "resid_attn_dropout", "resid_mlp_dropout"] {
                    other(path + "." + name, width)
                }
            case .conv1D: other(path + ".mlp.act", width)
            }
            for place in LayerNormPlace.allCases {
                if let path = config.normPath(layer, place) {
                    other(path, width, hasBias: config.norm == .layer)
                }
            }
        }
        other(config.finalNormPath, width, hasBias: config.norm == .layer)
        if !config.learnedPositions { other("model.rotary_emb", width) }
        result.append(
            AdaptableModule(
                path: config.headPath, kind: .head, outputs: config.vocabularySize, inputs: width))
        return result
    }

    public func baseWeights(of path: String) throws -> [Float] {
        if path == config.embeddingPath {
            return try rows(weights.embedding, 0..<config.vocabularySize)
        }
        if path == config.headPath { return try rows(weights.head, 0..<config.vocabularySize) }
        for layer in weights.layers.indices where path.hasPrefix(config.layerPath(layer) + ".") {
            for product in LayerProduct.allCases {
                guard
                    let found = config.projections(layer, product).first(where: {
                        $0.path == path
                    })
                else { continue }
                return try rows(
                    weights.layers[layer].matrix(product),
                    found.firstOutput..<found.firstOutput + found.outputs)
            }
        }
        throw TransformerError(.weights, "there is no matrix \(path)")
    }

    public func baseBias(of path: String) throws -> [Float] {
        if path == config.finalNormPath, let bias = weights.finalNorm.bias {
            // As the checkpoint has it; the decoder's is divided.
            return bias.values.map { $0 * Float(config.logitDivisor) }
        }
        for layer in weights.layers.indices where path.hasPrefix(config.layerPath(layer) + ".") {
            let weights = weights.layers[layer]
            for product in LayerProduct.allCases {
                guard let bias = weights.bias(product),
                    let found = config.projections(layer, product).first(where: {
                        $0.path == path
                    })
                else { continue }
                return Array(bias.values[found.firstOutput..<found.firstOutput + found.outputs])
            }
            for place in LayerNormPlace.allCases where config.normPath(layer, place) == path {
                if let bias = weights.norm(place)?.bias { return bias.values }
            }
        }
        throw TransformerError(.weights, "there is no bias of \(path)")
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
