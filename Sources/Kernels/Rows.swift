import CKernels

// Operations row by row: embedding, norms, rotary positions, activations, sums.

extension Compute {
    /// `out[i] = scale · table[ids[i]]`.
    ///
    /// - Parameters:
    ///   - ids: Row numbers of the table, checked.
    ///   - table: Row-major `[V, D]`, either element type.
    ///   - out: `[ids.count, D]`, either element type.
    /// - Throws: `.range` for an id outside the table.
    public func gather(_ ids: [Int32], from table: Matrix, scale: Float = 1, into out: Matrix)
        throws(KernelError)
    {
        var arguments = ck_gather_args()
        arguments.table = table.c
        try gather(ids, table.rows, table.columns, scale, out, &arguments)
    }

    /// The same from a packed matrix, such as a head that is also the embedding.
    public func gather(_ ids: [Int32], from table: PackedMatrix, scale: Float = 1, into out: Matrix)
        throws(KernelError)
    {
        var arguments = ck_gather_args()
        arguments.packed = table.c
        try gather(ids, table.rows, table.columns, scale, out, &arguments)
    }

    private func gather(
        _ ids: [Int32], _ rows: Int, _ columns: Int, _ scale: Float, _ out: Matrix,
        _ arguments: inout ck_gather_args
    ) throws(KernelError) {
        try out.expect(ids.count, columns, "out")
        for id in ids {
            try require(
                id >= 0 && Int(id) < rows, .range, "id \(id) is not in a table of \(rows) rows")
        }
        arguments.rows = ids.count
        arguments.columns = columns
        arguments.scale = scale
        arguments.out = out.c
        ids.withUnsafeBufferPointer {
            arguments.ids = $0.baseAddress
            run(.gather, kernels.pointee.gather, &arguments, elements: ids.count * columns)
        }
        arguments.ids = nil
    }

    /// RMS norm (Zhang & Sennrich 2019): `y = x / sqrt(mean(x²) + ε) · weight`, per group of columns.
    ///
    /// - Parameters:
    ///   - x: `[M, groups · D]`, either element type.
    ///   - weight: `[1, D]` float32, shared by the groups; nil: ones. Gemma's `1 + w` is added by the caller, once.
    ///   - groups: Parts of a row normed one by one (heads, for a norm of q and k); 1 for the whole row.
    ///   - epsilon: ε.
    ///   - y: `[M, groups · D]`, either element type; may be x itself.
    ///   - inverse: `[M, groups]` float32, gets `1 / sqrt(mean(x²) + ε)` for the backward pass.
    public func rmsNorm(
        _ x: Matrix, weight: Matrix?, groups: Int = 1, epsilon: Float, into y: Matrix,
        inverse: Matrix? = nil
    ) throws(KernelError) {
        try norm(CK_NORM_RMS, x, weight, nil, groups, epsilon, y, inverse, nil)
    }

    /// Layer norm (Ba et al. 2016): `y = (x - mean) / sqrt(var + ε) · weight + bias`. Shapes as `rmsNorm`.
    public func layerNorm(
        _ x: Matrix, weight: Matrix?, bias: Matrix?, groups: Int = 1, epsilon: Float,
        into y: Matrix, inverse: Matrix? = nil, mean: Matrix? = nil
    ) throws(KernelError) {
        try norm(CK_NORM_LAYER, x, weight, bias, groups, epsilon, y, inverse, mean)
    }

    private func norm(
        _ kind: Int, _ x: Matrix, _ weight: Matrix?, _ bias: Matrix?, _ groups: Int,
        _ epsilon: Float, _ y: Matrix, _ inverse: Matrix?, _ mean: Matrix?
    ) throws(KernelError) {
        try require(
            groups > 0 && x.columns % groups == 0, "\(x.columns) columns in \(groups) groups")
        try y.expect(x.rows, x.columns, "y")
        var arguments = ck_norm_args()
        arguments.kind = Int32(kind)
        arguments.x = x.c
        arguments.rows = x.rows
        arguments.groups = groups
        arguments.columns = x.columns / groups
        arguments.weight = UnsafePointer(try weight?.vectorPointer(arguments.columns, "weight"))
        arguments.bias = UnsafePointer(try bias?.vectorPointer(arguments.columns, "bias"))
        arguments.epsilon = epsilon
        arguments.y = y.c
        (arguments.inverse, arguments.stat_stride) = try statistics(inverse, x.rows, groups)
        if let mean {
            let (pointer, stride) = try statistics(mean, x.rows, groups)
            try require(
                inverse == nil || stride == arguments.stat_stride,
                "inverse and mean differ in row stride")
            arguments.mean = pointer
            arguments.stat_stride = stride
        }
        run(.norm, kernels.pointee.norm, &arguments, elements: x.rows * x.columns)
    }

    private func statistics(_ matrix: Matrix?, _ rows: Int, _ groups: Int) throws(KernelError)
        -> (UnsafeMutablePointer<Float>?, Int)
    {
        guard let matrix else { return (nil, 0) }
        try matrix.expect(rows, groups, "statistics of a norm")
        try matrix.expect(.float32, "statistics of a norm")
        return (matrix.base.assumingMemoryBound(to: Float.self), matrix.stride)
    }

    /// Gradients of `rmsNorm`: `dx (+)= …`, `dWeight += …`.
    ///
    /// - Parameters:
    ///   - dY: `[M, groups · D]`, either element type.
    ///   - x: The input of the forward pass.
    ///   - weight: As in the forward pass.
    ///   - inverse: `[M, groups]`, as saved.
    ///   - dX: `[M, groups · D]`; float32 when accumulated. May be dY itself when not accumulated.
    ///   - accumulate: Adds to dX (the residual stream's gradient).
    ///   - dWeight: `[1, D]` float32, added to; nil when the weight is frozen.
    public func rmsNormBackward(
        _ dY: Matrix, x: Matrix, weight: Matrix?, inverse: Matrix, groups: Int = 1,
        into dX: Matrix, accumulate: Bool = false, dWeight: Matrix? = nil
    ) throws(KernelError) {
        try normBackward(
            CK_NORM_RMS, dY, x, weight, inverse, nil, groups, dX, accumulate, dWeight, nil)
    }

    /// Gradients of `layerNorm`; shapes as `rmsNormBackward`.
    public func layerNormBackward(
        _ dY: Matrix, x: Matrix, weight: Matrix?, inverse: Matrix, mean: Matrix, groups: Int = 1,
        into dX: Matrix, accumulate: Bool = false, dWeight: Matrix? = nil, dBias: Matrix? = nil
    ) throws(KernelError) {
        try normBackward(
            CK_NORM_LAYER, dY, x, weight, inverse, mean, groups, dX, accumulate, dWeight, dBias)
    }

    private func normBackward(
        _ kind: Int, _ dY: Matrix, _ x: Matrix, _ weight: Matrix?, _ inverse: Matrix,
        _ mean: Matrix?, _ groups: Int, _ dX: Matrix, _ accumulate: Bool, _ dWeight: Matrix?,
        _ dBias: Matrix?
    ) throws(KernelError) {
        try require(
            groups > 0 && x.columns % groups == 0, "\(x.columns) columns in \(groups) groups")
        try dY.expect(x.rows, x.columns, "dY")
        try dX.expect(x.rows, x.columns, "dX")
        if accumulate { try dX.expect(.float32, "an accumulated dX") }
        var arguments = ck_norm_backward_args()
        arguments.kind = Int32(kind)
        arguments.x = x.c
        arguments.dy = dY.c
        arguments.rows = x.rows
        arguments.groups = groups
        arguments.columns = x.columns / groups
        arguments.weight = UnsafePointer(try weight?.vectorPointer(arguments.columns, "weight"))
        let (pointer, stride) = try statistics(inverse, x.rows, groups)
        arguments.inverse = UnsafePointer(pointer)
        arguments.stat_stride = stride
        if let mean {
            let (pointer, meanStride) = try statistics(mean, x.rows, groups)
            try require(meanStride == stride, "inverse and mean differ in row stride")
            arguments.mean = UnsafePointer(pointer)
        }
        arguments.dx = dX.c
        arguments.accumulate = accumulate ? 1 : 0
        arguments.dweight = try dWeight?.vectorPointer(arguments.columns, "dWeight")
        arguments.dbias = try dBias?.vectorPointer(arguments.columns, "dBias")
        // First what reads dY as a whole: dX may be the same memory.
        if dWeight != nil || dBias != nil {
            run(.normWeightBackward, kernels.pointee.norm_weight_backward, &arguments)
        }
        run(.normBackward, kernels.pointee.norm_backward, &arguments, elements: x.rows * x.columns)
    }

    /// Rotary positions (Su et al. 2021) in the rotate-half form: of each head the columns i and i + rotaryDim/2 turn
    /// by the angle of the row's position; columns from rotaryDim on are copied.
    ///
    /// - Parameters:
    ///   - x: `[M, heads · headDim]`, either element type.
    ///   - positions: One a row, each below the tables' rows.
    ///   - cosine: `[positions, rotaryDim/2]` float32, with any attention factor already in it.
    ///   - sine: Like `cosine`.
    ///   - inverse: Turns back: the backward pass.
    ///   - y: `[M, heads · headDim]`, either element type; may be x itself.
    public func rotate(
        _ x: Matrix, headDim: Int, positions: [Int32], cosine: Matrix, sine: Matrix,
        inverse: Bool = false, into y: Matrix
    ) throws(KernelError) {
        let rotaryDim = cosine.columns * 2
        try require(
            headDim > 0 && x.columns % headDim == 0 && rotaryDim <= headDim,
            "\(x.columns) columns in heads of \(headDim), of which \(rotaryDim) rotate")
        try y.expect(x.rows, x.columns, "y")
        try sine.expect(cosine.rows, cosine.columns, "sine")
        try cosine.expect(.float32, "cosine")
        try sine.expect(.float32, "sine")
        try require(sine.stride == cosine.stride, "cosine and sine differ in row stride")
        try require(positions.count == x.rows, "\(positions.count) positions for \(x.rows) rows")
        for position in positions {
            try require(
                position >= 0 && Int(position) < cosine.rows, .range,
                "position \(position) is not in tables of \(cosine.rows)")
        }
        var arguments = ck_rope_args()
        arguments.x = x.c
        arguments.y = y.c
        arguments.rows = x.rows
        arguments.heads = x.columns / headDim
        arguments.head_dim = headDim
        arguments.rotary_dim = rotaryDim
        arguments.cosine = UnsafePointer(cosine.base.assumingMemoryBound(to: Float.self))
        arguments.sine = UnsafePointer(sine.base.assumingMemoryBound(to: Float.self))
        arguments.table_stride = cosine.stride
        arguments.inverse = inverse ? 1 : 0
        positions.withUnsafeBufferPointer {
            arguments.positions = $0.baseAddress
            run(.rope, kernels.pointee.rope, &arguments, elements: x.rows * x.columns)
        }
    }

    /// `y = act(gate) · up`, or `act(gate)` without `up`. All `[M, F]`, either element type; y may be gate or up.
    public func activate(_ activation: Activation, gate: Matrix, up: Matrix?, into y: Matrix)
        throws(KernelError)
    {
        try y.expect(gate.rows, gate.columns, "y")
        try up?.expect(gate.rows, gate.columns, "up")
        var arguments = ck_activation_args()
        arguments.kind = activation.code
        arguments.rows = gate.rows
        arguments.columns = gate.columns
        arguments.gate = gate.c
        if let up { arguments.up = up.c }
        arguments.y = y.c
        run(.activation, kernels.pointee.activation, &arguments, elements: y.rows * y.columns)
    }

    /// Gradients of `activate`: `dGate = dY · up · act'(gate)`, `dUp = dY · act(gate)`.
    ///
    /// All `[M, F]`, either element type. dGate and dUp may be gate and up themselves.
    ///
    /// - Parameter y: Gets `act(gate) · up` once more, for the gradient of the matrix behind it; nil: not wanted.
    public func activateBackward(
        _ activation: Activation, dY: Matrix, gate: Matrix, up: Matrix?, dGate: Matrix,
        dUp: Matrix?, recomputing y: Matrix? = nil
    ) throws(KernelError) {
        try dY.expect(gate.rows, gate.columns, "dY")
        try up?.expect(gate.rows, gate.columns, "up")
        try dGate.expect(gate.rows, gate.columns, "dGate")
        try dUp?.expect(gate.rows, gate.columns, "dUp")
        try y?.expect(gate.rows, gate.columns, "y")
        try require((up == nil) == (dUp == nil), "up and dUp go together")
        var arguments = ck_activation_backward_args()
        arguments.kind = activation.code
        arguments.rows = gate.rows
        arguments.columns = gate.columns
        arguments.gate = gate.c
        if let up { arguments.up = up.c }
        arguments.dy = dY.c
        arguments.dgate = dGate.c
        if let dUp { arguments.dup = dUp.c }
        if let y { arguments.y = y.c }
        run(.activationBackward, kernels.pointee.activation_backward, &arguments)
    }

    /// `y = alpha · x + beta · y` with conversion between element types; beta 0 never reads y.
    ///
    /// Copies and converts (`alpha` 1, `beta` 0), adds (1, 1), scales (x = y). Shapes are equal.
    public func combine(_ x: Matrix, alpha: Float = 1, into y: Matrix, beta: Float = 0)
        throws(KernelError)
    {
        try y.expect(x.rows, x.columns, "y")
        var arguments = ck_combine_args()
        arguments.x = x.c
        arguments.y = y.c
        arguments.rows = x.rows
        arguments.columns = x.columns
        arguments.alpha = alpha
        arguments.beta = beta
        run(.combine, kernels.pointee.combine, &arguments, elements: x.rows * x.columns)
    }

    /// Copies x to y with conversion between element types.
    public func copy(_ x: Matrix, to y: Matrix) throws(KernelError) { try combine(x, into: y) }

    /// `y += alpha · x`.
    public func add(_ x: Matrix, alpha: Float = 1, to y: Matrix) throws(KernelError) {
        try combine(x, alpha: alpha, into: y, beta: 1)
    }

    /// `x = cap · tanh(x / cap)`, in place. x: `[M, N]`, either element type.
    ///
    /// - Throws: `.range` for a cap that is not positive.
    public func softCap(_ x: Matrix, _ cap: Float) throws(KernelError) {
        try require(cap > 0, .range, "a soft cap of \(cap)")
        var arguments = ck_soft_cap_args(x: x.c, rows: x.rows, columns: x.columns, cap: cap)
        run(.softCap, kernels.pointee.soft_cap, &arguments, elements: x.rows * x.columns)
    }

    /// Softmax of every row, in place. x: `[M, N]` float32.
    public func softmax(_ x: Matrix) throws(KernelError) {
        try x.expect(.float32, "x")
        var arguments = ck_softmax_args(
            x: x.c, rows: x.rows, columns: x.columns, log_sum: nil, softmax: 1)
        run(.softmax, kernels.pointee.softmax, &arguments)
    }

    /// `result[row] = log Σ exp(x[row])`. x: `[M, N]` float32; result: `[1, M]`.
    public func logSumExp(_ x: Matrix, into result: Matrix) throws(KernelError) {
        try x.expect(.float32, "x")
        var arguments = ck_softmax_args(
            x: x.c, rows: x.rows, columns: x.columns,
            log_sum: try result.vectorPointer(x.rows, "result"), softmax: 0)
        run(.softmax, kernels.pointee.softmax, &arguments)
    }

    /// Whether every number is finite.
    public func isFinite(_ x: Matrix) throws(KernelError) -> Bool {
        let bad = try sharedScratch(4 * pool.threadCount, small: true).assumingMemoryBound(
            to: Int32.self)
        bad.update(repeating: 0, count: pool.threadCount)
        var arguments = ck_finite_args(x: x.c, rows: x.rows, columns: x.columns, bad: bad)
        run(.finite, kernels.pointee.finite, &arguments)
        return (0..<pool.threadCount).allSatisfy { bad[$0] == 0 }
    }
}
