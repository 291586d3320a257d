import CKernels

/// A low-rank addition to a linear product for some of its rows: `y[rows, firstColumn...] += u · upᵀ`, summed in
/// float32 together with the base product before the one rounding (Hu et al. 2021, eq. 3).
///
/// Forward: `u = scaling · x Aᵀ` (made by `linear` with `alpha: scaling`), `up` = B packed `[outputs, rank]`.
/// Backward (`linearBackwardInput`): `u = scaling · dY B`, `up` = Aᵀ packed `[inputs, rank]`.
public struct LowRankTerm: Sendable {
    /// Rows of y that get the addition.
    public let rows: Range<Int>
    /// Column of y where `up`'s outputs begin; a multiple of 32. In a paired matrix: 0 (gate) or N/2 (up).
    public let firstColumn: Int
    /// `[rows.count, rank]`, element type of x.
    public let u: Matrix
    /// `[outputs, rank]`, element type of x.
    public let up: PackedMatrix

    public init(rows: Range<Int>, firstColumn: Int = 0, u: Matrix, up: PackedMatrix) {
        self.rows = rows
        self.firstColumn = firstColumn
        self.u = u
        self.up = up
    }
}

/// The function between the two halves of a feed-forward block.
public enum Activation: String, Sendable, Codable, CaseIterable {
    case silu
    case geluTanh
    case gelu

    var code: Int32 {
        switch self {
        case .silu: Int32(CK_ACT_SILU)
        case .geluTanh: Int32(CK_ACT_GELU_TANH)
        case .gelu: Int32(CK_ACT_GELU_ERF)
        }
    }
}

extension Compute {
    /// `y = alpha · (x Wᵀ + terms) + bias`, or `y += …`.
    ///
    /// - Parameters:
    ///   - x: `[M, K]`, element type of W.
    ///   - weights: W, `[N, K]`.
    ///   - y: `[M, N]`, float32 or bf16; must not overlap x.
    ///   - alpha: Multiplies product and terms (a residual multiplier; an adapter's scaling when W is its A).
    ///   - bias: Float32 vector `[1, N]`.
    ///   - accumulate: Adds to y, which is then float32 (the residual stream).
    ///   - terms: Low-rank additions; those of one column range have disjoint rows.
    public func linear(
        _ x: Matrix, _ weights: PackedMatrix, into y: Matrix, alpha: Float = 1,
        bias: Matrix? = nil, accumulate: Bool = false, terms: [LowRankTerm] = []
    ) throws(KernelError) {
        try checkLinear(x, weights, terms)
        try y.expect(x.rows, weights.rows, "y")
        if accumulate { try y.expect(.float32, "an accumulated y") }
        var arguments = ck_linear_args()
        arguments.x = x.c
        arguments.w = weights.c
        arguments.rows = x.rows
        arguments.alpha = alpha
        arguments.bias = UnsafePointer(try bias?.vectorPointer(weights.rows, "bias"))
        arguments.y = y.c
        arguments.accumulate = accumulate ? 1 : 0
        try runLinear(&arguments, terms)
    }

    /// The first half of a gated feed-forward block: `gated = act(x Gᵀ) · (x Uᵀ)`, with `[G; U]` one paired matrix.
    ///
    /// - Parameters:
    ///   - x: `[M, K]`.
    ///   - weights: Paired `[2F, K]`.
    ///   - gated: `[M, F]`, float32 or bf16.
    ///   - bias: Float32 vector `[1, 2F]`, of gate and up.
    ///   - saving: `[M, 2F]`, gets `x Gᵀ | x Uᵀ`, biases added, for the backward pass.
    ///   - terms: Low-rank additions with `firstColumn` 0 (gate) or F (up).
    public func linearGated(
        _ x: Matrix, _ weights: PackedMatrix, _ activation: Activation, into gated: Matrix,
        bias: Matrix? = nil, saving: Matrix? = nil, terms: [LowRankTerm] = []
    ) throws(KernelError) {
        try checkLinear(x, weights, terms)
        try require(weights.paired, "a gated product needs a paired matrix")
        try gated.expect(x.rows, weights.rows / 2, "gated")
        try saving?.expect(x.rows, weights.rows, "saving")
        var arguments = ck_linear_args()
        arguments.x = x.c
        arguments.w = weights.c
        arguments.rows = x.rows
        arguments.alpha = 1
        arguments.bias = UnsafePointer(try bias?.vectorPointer(weights.rows, "bias"))
        if let saving { arguments.y = saving.c }
        arguments.gate = activation.code
        arguments.gated = gated.c
        try runLinear(&arguments, terms)
    }

    /// The gradient of a linear product's input: `dX = alpha · (dY W + terms)`, or `dX += …`.
    ///
    /// - Parameters:
    ///   - dY: `[M, N]`, element type of W. For a paired W: gate columns, then up columns.
    ///   - weights: W, `[N, K]`; re-packed on the way.
    ///   - dX: `[M, K]`, float32 or bf16.
    ///   - terms: Low-rank additions with `up` = Aᵀ packed `[K, rank]`, `u = scaling · dY B`, `firstColumn` 0.
    public func linearBackwardInput(
        _ dY: Matrix, _ weights: PackedMatrix, into dX: Matrix, alpha: Float = 1,
        accumulate: Bool = false, terms: [LowRankTerm] = []
    ) throws(KernelError) {
        try dY.expect(dY.rows, weights.rows, "dY")
        try dY.expect(weights.elementType, "dY")
        try dX.expect(dY.rows, weights.columns, "dX")
        if accumulate { try dX.expect(.float32, "an accumulated dX") }
        let transposed = try PackedMatrix.Layout(
            rows: weights.columns, columns: weights.rows, weights.elementType)
        for term in terms { try check(term, dY, transposed) }
        if dY.rows == 0 { return }

        // Wᵀ, a few megabytes at a time, so that it stays in cache between the two steps.
        let panelBytes = try PackedMatrix.Layout(
            rows: 32, columns: weights.rows, weights.elementType
        ).byteCount
        let panels = (weights.columns + 31) / 32
        let chunk = max(min(panels, Compute.transposeBytes / panelBytes), min(panels, 2))
        let scratch = try sharedScratch(chunk * panelBytes)
        for first in stride(from: 0, to: panels, by: chunk) {
            let last = min(panels, first + chunk)
            var transpose = ck_transpose_args(
                w: weights.c, panel0: first, panel1: last, out: scratch)
            run(
                .transpose, kernels.pointee.transpose, &transpose, outputs: weights.rows,
                inputs: weights.columns)
            let columns = first * 32..<min(weights.columns, last * 32)
            var arguments = ck_linear_args()
            arguments.x = dY.c
            arguments.w = ck_packed(
                data: scratch, rows: columns.count, columns: weights.rows,
                type: weights.elementType.code, paired: 0)
            arguments.rows = dY.rows
            arguments.alpha = alpha
            arguments.y = try dX.columns(columns).c
            arguments.accumulate = accumulate ? 1 : 0
            try runLinear(&arguments, terms, columns: columns, of: weights.columns)
        }
    }

    /// Scratch for a transposed matrix or a part of it.
    private static var transposeBytes: Int { 8 << 20 }

    private func checkLinear(_ x: Matrix, _ weights: PackedMatrix, _ terms: [LowRankTerm])
        throws(KernelError)
    {
        try x.expect(x.rows, weights.columns, "x")
        try x.expect(weights.elementType, "x")
        for term in terms { try check(term, x, weights.layout) }
    }

    private func check(_ term: LowRankTerm, _ x: Matrix, _ layout: PackedMatrix.Layout)
        throws(KernelError)
    {
        try term.u.expect(term.rows.count, term.up.columns, "u of a low-rank term")
        try term.u.expect(x.elementType, "u of a low-rank term")
        try require(
            term.up.elementType == x.elementType && !term.up.paired, .elementType,
            "up of a low-rank term is \(term.up.elementType.rawValue), not \(x.elementType.rawValue)"
        )
        try require(
            term.rows.lowerBound >= 0 && term.rows.upperBound <= x.rows,
            "a low-rank term covers rows \(term.rows) of \(x.rows)")
        let end = term.firstColumn + term.up.rows
        let half = layout.rows / 2
        let fits =
            layout.paired
            ? (term.firstColumn == 0 || term.firstColumn == half) && term.up.rows == half
            : term.firstColumn >= 0 && term.firstColumn % 32 == 0 && end <= layout.rows
                && (end == layout.rows || end % 32 == 0)
        try require(
            fits, "a low-rank term covers columns \(term.firstColumn)..<\(end) of \(layout.rows)")
    }

    /// Runs a product with the terms that touch `columns` (nil: all), their panels shifted accordingly.
    private func runLinear(
        _ arguments: inout ck_linear_args, _ terms: [LowRankTerm],
        columns: Range<Int>? = nil, of inputs: Int = 0
    ) throws(KernelError) {
        if arguments.rows == 0 { return }
        arguments.arena = try threadScratch(ck_linear_scratch_bytes(arguments.w.columns))
        withUnsafeTemporaryAllocation(of: ck_term.self, capacity: max(terms.count, 1)) { list in
            var count = 0
            for term in terms where !term.rows.isEmpty {
                var up = term.up.c
                var column = term.firstColumn
                if let columns {  // both begin at a multiple of 32
                    let skip = max(0, columns.lowerBound - column)
                    column = max(0, column - columns.lowerBound)
                    let left = min(up.rows - skip, columns.count - column)
                    if left <= 0 { continue }
                    let layout = term.up.layout
                    let depth =
                        layout.elementType == .bfloat16
                        ? (layout.columns + 1) / 2 * 2 : layout.columns
                    up.data += skip * depth * layout.elementType.byteCount
                    up.rows = left
                }
                list[count] = ck_term(
                    row0: term.rows.lowerBound, row1: term.rows.upperBound, column0: column,
                    u: term.u.c, up: up)
                count += 1
            }
            arguments.terms = UnsafePointer(list.baseAddress)
            arguments.term_count = count
            let (rows, w) = (arguments.rows, arguments.w)
            run(
                columns == nil ? .linear : .linearBackward, kernels.pointee.linear, &arguments,
                outputs: columns == nil ? w.rows : w.columns,
                inputs: columns == nil ? w.columns : inputs,
                flops: Self.flops(rows, w, terms))
            arguments.terms = nil
        }
    }

    private static func flops(_ rows: Int, _ w: ck_packed, _ terms: [LowRankTerm]) -> Int {
        let outputs = w.rows
        return terms.reduce(2 * rows * outputs * w.columns) { sum, term in
            sum + 2 * term.rows.count * term.up.columns * min(outputs, term.up.rows)
        }
    }
}
