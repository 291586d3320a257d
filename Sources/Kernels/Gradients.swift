import CKernels

extension Compute {
    /// `g (+)= alpha · xᵀ y`, contracted over rows (tokens): weight gradients of low-rank matrices.
    ///
    /// dA `[rank, K]` = (scaling · dY B)ᵀ · x; dB `[N, rank]` = dYᵀ · (scaling · x Aᵀ).
    ///
    /// - Parameters:
    ///   - x: `[M, p]`, either element type.
    ///   - y: `[M, q]`, element type of x.
    ///   - g: `[p, q]` float32. Sums are float32 in row order.
    ///   - accumulate: Adds to g.
    public func contract(
        _ x: Matrix, _ y: Matrix, into g: Matrix, alpha: Float = 1, accumulate: Bool = true
    ) throws(KernelError) {
        try require(x.rows == y.rows, "x has \(x.rows) rows, y \(y.rows)")
        try y.expect(x.elementType, "y")
        try g.expect(x.columns, y.columns, "g")
        try g.expect(.float32, "g")
        var arguments = ck_contract_args()
        arguments.x = x.c
        arguments.y = y.c
        arguments.g = g.c
        arguments.rows = x.rows
        arguments.p = x.columns
        arguments.q = y.columns
        arguments.alpha = alpha
        arguments.accumulate = accumulate ? 1 : 0
        let count = ck_contract_scratch_count(x.columns, y.columns)
        arguments.scratch = try sharedScratch(4 * count).assumingMemoryBound(to: Float.self)
        run(
            .contract, kernels.pointee.contract, &arguments,
            flops: 2 * x.rows * x.columns * y.columns)
    }

    /// One step of AdamW (Loshchilov & Hutter 2019) as `torch.optim.AdamW` does it.
    ///
    /// - Parameters:
    ///   - parameter: Float32, any shape; the others have the same.
    ///   - gradient: Multiplied by `gradientScale` (clipping) on the way.
    ///   - moment1: Running mean of gradients.
    ///   - moment2: Running mean of squared gradients.
    ///   - step: Number of this step, from 1.
    public func adamW(
        parameter: Matrix, gradient: Matrix, moment1: Matrix, moment2: Matrix, step: Int,
        learningRate: Double, gradientScale: Float = 1, beta1: Double = 0.9,
        beta2: Double = 0.999, epsilon: Double = 1e-8, weightDecay: Double = 0
    ) throws(KernelError) {
        try require(step >= 1, .range, "steps count from 1, not \(step)")
        for (matrix, name) in [
            (parameter, "parameter"), (gradient, "gradient"), (moment1, "moment1"),
            (moment2, "moment2"),
        ] {
            try matrix.expect(parameter.rows, parameter.columns, name)
            try matrix.expect(.float32, name)
        }
        var arguments = ck_adamw_args()
        arguments.step = step
        arguments.gradient_scale = gradientScale
        arguments.learning_rate = learningRate
        arguments.beta1 = beta1
        arguments.beta2 = beta2
        arguments.epsilon = epsilon
        arguments.weight_decay = weightDecay
        // One call when no row has padding, else one a row.
        let dense = [parameter, gradient, moment1, moment2].allSatisfy { $0.stride == $0.columns }
        arguments.count = dense ? parameter.rows * parameter.columns : parameter.columns
        for row in 0..<(dense ? min(1, parameter.rows) : parameter.rows) {
            arguments.parameter = parameter.floats(row)
            arguments.gradient = UnsafePointer(gradient.floats(row))
            arguments.moment1 = moment1.floats(row)
            arguments.moment2 = moment2.floats(row)
            run(.adamw, kernels.pointee.adamw, &arguments)
        }
    }

    /// `Σ x²` in double precision, in an order that does not depend on threads. x: float32, any shape.
    public func squaredNorm(_ x: Matrix) throws(KernelError) -> Double {
        try x.expect(.float32, "x")
        let dense = x.stride == x.columns
        let count = dense ? x.rows * x.columns : x.columns
        if count == 0 { return 0 }
        let blocks = (count + Int(CK_SUM_BLOCK) - 1) / Int(CK_SUM_BLOCK)
        let partial = try sharedScratch(8 * blocks, small: true).assumingMemoryBound(
            to: Double.self)
        var sum = 0.0
        for row in 0..<(dense ? 1 : x.rows) {
            var arguments = ck_square_sum_args(
                x: UnsafePointer(x.floats(row)), count: count, partial: partial)
            run(.squareSum, kernels.pointee.square_sum, &arguments)
            for block in 0..<blocks { sum += partial[block] }
        }
        return sum
    }
}

extension Matrix {
    func floats(_ row: Int) -> UnsafeMutablePointer<Float> {
        (base + row * stride * 4).assumingMemoryBound(to: Float.self)
    }
}
