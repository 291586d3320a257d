import Kernels

/// DoRA in training: each output column of a joined matrix times m / ‖W + s B A‖ (Liu et al. 2024, eq. 5).
///
/// The norm is a constant in the backward pass (their section 4.3, as PEFT does it). Columns of modules without
/// magnitudes have the factor 1.
final class MagnitudeScale: Sendable {
    /// `[1, outputs]`
    let scale: Matrix
    private let modules: [TrainableModule]
    private let base: PackedMatrix
    /// ‖W‖² of each row of the base, in float64.
    private let baseSquares: [Double]
    /// ‖W + s B A‖ of each row, `[1, outputs]`; 1 where there is no magnitude.
    private let norms: Matrix
    /// `[1, outputs]`
    private let sums: Matrix

    init(_ modules: [TrainableModule], base: PackedMatrix, compute: Compute) throws {
        self.modules = modules
        self.base = base
        scale = try Matrix.vector(base.rows)
        norms = try Matrix.vector(base.rows)
        sums = try Matrix.vector(base.rows)
        scale.fill(1)
        norms.fill(1)
        let dense = try Matrix(rows: base.rows, columns: base.columns)
        try compute.unpack(base, into: dense)
        baseSquares = try (0..<base.rows).map { row in
            try dense.withFloats(row: row) { values in
                values.reduce(0.0) { $0 + Double($1) * Double($1) }
            }
        }
    }

    /// Computes norms and factors anew: ‖W + s B A‖² = ‖W‖² + 2 s B · (A Wᵀ) + s² B (A Aᵀ) Bᵀ, row by row.
    ///
    /// - Parameters:
    ///   - down: The A's one below the other, `[width, inputs]`, and the same in float32.
    ///   - rankStarts: Where each module's A begins in them.
    func refresh(
        down: PackedMatrix, staging: Matrix, rankStarts: [Int], compute: Compute
    ) throws {
        let a = try Matrix(rows: staging.rows, columns: staging.columns, base.elementType)
        try compute.copy(staging, to: a)
        let cross = try Matrix(rows: a.rows, columns: base.rows)
        try compute.linear(a, base, into: cross)
        let square = try Matrix(rows: a.rows, columns: a.rows)
        try compute.linear(a, down, into: square)
        for (module, start) in zip(modules, rankStarts) {
            guard let magnitude = module.magnitude else { continue }
            let rank = module.plan.rank
            let ranks = start..<start + rank
            let products = try ranks.map { row in
                try square.withFloats(row: row) { $0[ranks].map { Double($0) } }
            }
            let crosses = try ranks.map { row in
                try cross.withFloats(row: row) { $0[module.columns].map { Double($0) } }
            }
            var b = [Double](repeating: 0, count: rank)
            for output in 0..<module.plan.module.outputs {
                try module.b.withFloats(row: output) { row in
                    for k in 0..<rank { b[k] = module.plan.scaling * Double(row[k]) }
                }
                var total = baseSquares[module.columnStart + output]
                for k in 0..<rank {
                    var inner = 2 * crosses[k][output]
                    for l in 0..<rank { inner += products[k][l] * b[l] }
                    total += b[k] * inner
                }
                let norm = Float(max(total, 0).squareRoot())
                norms[0, module.columnStart + output] = norm
                scale[0, module.columnStart + output] = magnitude[0, output] / norm
            }
        }
    }

    /// `dm += Σ dy · z / norm`, then `dy *= scale`.
    ///
    /// - Parameters:
    ///   - dy: `[rows, outputs]`
    ///   - z: `[rows, outputs]` float32: the sum that was scaled.
    func backward(_ dy: Matrix, z: Matrix, compute: Compute) throws {
        sums.fill(0)
        try compute.addColumnSums(of: dy, times: z, into: sums)
        for module in modules {
            guard let gradient = module.magnitudeGradient else { continue }
            for output in 0..<module.plan.module.outputs {
                let column = module.columnStart + output
                gradient[0, output] += sums[0, column] / norms[0, column]
            }
        }
        try compute.scaleColumns(dy, by: scale)
    }
}
