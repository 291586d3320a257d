import Kernels
import LoRA
import ModelFiles

/// One trained bias: its numbers and their gradients in the flat buffers, `[1, outputs]` float32.
struct BiasParameter {
    let plan: BiasPlan
    let value: Matrix
    let gradient: Matrix
}

/// The bias of a product of which some or all projections' biases are trained.
struct TrainableBias {
    /// `[1, N]`, as the kernels read it; `refresh` brings the trained numbers in.
    let joined: Matrix
    private let parts: [(columns: Range<Int>, parameter: BiasParameter)]

    /// nil where none of the projections' biases is trained.
    init?(
        _ projections: [Projection], base: Matrix?, parameters: [String: BiasParameter]
    ) throws {
        parts = projections.compactMap { projection in
            parameters[projection.path].map {
                (projection.firstOutput..<projection.firstOutput + projection.outputs, $0)
            }
        }
        guard !parts.isEmpty, let base else { return nil }
        joined = try Matrix(vector: base.values)
    }

    func refresh(_ compute: Compute) throws {
        for part in parts {
            try compute.copy(part.parameter.value, to: joined.columns(part.columns))
        }
    }

    /// - Parameter dy: Gradient of the product, `[M, N]`.
    func accumulate(_ dy: Matrix, _ compute: Compute) throws {
        for part in parts {
            try compute.addColumnSums(of: dy.columns(part.columns), into: part.parameter.gradient)
        }
    }
}
