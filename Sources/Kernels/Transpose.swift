import CKernels

extension Compute {
    /// `out = Wᵀ`, packed again: what turns `x Wᵀ` into `x W`.
    ///
    /// - Parameters:
    ///   - weights: W, `[N, K]`; the columns of a paired W come gate first, then up.
    ///   - out: `[K, N]`, plain layout, element type of W.
    public func transpose(_ weights: PackedMatrix, into out: PackedMatrix) throws(KernelError) {
        try require(
            out.rows == weights.columns && out.columns == weights.rows && !out.paired,
            "the transpose of \(weights.rows) × \(weights.columns) is not \(out.rows) × \(out.columns)"
        )
        try require(
            out.elementType == weights.elementType, .elementType,
            "the transpose of \(weights.elementType.rawValue) is not \(out.elementType.rawValue)")
        var arguments = ck_transpose_args(
            w: weights.c, panel0: 0, panel1: (weights.columns + 31) / 32, out: out.storage.base)
        run(.transpose, kernels.pointee.transpose, &arguments)
    }
}
