import Foundation
import JSONModel
import Kernels
import LinuxSystem
import LoRA
import ModelFiles

/// A base model with an adapter computed into its matrices, read as a checkpoint.
///
/// A changed matrix is `W + scaling · B A` (Hu et al. 2021, §4.1), computed in float32 and rounded once where a narrower type
/// is read; with DoRA each row of it gets its magnitude over its norm (Liu et al. 2024); a module or a bias
/// that the adapter carries whole takes its place. On a tied base an adapter changes the embedding or the head, not both: where they come to differ, the head
/// becomes a matrix of its own.
///
/// `@unchecked Sendable` is sound: what changes, the block computed last, is guarded by `lock`.
public final class MergedCheckpoint: TensorSource, @unchecked Sendable {
    public let path: String
    public let tensors: [TensorDescription]
    /// Of the merged model: as the base's, but for the tied head and the type.
    public let config: ModelConfig
    public let configJSON: JSONValue
    /// Whether the head got a matrix of its own.
    public let isUntied: Bool
    /// Matrices that differ from the base's.
    public let changedNames: [String]

    private struct Change {
        let module: AdaptedModule
        /// `[rank, inputs]`, `[outputs, rank]`
        let a: Matrix
        let b: Matrix
    }

    /// Rows computed at once.
    private static let blockRows = 256

    private let base: any TensorSource
    private let baseConfig: ModelConfig
    private let products: FloatProducts
    private let changes: [String: Change]
    private let saved: [String: [Float]]
    private let lock = NSLock()
    private var block: (name: String, rows: Range<Int>, values: [Float]) = ("", 0..<0, [])

    /// - Parameters:
    ///   - base: The base's tensors.
    ///   - configJSON: The base's `config.json`.
    ///   - elementType: `bfloat16` or `float32`: the type in which the merged matrices are given out.
    ///   - adapter: Checked against this base.
    /// - Throws: `TransformerError.unsupported` for a changed module whose tensor is not the matrix that the adapter
    ///   changes; what `base` and `ModelConfigReader` throw.
    public init(
        base: any TensorSource, config baseConfig: ModelConfig, configJSON: JSONValue,
        adapter: Adapter, elementType: ModelFiles.ElementType, products: FloatProducts
    ) throws {
        self.base = base
        self.products = products
        path = base.path
        var changes: [String: Change] = [:]
        for module in adapter.modules {
            let plan = module.plan
            let name = plan.module.path + ".weight"
            changes[name] = Change(
                module: module,
                a: try Matrix(rows: plan.rank, columns: plan.module.inputs, values: module.a),
                b: try Matrix(rows: plan.module.outputs, columns: plan.rank, values: module.b))
            try Self.check(plan.module, base.description(of: Self.stored(name, baseConfig)))
        }
        var saved: [String: [Float]] = [:]
        for module in adapter.saved {
            saved[module.module.path + ".weight"] = module.weights
        }
        let touched = Set(changes.keys).union(saved.keys)
        for bias in adapter.biases { saved[bias.plan.module.path + ".bias"] = bias.values }
        (self.changes, self.saved) = (changes, saved)
        let isUntied =
            baseConfig.tiedEmbeddings
            && !touched.isDisjoint(with: [
                baseConfig.embeddingPath + ".weight", baseConfig.headPath + ".weight",
            ])
        self.isUntied = isUntied
        let json = try Self.config(configJSON, untied: isUntied, elementType)
        self.configJSON = json
        config = try ModelConfigReader.read(
            config: json, generation: nil, path: base.path + "/config.json")
        var names: [TensorDescription] = []
        for tensor in config.expectedTensors {
            let stored = try base.require(Self.stored(tensor.name, baseConfig))
            // Norms and biases in float32 stay so unless bf16 holds them exactly.
            let type =
                tensor.role == .vector
                ? Self.vectorType(
                    try saved[tensor.name] ?? base.floats(stored.name), wanted: elementType)
                : elementType
            names.append(
                TensorDescription(name: tensor.name, elementType: type, shape: tensor.shape))
        }
        tensors = names.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
        changedNames = tensors.map(\.name).filter(touched.contains)
        self.baseConfig = baseConfig
    }

    /// The base's tensor under a name: a tied head is the embedding.
    private static func stored(_ name: String, _ config: ModelConfig) -> String {
        name == config.headPath + ".weight" && config.tiedEmbeddings
            ? config.embeddingPath + ".weight" : name
    }

    private static func check(
        _ module: AdaptableModule, _ tensor: TensorDescription?
    ) throws(TransformerError) {
        let shape =
            module.kind == .embedding
            ? [module.inputs, module.outputs] : [module.outputs, module.inputs]
        guard tensor?.shape == shape else {
            throw TransformerError(
                .unsupported,
                "\(module.path): merging is not supported where a checkpoint keeps the matrix as "
                    + "\(tensor.map { "\($0.shape)" } ?? "a part of another") and not as \(shape)")
        }
    }

    private static func config(
        _ json: JSONValue, untied: Bool, _ type: ModelFiles.ElementType
    ) throws -> JSONValue {
        guard var object = json.object else {
            throw TransformerError(.weights, "config.json holds no object")
        }
        if untied { object["tie_word_embeddings"] = false }
        let name: JSONValue = .string(type == .float32 ? "float32" : "bfloat16")
        let keys = ["dtype", "torch_dtype"].filter { object[$0] != nil }
        for key in keys.isEmpty ? ["torch_dtype"] : keys { object[key] = name }
        return .object(object)
    }

    private static func vectorType(
        _ values: [Float], wanted: ModelFiles.ElementType
    ) -> ModelFiles.ElementType {
        guard wanted == .bfloat16 else { return wanted }
        let isExact = values.allSatisfy {
            FloatFormat.float(bfloat16: FloatFormat.bfloat16($0)) == $0
        }
        return isExact ? .bfloat16 : .float32
    }

    public func description(of name: String) -> TensorDescription? {
        tensors.first { $0.name == name }
    }

    public func readFloats(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<Float>
    ) throws {
        let tensor = try require(name)
        let width = tensor.rowElementCount
        guard rows.lowerBound >= 0, rows.upperBound <= tensor.rowCount,
            output.count == rows.count * width
        else {
            throw ModelFileError(
                .shapeMismatch, file: path, item: name, "rows \(rows) do not fill \(output.count)")
        }
        if let whole = saved[name] {
            for index in output.indices { output[index] = whole[rows.lowerBound * width + index] }
            return
        }
        let stored = Self.stored(name, baseConfig)
        guard let change = changes[name] else {
            return try base.readFloats(stored, rows: rows, into: output)
        }
        try lock.withLock {
            var row = rows.lowerBound
            while row < rows.upperBound {
                if block.name != name || !block.rows.contains(row) {
                    let start = row / Self.blockRows * Self.blockRows
                    let wanted = start..<min(start + Self.blockRows, tensor.rowCount)
                    block = (
                        name, wanted, try merged(change, stored, wanted, width: width)
                    )
                }
                let end = min(rows.upperBound, block.rows.upperBound)
                let from = (row - block.rows.lowerBound) * width
                let to = (row - rows.lowerBound) * width
                for index in 0..<(end - row) * width {
                    output[to + index] = block.values[from + index]
                }
                row = end
            }
        }
    }

    public func readBFloat16(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<UInt16>
    ) throws {
        var floats = [Float](repeating: 0, count: output.count)
        try floats.withUnsafeMutableBufferPointer { try readFloats(name, rows: rows, into: $0) }
        for (index, value) in floats.enumerated() { output[index] = FloatFormat.bfloat16(value) }
    }

    /// Rows of a changed matrix, row-major as the checkpoint holds it.
    private func merged(
        _ change: Change, _ stored: String, _ rows: Range<Int>, width: Int
    ) throws -> [Float] {
        let sum = try Matrix(rows: rows.count, columns: width)
        for row in rows {
            try sum.withFloats(row: row - rows.lowerBound) {
                try base.readFloats(stored, rows: row..<row + 1, into: $0)
            }
        }
        let plan = change.module.plan
        let scaling = Float(plan.scaling)
        if plan.module.kind == .embedding {
            // Rows are tokens: (B A)ᵀ.
            try products.multiply(
                change.a.columns(rows), transposed: true, change.b, transposed: true, into: sum,
                alpha: scaling, beta: 1)
        } else {
            try products.multiply(
                change.b.rows(rows), change.a, into: sum, alpha: scaling, beta: 1)
        }
        if let magnitude = change.module.magnitude {
            for row in rows {
                try sum.withFloats(row: row - rows.lowerBound) { values in
                    let square = values.reduce(0.0) { $0 + Double($1) * Double($1) }
                    let factor = Float(Double(magnitude[row]) / square.squareRoot())
                    for index in values.indices { values[index] *= factor }
                }
            }
        }
        return sum.values
    }
}
