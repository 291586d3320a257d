import Kernels

/// A norm over rows of the residual stream's width D, ready for the kernels: RMS, or layer norm where it has a bias.
struct Norm: Sendable {
    /// `[1, D]`
    let weight: Matrix
    /// `[1, D]`; nil: RMS norm.
    let bias: Matrix?

    /// The same with an adapter's bias, if it has one.
    func with(bias other: Matrix?) -> Norm { other.map { Norm(weight: weight, bias: $0) } ?? self }
}

/// What the backward pass needs of a norm's forward pass, for each row, `[M, 1]` float32.
struct NormStatistics {
    /// 1 / rms, or 1 / deviation of a layer norm.
    let inverse: Matrix
    /// nil of an RMS norm.
    let mean: Matrix?

    init(rows: Int, isCentered: Bool) throws {
        inverse = try Matrix(rows: rows, columns: 1)
        mean = isCentered ? try Matrix(rows: rows, columns: 1) : nil
    }

    private init(inverse: Matrix, mean: Matrix?) {
        self.inverse = inverse
        self.mean = mean
    }

    func rows(_ range: Range<Int>) throws -> NormStatistics {
        NormStatistics(inverse: try inverse.rows(range), mean: try mean?.rows(range))
    }
}

extension Compute {
    /// - Parameters:
    ///   - x: `[M, D]`, either element type.
    ///   - y: `[M, D]`, either element type; may be x itself.
    ///   - statistics: Of M rows, filled for `normalizeBackward`.
    func normalize(
        _ x: Matrix, _ norm: Norm, epsilon: Double, into y: Matrix,
        statistics: NormStatistics? = nil
    ) throws {
        if let bias = norm.bias {
            return try layerNorm(
                x, weight: norm.weight, bias: bias, epsilon: Float(epsilon), into: y,
                inverse: statistics?.inverse, mean: statistics?.mean)
        }
        try rmsNorm(
            x, weight: norm.weight, epsilon: Float(epsilon), into: y, inverse: statistics?.inverse)
    }

    /// The gradient of the norm's input from that of its output; the weight is frozen.
    ///
    /// - Parameters:
    ///   - dY: `[M, D]`, either element type.
    ///   - x: As it was in the forward pass.
    ///   - dX: `[M, D]`; float32 when accumulated; may be dY itself when not.
    ///   - biasGradient: `[1, D]` float32, added to, of a layer norm whose bias is trained.
    func normalizeBackward(
        _ dY: Matrix, x: Matrix, _ norm: Norm, _ statistics: NormStatistics, into dX: Matrix,
        accumulate: Bool = false, biasGradient: Matrix? = nil
    ) throws {
        if let mean = statistics.mean {
            return try layerNormBackward(
                dY, x: x, weight: norm.weight, inverse: statistics.inverse, mean: mean, into: dX,
                accumulate: accumulate, dBias: biasGradient)
        }
        try rmsNormBackward(
            dY, x: x, weight: norm.weight, inverse: statistics.inverse, into: dX,
            accumulate: accumulate)
    }
}
