import Kernels
import LoRA
import Synchronization

/// Products with a base matrix and each row group's low-rank update.
///
/// One base product runs over all rows. U = x Aᵀ is made per group, and its product with B is added
/// inside the base product's float32 sums. Only groups with DoRA leave the common product, since their
/// columns are scaled after the sum. Without adapters nothing but the base product happens.
struct AdaptedProduct {
    enum Output {
        /// y = x Wᵀ
        case write(Matrix)
        /// y += x Wᵀ, float32
        case add(Matrix)
        /// y = act(gate) · up, with W holding gate over up; y = act(x Wᵀ) where W is no wider than y
        case gated(Matrix)

        var matrix: Matrix {
            switch self {
            case .write(let matrix), .add(let matrix), .gated(let matrix): matrix
            }
        }
    }

    /// A group's `U = x Aᵀ`.
    private struct DownProjection: Sendable {
        let x: Matrix
        let down: PackedMatrix
        let u: Matrix
    }

    /// Products of at most so many rows are too small to share: threads take whole ones.
    private static let sharedRows = 32

    let compute: Compute
    let activation: Activation
    private var projections: [DownProjection] = []
    private var terms: [LowRankTerm] = []
    /// `[rows, widest U]`, type of the activations; grows with the adapters that come.
    private var u: Matrix
    /// `[rows, widest output]` float32, for columns that are scaled or gated apart; made when needed.
    private var wide: Matrix?

    init(
        compute: Compute, activation: Activation, rows: Int, elementType: ElementType
    ) throws {
        self.compute = compute
        self.activation = activation
        u = try Matrix(rows: rows, columns: 0, elementType)
    }

    /// Makes room for the adapters of a batch, before its layers run.
    mutating func reserve(_ groups: [RowGroup], widestOutput: Int, unpairedGate: Bool) throws {
        var width = 0
        var scales = unpairedGate
        for group in groups {
            width = max(width, group.adapter?.maximumWidth ?? 0)
            scales = scales || group.adapter?.hasColumnScales == true
        }
        if width > u.columns { u = try Matrix(rows: u.rows, columns: width, u.elementType) }
        if scales, wide == nil { wide = try Matrix(rows: u.rows, columns: widestOutput) }
    }

    /// - Parameters:
    ///   - x: `[rows, K]`
    ///   - weights: `[N, K]`
    ///   - groups: Cover the rows of x.
    ///   - bias: `[1, N]`
    ///   - adapted: What a group's adapter makes of this product. Groups with a bias of their own leave the common
    ///     product, as those with DoRA do.
    mutating func callAsFunction(
        _ x: Matrix, _ weights: PackedMatrix, bias: Matrix? = nil, groups: [RowGroup],
        output: Output, adapted: (ServedAdapter) -> ServedAdapter.Product
    ) throws {
        var start = 0
        var segment: [(group: RowGroup, update: PackedUpdate)] = []
        for group in groups {
            guard let product = group.adapter.map(adapted) else { continue }
            if product.bias == nil, product.update?.columnScale == nil {
                if let update = product.update { segment.append((group, update)) }
                continue
            }
            try common(x, weights, bias, start..<group.rows.lowerBound, segment, output)
            segment.removeAll(keepingCapacity: true)
            let own = product.bias ?? bias
            if let update = product.update, update.columnScale != nil {
                try scaled(x, weights, own, group.rows, update, output)
            } else {
                let update = product.update.map { [(group, $0)] } ?? []
                try common(x, weights, own, group.rows, update, output)
            }
            start = group.rows.upperBound
        }
        try common(x, weights, bias, start..<x.rows, segment, output)
    }

    /// Rows without column scales: one base product, low-rank terms inside its sums.
    private mutating func common(
        _ x: Matrix, _ weights: PackedMatrix, _ bias: Matrix?, _ rows: Range<Int>,
        _ updates: [(group: RowGroup, update: PackedUpdate)], _ output: Output
    ) throws {
        if rows.isEmpty { return }
        terms.removeAll(keepingCapacity: true)
        projections.removeAll(keepingCapacity: true)
        for (group, update) in updates {
            try appendTerms(x, group.rows, update, from: rows.lowerBound)
        }
        try projectDown()
        let isWhole = rows.count == x.rows
        let input = isWhole ? x : try x.rows(rows)
        let target = isWhole ? output.matrix : try output.matrix.rows(rows)
        switch output {
        case .write: try compute.linear(input, weights, into: target, bias: bias, terms: terms)
        case .add:
            try compute.linear(
                input, weights, into: target, bias: bias, accumulate: true, terms: terms)
        case .gated:
            if weights.paired {
                try compute.linearGated(
                    input, weights, activation, into: target, bias: bias, terms: terms)
            } else {
                let both = try wideRows(rows.count, weights.rows)
                try compute.linear(input, weights, into: both, bias: bias, terms: terms)
                try gate(both, into: target)
            }
        }
    }

    /// Rows of one DoRA adapter: m / ‖W + BA‖ times the sum, column by column (Liu et al. 2024, eq. 5).
    private mutating func scaled(
        _ x: Matrix, _ weights: PackedMatrix, _ bias: Matrix?, _ rows: Range<Int>,
        _ update: PackedUpdate, _ output: Output
    ) throws {
        guard let scale = update.columnScale else { return }
        terms.removeAll(keepingCapacity: true)
        projections.removeAll(keepingCapacity: true)
        try appendTerms(x, rows, update, from: rows.lowerBound)
        try projectDown()
        let target = try output.matrix.rows(rows)
        // Logits are wider than anything that was reserved; they are float32, so scaled where they are.
        var inPlace = false
        if case .write = output, target.elementType == .float32 { inPlace = true }
        let sums = inPlace ? target : try wideRows(rows.count, weights.rows)
        try compute.linear(try x.rows(rows), weights, into: sums, terms: terms)
        try scale.withFloats(row: 0) { factors in
            for row in 0..<rows.count {
                try sums.withFloats(row: row) { values in
                    for column in 0..<values.count { values[column] *= factors[column] }
                }
            }
        }
        // The magnitude applies to W + BA alone.
        try bias?.withFloats(row: 0) { addends in
            for row in 0..<rows.count {
                try sums.withFloats(row: row) { values in
                    for column in 0..<values.count { values[column] += addends[column] }
                }
            }
        }
        if inPlace { return }
        switch output {
        case .write: try compute.copy(sums, to: target)
        case .add: try compute.add(sums, to: target)
        case .gated: try gate(sums, into: target)
        }
    }

    private func gate(_ both: Matrix, into target: Matrix) throws {
        if both.columns == target.columns {
            return try compute.activate(activation, gate: both, up: nil, into: target)
        }
        let inner = both.columns / 2
        try compute.activate(
            activation, gate: both.columns(0..<inner), up: both.columns(inner..<2 * inner),
            into: target)
    }

    private func wideRows(_ rows: Int, _ columns: Int) throws -> Matrix {
        guard let wide else {
            throw TransformerError(.batch, "no room was reserved for columns that are scaled")
        }
        return try wide.rows(0..<rows).columns(0..<columns)
    }

    private mutating func appendTerms(
        _ x: Matrix, _ rows: Range<Int>, _ update: PackedUpdate, from first: Int
    ) throws {
        let u = try u.rows(rows).columns(0..<update.width)
        projections.append(DownProjection(x: try x.rows(rows), down: update.down, u: u))
        let relative = rows.lowerBound - first..<rows.upperBound - first
        for part in update.parts {
            terms.append(
                LowRankTerm(
                    rows: relative, firstColumn: part.columnStart,
                    u: try u.columns(part.rankStart..<part.rankStart + part.rankWidth),
                    up: part.up))
        }
    }

    /// Runs the down-projections that were collected: large ones on all threads, small ones side by side.
    private func projectDown() throws {
        var small: [DownProjection] = []
        for projection in projections {
            if projections.count == 1 || projection.x.rows > Self.sharedRows {
                try compute.linear(projection.x, projection.down, into: projection.u)
            } else {
                small.append(projection)
            }
        }
        if small.isEmpty { return }
        let jobs = small
        let failure = Mutex<KernelError?>(nil)
        compute.timed(.adapterProjections) {
            compute.pool.run { [compute] thread, threads in
                for index in stride(from: thread, to: jobs.count, by: threads) {
                    do throws(KernelError) {
                        try compute.linear(jobs[index].x, jobs[index].down, into: jobs[index].u)
                    } catch {
                        failure.withLock { $0 = $0 ?? error }
                    }
                }
            }
        }
        if let error = failure.withLock({ $0 }) { throw error }
    }
}
