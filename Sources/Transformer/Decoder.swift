import Kernels
import LinuxSystem
import LoRA
import ModelFiles

/// A decoder's weights, ready to compute with: shared, immutable, used by inference and training alike.
public final class Decoder: Sendable {
    public let config: ModelConfig
    /// Type of weights and activations: float32, or bfloat16 with float32 sums and residual stream.
    public let elementType: Kernels.ElementType
    /// Digest of configuration and weights; nil when the weights were not read from a packed file.
    public let base: ContentDigest?
    let weights: DecoderWeights

    /// The feed-forward block's, as the kernels name it.
    var activation: Kernels.Activation {
        switch config.activation {
        case .silu: .silu
        case .geluTanh: .geluTanh
        case .gelu: .gelu
        }
    }

    /// Maps a packed model: no byte is copied or read but the norms.
    ///
    /// - Throws: `TransformerError.unsupported` for parts not computed here, `.weights` when the file's
    ///   matrices are not those of the config; `ModelFileError`.
    public init(config: ModelConfig, packed: PackedModelFile) throws {
        let layout = try DecoderLayout(config)
        let elementType = try PanelPacker.kernelType(packed.elementType)
        self.config = config
        self.elementType = elementType
        base = packed.base
        func matrix(_ wanted: JoinedMatrix) throws -> PackedMatrix {
            let stored = try packed.tensor(wanted.name)
            let order = wanted.paired ? PanelPacker.pairedLayout : PanelPacker.layout
            guard stored.rows == wanted.rows, stored.columns == wanted.columns,
                stored.layout == order
            else {
                throw TransformerError(
                    .weights,
                    "\(packed.path): \(wanted.name) is \(stored.rows) × \(stored.columns) in order "
                        + "\(stored.layout), the config needs \(wanted.rows) × \(wanted.columns) in "
                        + "\(order); add the model again to pack it anew")
            }
            return try PackedMatrix(
                viewing: packed.bytes(of: wanted.name), owner: packed,
                PackedMatrix.Layout(
                    rows: wanted.rows, columns: wanted.columns, elementType, paired: wanted.paired))
        }
        weights = try Self.weights(layout, matrix: matrix) { try packed.floats(of: $0.name) }
    }

    /// Packs a checkpoint in memory.
    ///
    /// - Throws: as above, and what `source` throws for missing tensors.
    public init(
        config: ModelConfig, source: any TensorSource, elementType: Kernels.ElementType,
        compute: Compute
    ) throws {
        let layout = try DecoderLayout(config)
        self.config = config
        self.elementType = elementType
        base = nil
        weights = try Self.weights(
            layout,
            matrix: {
                try PanelPacker.matrix(
                    sources: $0.sources, rows: $0.rows, columns: $0.columns, paired: $0.paired,
                    elementType: elementType, from: source, compute: compute)
            },
            vector: { try $0.sources.flatMap { try source.floats($0) } })
    }

    private static func weights(
        _ layout: DecoderLayout, matrix: (JoinedMatrix) throws -> PackedMatrix,
        vector: (JoinedVector) throws -> [Float]
    ) throws -> DecoderWeights {
        func floats(_ wanted: JoinedVector, dividedBy divisor: Float = 1) throws -> Matrix {
            let values = try vector(wanted)
            guard values.count == wanted.count else {
                throw TransformerError(
                    .weights,
                    "\(wanted.sources.joined(separator: ", ")) has \(values.count) elements, the config "
                        + "needs \(wanted.count)")
            }
            return try Matrix(vector: divisor == 1 ? values : values.map { $0 / divisor })
        }
        /// Gemma stores w − 1.
        func weight(_ wanted: JoinedVector, dividedBy divisor: Float = 1) throws -> Matrix {
            let matrix = try floats(wanted, dividedBy: divisor)
            if layout.config.norm == .rmsUnitOffset {
                try matrix.copy(from: matrix.values.map { $0 + 1 / divisor })
            }
            return matrix
        }
        func wholeNorm(
            _ wanted: DecoderLayout.NormVectors, dividedBy divisor: Float = 1
        ) throws -> Norm {
            Norm(
                weight: try weight(wanted.weight, dividedBy: divisor),
                bias: try wanted.bias.map { try floats($0, dividedBy: divisor) })
        }
        let embedding = try matrix(layout.embeddingMatrix)
        let layers = try (0..<layout.config.layerCount).map { layer in
            func product(_ product: LayerProduct) throws -> PackedMatrix {
                try matrix(layout.matrix(layer, product))
            }
            func bias(_ product: LayerProduct) throws -> Matrix? {
                try layout.bias(layer, product).map { try floats($0) }
            }
            func norm(_ place: LayerNormPlace) throws -> Norm? {
                try layout.norm(layer, place).map { try wholeNorm($0) }
            }
            return DecoderWeights.Layer(
                inputNorm: try norm(.attentionInput),
                queryKeyValue: try product(.queryKeyValue),
                queryKeyValueBias: try bias(.queryKeyValue),
                queryNorm: try layout.queryNorm(layer).map { try weight($0) },
                keyNorm: try layout.keyNorm(layer).map { try weight($0) },
                attentionOutput: try product(.attentionOutput),
                attentionOutputBias: try bias(.attentionOutput),
                attentionOutputNorm: try norm(.attentionOutput),
                feedForwardNorm: try norm(.feedForwardInput), gateUp: try product(.gateUp),
                gateUpBias: try bias(.gateUp), down: try product(.down),
                downBias: try bias(.down),
                feedForwardOutputNorm: try norm(.feedForwardOutput))
        }
        return DecoderWeights(
            embedding: embedding, positions: try layout.positionMatrix.map(matrix),
            layers: layers,
            finalNorm: try wholeNorm(
                layout.finalNorm, dividedBy: Float(layout.config.logitDivisor)),
            head: try layout.headMatrix.map(matrix) ?? embedding)
    }

    /// Packs an adapter for this decoder's forward pass.
    ///
    /// - Parameters:
    ///   - adapter: From `AdapterLoader`, which has checked it against this decoder.
    ///   - digest: Its name in caches.
    public func serve(
        _ adapter: Adapter, digest: ContentDigest? = nil, compute: Compute
    ) throws -> ServedAdapter {
        try ServedAdapter(adapter, decoder: self, digest: digest, compute: compute)
    }
}
