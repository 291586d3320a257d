import Kernels
import LinuxSystem
import LoRA
import ModelFiles

/// An adapter packed for the forward pass of one decoder. Immutable; keep it while a batch may name it.
public final class ServedAdapter: Sendable {
    /// What the adapter makes of one of a layer's products.
    struct Product: Sendable {
        let update: PackedUpdate?
        /// `[1, N]`, in place of the base's; nil where no bias of the product was trained.
        let bias: Matrix?
    }

    struct Layer: Sendable {
        /// The four products, in their order.
        let products: [Product]
        /// The two input norms with trained biases; nil where they are the base's.
        let attentionNorm: Norm?
        let feedForwardNorm: Norm?
    }

    /// The update of token embeddings: row t of `table` times `up`ᵀ is added.
    struct Embedding: Sendable {
        /// `[V, rank]`: A transposed.
        let table: PackedMatrix
        /// `[D, rank]`, scaling folded in.
        let up: PackedMatrix
    }

    let layers: [Layer]
    /// The last norm with a trained bias; nil where it is the base's.
    let finalNorm: Norm?
    let embedding: Embedding?
    let head: PackedUpdate?
    /// `[V, D]`, in place of the base's (`modules_to_save`).
    let savedEmbedding: PackedMatrix?
    let savedHead: PackedMatrix?
    /// Names the adapter; nil when the caller gave none.
    public let digest: ContentDigest?
    /// Bytes of all packed matrices.
    public let byteCount: Int
    /// The widest U of any matrix.
    let maximumWidth: Int
    /// Whether any matrix has a column scale (DoRA).
    let hasColumnScales: Bool

    /// - Throws: `KernelError.memory`; what `inventory.baseWeights` throws for DoRA.
    init(
        _ adapter: Adapter, decoder: Decoder, digest: ContentDigest?, compute: Compute
    ) throws {
        let config = decoder.config
        let elementType = decoder.elementType
        let byPath = Dictionary(
            adapter.modules.map { ($0.plan.module.path, $0) }, uniquingKeysWith: { $1 })
        let biases = Dictionary(
            adapter.biases.map { ($0.plan.module.path, $0.values) }, uniquingKeysWith: { $1 })

        @Sendable func update(
            _ paths: [(path: String, columnStart: Int)], outputs: Int, isPaired: Bool = false
        ) throws -> PackedUpdate? {
            var modules: [(module: AdaptedModule, columnStart: Int)] = []
            var norms: [[Float]?] = []
            for (path, columnStart) in paths {
                guard let module = byPath[path] else { continue }
                modules.append((module, columnStart))
                norms.append(
                    module.magnitude == nil
                        ? nil : module.rowNorms(base: try decoder.baseWeights(of: path)))
            }
            if modules.isEmpty { return nil }
            return try PackedUpdate(
                modules, outputs: outputs, isPaired: isPaired, elementType: elementType,
                compute: compute, norms: norms)
        }

        layers = try compute.pool.map(config.layerCount) { layer in
            let weights = decoder.weights.layers[layer]
            func norm(_ place: LayerNormPlace) throws -> Norm? {
                try config.normPath(layer, place).flatMap { biases[$0] }.flatMap { values in
                    try weights.norm(place)?.with(bias: Matrix(vector: values))
                }
            }
            return Layer(
                products: try LayerProduct.allCases.map { product in
                    let projections = config.projections(layer, product)
                    return Product(
                        update: try update(
                            projections.map { ($0.path, $0.firstOutput) },
                            outputs: config.outputs(of: product),
                            isPaired: weights.matrix(product).paired),
                        bias: try Self.bias(projections, weights.bias(product), biases))
                }, attentionNorm: try norm(.attentionInput),
                feedForwardNorm: try norm(.feedForwardInput))
        }
        finalNorm = try biases[config.finalNormPath].map { values in
            let divisor = Float(config.logitDivisor)
            return decoder.weights.finalNorm.with(
                bias: try Matrix(vector: values.map { $0 / divisor }))
        }
        head = try update([(config.headPath, 0)], outputs: config.vocabularySize)
        embedding = try byPath[config.embeddingPath].map {
            try Self.embedding($0, elementType, compute)
        }
        func saved(_ kind: AdaptableModule.Kind) throws -> PackedMatrix? {
            guard let module = adapter.saved.first(where: { $0.module.kind == kind }) else {
                return nil
            }
            let matrix = try Matrix(
                rows: config.vocabularySize, columns: config.hiddenSize, .float32,
                values: module.weights)
            return try compute.pack(matrix, elementType)
        }
        savedEmbedding = try saved(.embedding)
        savedHead = try saved(.head)
        self.digest = digest

        var bytes = head?.byteCount ?? 0
        var scales = head?.columnScale != nil
        var width = head?.width ?? 0
        for layer in layers {
            for product in layer.products {
                bytes += product.update?.byteCount ?? 0
                bytes += product.bias?.storageByteCount ?? 0
                width = max(width, product.update?.width ?? 0)
                scales = scales || product.update?.columnScale != nil
            }
        }
        if let embedding {
            bytes += embedding.table.layout.byteCount + embedding.up.layout.byteCount
            width = max(width, embedding.table.columns)
        }
        bytes += savedEmbedding?.layout.byteCount ?? 0
        bytes += savedHead?.layout.byteCount ?? 0
        byteCount = bytes
        maximumWidth = width
        hasColumnScales = scales
    }

    /// The joined bias of a product with the trained ones in it; nil where none is trained.
    private static func bias(
        _ projections: [Projection], _ base: Matrix?, _ trained: [String: [Float]]
    ) throws -> Matrix? {
        guard let base, projections.contains(where: { trained[$0.path] != nil }) else { return nil }
        var values = base.values
        for projection in projections {
            guard let own = trained[projection.path] else { continue }
            let columns = projection.firstOutput..<projection.firstOutput + projection.outputs
            values.replaceSubrange(columns, with: own)
        }
        return try Matrix(vector: values)
    }

    private static func embedding(
        _ module: AdaptedModule, _ elementType: Kernels.ElementType, _ compute: Compute
    ) throws -> Embedding {
        let plan = module.plan
        let tokens = plan.module.inputs
        let width = PackedUpdate.width(ofRank: plan.rank)
        let transposed = try Matrix(rows: tokens, columns: width)
        for token in 0..<tokens {
            try transposed.withFloats(row: token) { row in
                for component in 0..<plan.rank {
                    row[component] = module.a[component * tokens + token]
                }
            }
        }
        let up = try Matrix(rows: plan.module.outputs, columns: width)
        for output in 0..<plan.module.outputs {
            try up.withFloats(row: output) { row in
                for component in 0..<plan.rank {
                    row[component] = Float(plan.scaling) * module.b[output * plan.rank + component]
                }
            }
        }
        return Embedding(
            table: try compute.pack(transposed, elementType), up: try compute.pack(up, elementType))
    }
}
