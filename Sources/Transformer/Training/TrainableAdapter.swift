import Kernels
import LoRA
import ModelFiles

/// The parameters of an adapter in training: one flat buffer, its gradients, and views of each tensor.
///
/// Every tensor starts at a multiple of 16 numbers; the gaps are zero and stay zero under AdamW.
final class TrainableAdapter {
    /// A float32 vector that views of other shapes can be made of.
    private final class FlatBuffer: Sendable {
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

    struct Layer {
        let queryKeyValue: TrainableUpdate?
        let attentionOutput: TrainableUpdate?
        let gateUp: TrainableUpdate?
        let down: TrainableUpdate?

        var updates: [TrainableUpdate?] { [queryKeyValue, attentionOutput, gateUp, down] }
    }

    let config: LoRAConfig
    let parameters: Matrix
    let gradients: Matrix
    let tensors: [TrainingStep.Tensor]
    let layers: [Layer]
    private let modules: [(plan: ModulePlan, a: Matrix, b: Matrix)]

    /// Numbers of the flat buffers for these modules.
    static func parameterCount(_ plans: [ModulePlan]) -> Int {
        plans.reduce(0) {
            $0 + aligned($1.rank * $1.module.inputs) + aligned($1.rank * $1.module.outputs)
        }
    }

    private static func aligned(_ count: Int) -> Int { (count + 15) / 16 * 16 }

    init(_ adapter: Adapter, decoder: Decoder, compute: Compute) throws {
        try Self.refuseUntrainable(adapter)
        let count = Self.parameterCount(adapter.plans)
        let parameterBuffer = try FlatBuffer(count)
        let gradientBuffer = try FlatBuffer(count)
        var tensors: [TrainingStep.Tensor] = []
        var modules: [(plan: ModulePlan, a: Matrix, b: Matrix)] = []
        var byPath: [String: TrainableModule] = [:]
        let offsets = Self.columnOffsets(decoder.config)
        var start = 0
        for module in adapter.modules {
            let plan = module.plan
            func tensor(
                _ name: String, _ shape: [Int], _ values: [Float]
            ) throws -> (Matrix, Matrix) {
                let value = try parameterBuffer.view(start, rows: shape[0], columns: shape[1])
                try value.copy(from: values)
                let gradient = try gradientBuffer.view(start, rows: shape[0], columns: shape[1])
                tensors.append(
                    TrainingStep.Tensor(
                        name: name, shape: shape, range: start..<start + shape[0] * shape[1]))
                start += Self.aligned(shape[0] * shape[1])
                return (value, gradient)
            }
            let (a, aGradient) = try tensor(plan.aName, plan.aShape, module.a)
            let (b, bGradient) = try tensor(plan.bName, plan.bShape, module.b)
            modules.append((plan, a, b))
            byPath[plan.module.path] = TrainableModule(
                plan: plan, columnStart: offsets[plan.module.path] ?? 0, a: a, b: b,
                aGradient: aGradient, bGradient: bGradient)
        }
        config = adapter.config
        parameters = parameterBuffer.matrix
        gradients = gradientBuffer.matrix
        self.tensors = tensors
        self.modules = modules
        layers = try (0..<decoder.config.layerCount).map { layer in
            func update(of product: LayerProduct) throws -> TrainableUpdate? {
                let found = decoder.config.projections(layer, product).compactMap {
                    byPath[$0.path]
                }
                if found.isEmpty { return nil }
                return try TrainableUpdate(
                    found, outputs: decoder.config.outputs(of: product),
                    isPaired: decoder.weights.layers[layer].matrix(product).paired,
                    elementType: decoder.elementType, compute: compute)
            }
            return Layer(
                queryKeyValue: try update(of: .queryKeyValue),
                attentionOutput: try update(of: .attentionOutput),
                gateUp: try update(of: .gateUp), down: try update(of: .down))
        }
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

    private static func refuseUntrainable(_ adapter: Adapter) throws(TransformerError) {
        if adapter.config.usesDoRA {
            throw TransformerError(.training, "use_dora: training with DoRA is not supported")
        }
        if adapter.config.dropout > 0 {
            throw TransformerError(
                .training,
                "lora_dropout is \(adapter.config.dropout); only 0 is supported in training")
        }
        if let saved = adapter.saved.first {
            throw TransformerError(
                .training, "modules_to_save: training \(saved.module.path) whole is not supported")
        }
        for module in adapter.modules
        where module.plan.module.kind == .embedding || module.plan.module.kind == .head {
            throw TransformerError(
                .training,
                "target_modules: training an adapter on \(module.plan.module.path) is not supported"
            )
        }
        if adapter.modules.isEmpty {
            throw TransformerError(.training, "the adapter has nothing to train")
        }
    }

    func repack(_ compute: Compute) throws {
        for layer in layers { for update in layer.updates { try update?.repack(compute) } }
    }

    /// A copy of the parameters as they are now.
    func snapshot() -> Adapter {
        Adapter(
            config: config,
            modules: modules.map {
                AdaptedModule(plan: $0.plan, a: $0.a.values, b: $0.b.values)
            }, saved: [])
    }

    /// The widest U of any matrix.
    var maximumWidth: Int {
        layers.flatMap(\.updates).reduce(0) { max($0, $1?.width ?? 0) }
    }
}
