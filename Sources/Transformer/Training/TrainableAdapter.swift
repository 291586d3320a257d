import Kernels
import LoRA
import ModelFiles

/// The parameters of an adapter in training: one flat buffer, its gradients, and views of each tensor.
///
/// Every tensor starts at a multiple of 16 numbers; the gaps are zero and stay zero under AdamW.
final class TrainableAdapter {
    /// What is trained of one layer.
    struct Layer {
        /// Of the four products, in their order.
        let updates: [TrainableUpdate?]
        let biases: [TrainableBias?]
        /// Biases of the two input norms, which layer norms have.
        let attentionNorm: BiasParameter?
        let feedForwardNorm: BiasParameter?

        /// The first product that the backward pass must reach; -1 where it must reach the layer's input norm;
        /// nil where nothing is trained.
        var lowest: Int? {
            if attentionNorm != nil { return -1 }
            let product = updates.indices.first { updates[$0] != nil || biases[$0] != nil }
            // The second norm lies between the second and the third product.
            if feedForwardNorm != nil { return min(product ?? 1, 1) }
            return product
        }
    }

    let config: LoRAConfig
    let parameters: Matrix
    let gradients: Matrix
    let tensors: [TrainingStep.Tensor]
    let layers: [Layer]
    /// Of the last norm.
    let finalNorm: BiasParameter?
    let ends: TrainableEnds
    private let modules: [TrainableModule]
    private let biases: [BiasParameter]

    /// Numbers of the flat buffers for what an adapter trains.
    static func parameterCount(
        modules: [ModulePlan], saved: [AdaptableModule], biases: [BiasPlan]
    ) -> Int {
        modules.reduce(0) {
            $0 + FlatParameters.aligned($1.rank * $1.module.inputs)
                + FlatParameters.aligned($1.rank * $1.module.outputs)
                + ($1.usesDoRA ? FlatParameters.aligned($1.module.outputs) : 0)
        } + saved.reduce(0) { $0 + FlatParameters.aligned($1.inputs * $1.outputs) }
            + biases.reduce(0) { $0 + FlatParameters.aligned($1.module.outputs) }
    }

    /// - Parameters:
    ///   - rows: The most tokens of a pass.
    ///   - dropsOut: Whether passes have a dropout.
    init(
        _ adapter: Adapter, decoder: Decoder, rows: Int, dropsOut: Bool, compute: Compute
    ) throws {
        try Self.refuseUntrainable(adapter, isTied: decoder.hasTiedHead)
        let count = Self.parameterCount(
            modules: adapter.plans, saved: adapter.saved.map(\.module),
            biases: adapter.biases.map(\.plan))
        let flat = try FlatParameters(count)
        let offsets = Self.columnOffsets(decoder.config)
        modules = try adapter.modules.map { module in
            let plan = module.plan
            let (a, aGradient) = try flat.tensor(plan.aName, plan.aShape, module.a)
            let (b, bGradient) = try flat.tensor(plan.bName, plan.bShape, module.b)
            let magnitude = try module.magnitude.map {
                try flat.tensor(plan.magnitudeName, [$0.count], $0)
            }
            return TrainableModule(
                plan: plan, columnStart: offsets[plan.module.path] ?? 0, a: a, b: b,
                aGradient: aGradient, bGradient: bGradient, magnitude: magnitude?.0,
                magnitudeGradient: magnitude?.1)
        }
        let type = decoder.elementType
        let saved = try adapter.saved.map { saved in
            let (value, gradient) = try flat.tensor(saved.name, saved.shape, saved.weights)
            return try TrainableMatrix(saved.module, value: value, gradient: gradient, type)
        }
        biases = try adapter.biases.map { bias in
            let (value, gradient) = try flat.tensor(
                bias.plan.name, [bias.values.count], bias.values)
            return BiasParameter(plan: bias.plan, value: value, gradient: gradient)
        }
        config = adapter.config
        parameters = flat.values.matrix
        gradients = flat.gradients.matrix
        tensors = flat.tensors
        var byPath: [String: TrainableModule] = [:]
        for module in modules { byPath[module.plan.module.path] = module }
        var biasByPath: [String: BiasParameter] = [:]
        for bias in biases { biasByPath[bias.plan.module.path] = bias }
        let config = decoder.config
        finalNorm = biasByPath[config.finalNormPath]
        ends = TrainableEnds(
            embedding: saved.first { $0.module.kind == .embedding },
            embeddingUpdate: try byPath[config.embeddingPath].map {
                try TrainableEmbedding($0, rows: rows, type)
            },
            head: saved.first { $0.module.kind == .head },
            headUpdate: try byPath[config.headPath].map {
                try TrainableUpdate(
                    [$0], outputs: config.vocabularySize, base: decoder.weights.head,
                    dropsOut: dropsOut, compute: compute)
            })
        layers = try (0..<config.layerCount).map { layer in
            try Layer(
                layer, decoder, modules: byPath, biases: biasByPath, dropsOut: dropsOut, compute)
        }
        try repack(compute)
    }

    /// Where each projection's outputs begin in the matrix it is joined into.
    private static func columnOffsets(_ config: ModelConfig) -> [String: Int] {
        var result: [String: Int] = [:]
        for layer in 0..<config.layerCount {
            for product in LayerProduct.allCases {
                for projection in config.projections(layer, product) {
                    result[projection.path] = projection.firstOutput
                }
            }
        }
        return result
    }

    private static func refuseUntrainable(
        _ adapter: Adapter, isTied: Bool
    ) throws(TransformerError) {
        let scaled = adapter.modules.filter(\.plan.usesDoRA)
        if adapter.config.dropout > 0, let module = scaled.first {
            throw TransformerError(
                .training,
                "lora_dropout is \(adapter.config.dropout) and use_dora is set (\(module.plan.module.path)): "
                    + "training with both is not supported; leave one out")
        }
        if let module = scaled.first(where: { $0.plan.module.kind == .head }) {
            throw TransformerError(
                .training,
                "use_dora: training \(module.plan.module.path) with DoRA is not supported"
            )
        }
        let ends = adapter.modules.map(\.plan.module) + adapter.saved.map(\.module)
        if isTied, adapter.config.ensuresWeightTying,
            ends.contains(where: { $0.kind == .embedding })
        {
            throw TransformerError(
                .training,
                "ensure_weight_tying: training embedding and head as one is not supported; without it they are "
                    + "trained each for itself")
        }
        if adapter.modules.isEmpty && adapter.saved.isEmpty {
            throw TransformerError(.training, "the adapter has nothing to train")
        }
    }

    func repack(_ compute: Compute) throws {
        for layer in layers {
            for update in layer.updates { try update?.repack(compute) }
            for bias in layer.biases { try bias?.refresh(compute) }
        }
        try ends.repack(compute)
    }

    /// A copy of the parameters as they are now.
    func snapshot() -> Adapter {
        Adapter(
            config: config,
            modules: modules.map {
                AdaptedModule(
                    plan: $0.plan, a: $0.a.values, b: $0.b.values, magnitude: $0.magnitude?.values)
            },
            saved: [ends.embedding, ends.head].compactMap { $0 }.map {
                SavedModule(module: $0.module, weights: $0.value.values)
            },
            biases: biases.map { TrainedBias(plan: $0.plan, values: $0.value.values) })
    }

    /// The widest U of any matrix.
    var maximumWidth: Int {
        layers.flatMap(\.updates).reduce(0) { max($0, $1?.width ?? 0) }
    }

    /// Whether columns of any matrix are scaled (DoRA).
    var hasColumnScales: Bool { layers.flatMap(\.updates).contains { $0?.columnScale != nil } }
}

extension TrainableAdapter.Layer {
    init(
        _ layer: Int, _ decoder: Decoder, modules: [String: TrainableModule],
        biases: [String: BiasParameter], dropsOut: Bool, _ compute: Compute
    ) throws {
        let config = decoder.config
        let weights = decoder.weights.layers[layer]
        func norm(_ place: LayerNormPlace) -> BiasParameter? {
            config.normPath(layer, place).flatMap { biases[$0] }
        }
        self.init(
            updates: try LayerProduct.allCases.map { product in
                let found = config.projections(layer, product).compactMap { modules[$0.path] }
                if found.isEmpty { return nil }
                return try TrainableUpdate(
                    found, outputs: config.outputs(of: product), base: weights.matrix(product),
                    dropsOut: dropsOut, compute: compute)
            },
            biases: try LayerProduct.allCases.map { product in
                try TrainableBias(
                    config.projections(layer, product), base: weights.bias(product),
                    parameters: biases)
            }, attentionNorm: norm(.attentionInput), feedForwardNorm: norm(.feedForwardInput))
    }
}

/// The flat buffers while tensors are laid into them, one after the other.
private final class FlatParameters {
    /// A float32 vector that views of other shapes can be made of.
    final class Buffer: Sendable {
        let matrix: Matrix
        init(_ count: Int) throws { matrix = try Matrix.vector(count) }

        func view(_ start: Int, rows: Int, columns: Int) throws -> Matrix {
            try matrix.withBytes(row: 0) { bytes in
                try Matrix(
                    viewing: UnsafeRawBufferPointer(
                        rebasing: bytes[4 * start..<4 * (start + rows * columns)]), owner: self,
                    rows: rows, columns: columns, .float32)
            }
        }
    }

    let values: Buffer
    let gradients: Buffer
    private(set) var tensors: [TrainingStep.Tensor] = []
    private var start = 0

    init(_ count: Int) throws {
        values = try Buffer(count)
        gradients = try Buffer(count)
    }

    /// Numbers that a tensor takes.
    static func aligned(_ count: Int) -> Int { (count + 15) / 16 * 16 }

    /// Views of the next tensor, of one or two dimensions, and of its gradient.
    func tensor(_ name: String, _ shape: [Int], _ numbers: [Float]) throws -> (Matrix, Matrix) {
        let columns = shape.last ?? 1
        let rows = numbers.count / max(columns, 1)
        let value = try values.view(start, rows: rows, columns: columns)
        try value.copy(from: numbers)
        let gradient = try gradients.view(start, rows: rows, columns: columns)
        tensors.append(
            TrainingStep.Tensor(name: name, shape: shape, range: start..<start + numbers.count))
        start += Self.aligned(numbers.count)
        return (value, gradient)
    }
}
