import Kernels

/// The low-rank update of one matrix as the kernels read it: `y += (x Aᵀ) (scaling · B)ᵀ`.
///
/// The matrix may be several modules joined one below the other (queries, keys, values); their A's are
/// then joined too, so that one product gives `U = x Aᵀ` for all of them (Hu et al. 2021, eq. 3).
public struct PackedUpdate: Sendable {
    /// The up-projection of one module.
    public struct Part: Sendable {
        /// First output column of the module in the joined matrix.
        public let columnStart: Int
        /// First column of the module in U.
        public let rankStart: Int
        /// Columns of the module in U: its rank, rounded up to an even number.
        public let rankWidth: Int
        /// `[outputs, rankWidth]`, scaling folded in.
        public let up: PackedMatrix
    }

    /// `[U's width, inputs]`: the A's one below the other.
    public let down: PackedMatrix
    public let parts: [Part]
    /// DoRA's magnitude over norm for every output column of the joined matrix, 1 where a module is not
    /// adapted: `[1, outputs]`. nil without DoRA.
    public let columnScale: Matrix?

    /// Columns of U.
    public var width: Int { down.rows }

    /// Ranks are rounded up so that bf16 pairs along the contraction stay whole.
    public static func width(ofRank rank: Int) -> Int { (rank + 1) / 2 * 2 }

    /// Packs the adapted modules of one joined matrix.
    ///
    /// - Parameters:
    ///   - modules: The adapted modules with their first output column in the joined matrix; not empty.
    ///   - outputs: Output columns of the joined matrix.
    ///   - isPaired: Whether the joined matrix is paired: the kernels then want a part for each half.
    ///   - elementType: Type of the activations it will meet.
    ///   - norms: For DoRA: the row norms of `W + scaling · B A` of each module.
    public init(
        _ modules: [(module: AdaptedModule, columnStart: Int)], outputs: Int,
        isPaired: Bool = false, elementType: ElementType, compute: Compute, norms: [[Float]?] = []
    ) throws {
        guard let inputs = modules.first?.module.plan.module.inputs else {
            throw LoRAError(.tensors, "no module to pack")
        }
        let width = modules.reduce(0) { $0 + Self.width(ofRank: $1.module.plan.rank) }
        // The kernels add in whole panels of 32 outputs; where a module begins or ends inside one, the
        // B's of all modules become one matrix with zeros beside them.
        let isAligned = modules.allSatisfy {
            let end = $0.columnStart + $0.module.plan.module.outputs
            return $0.columnStart % 32 == 0 && (end % 32 == 0 || end == outputs)
        }
        let joined = try Matrix(rows: width, columns: inputs)
        let joinedUp = isAligned ? nil : try Matrix(rows: outputs, columns: width)
        var parts: [Part] = []
        var scale: [Float]?
        var rankStart = 0
        for (index, entry) in modules.enumerated() {
            let plan = entry.module.plan
            let rankWidth = Self.width(ofRank: plan.rank)
            try Self.copy(entry.module.a, columns: inputs, factor: 1, to: joined, from: rankStart)
            let up =
                try joinedUp?.columns(rankStart..<rankStart + rankWidth)
                ?? Matrix(rows: plan.module.outputs, columns: rankWidth)
            try Self.copy(
                entry.module.b, columns: plan.rank, factor: Float(plan.scaling), to: up,
                from: isAligned ? 0 : entry.columnStart)
            if isAligned {
                let columns = entry.columnStart..<entry.columnStart + plan.module.outputs
                for piece in Self.pieces(of: columns, outputs: outputs, isPaired: isPaired) {
                    let rows = try up.rows(
                        piece.lowerBound - columns.lowerBound..<piece.upperBound
                            - columns.lowerBound)
                    parts.append(
                        Part(
                            columnStart: piece.lowerBound, rankStart: rankStart,
                            rankWidth: rankWidth, up: try Self.packed(rows, elementType, compute)))
                }
            }
            rankStart += rankWidth
            if let magnitude = entry.module.magnitude, index < norms.count, let norm = norms[index]
            {
                if scale == nil { scale = [Float](repeating: 1, count: outputs) }
                for row in 0..<magnitude.count {
                    scale?[entry.columnStart + row] = magnitude[row] / norm[row]
                }
            }
        }
        if let joinedUp {
            parts = [
                Part(
                    columnStart: 0, rankStart: 0, rankWidth: width,
                    up: try Self.packed(joinedUp, elementType, compute))
            ]
        }
        down = try Self.packed(joined, elementType, compute)
        self.parts = parts
        columnScale = try scale.map { try Matrix(vector: $0) }
    }

    /// A module's columns as the kernels take them: in one, or cut where a paired matrix has its halves (Phi-3's
    /// `gate_up_proj`).
    static func pieces(of columns: Range<Int>, outputs: Int, isPaired: Bool) -> [Range<Int>] {
        let half = outputs / 2
        guard isPaired, columns.lowerBound < half, columns.upperBound > half else {
            return [columns]
        }
        return [columns.lowerBound..<half, half..<columns.upperBound]
    }

    private static func packed(
        _ matrix: Matrix, _ elementType: ElementType, _ compute: Compute
    ) throws -> PackedMatrix {
        try compute.pack(matrix, elementType)
    }

    /// Writes dense rows times a factor into a wider or equally wide float32 matrix.
    private static func copy(
        _ values: [Float], columns: Int, factor: Float, to matrix: Matrix, from firstRow: Int
    ) throws {
        try values.withUnsafeBufferPointer { source in
            for row in 0..<values.count / columns {
                let line = UnsafeBufferPointer(
                    rebasing: source[row * columns..<(row + 1) * columns])
                try matrix.withFloats(row: firstRow + row) { target in
                    for column in 0..<columns { target[column] = factor * line[column] }
                }
            }
        }
    }

    /// Bytes of the packed matrices.
    public var byteCount: Int {
        parts.reduce(down.layout.byteCount) { $0 + $1.up.layout.byteCount }
            + (columnScale?.storageByteCount ?? 0)
    }
}

extension AdaptedModule {
    /// The row norms of `W + scaling · B A`, by which DoRA divides its magnitudes (Liu et al. 2024, eq. 5).
    ///
    /// - Parameter weights: W, `[outputs, inputs]`, row-major.
    /// - Returns: `[outputs]`; sums in float64.
    public func rowNorms(base weights: [Float]) -> [Float] {
        let inputs = plan.module.inputs
        let rank = plan.rank
        let scaling = Float(plan.scaling)
        var row = [Float](repeating: 0, count: inputs)
        return (0..<plan.module.outputs).map { output in
            for column in 0..<inputs { row[column] = weights[output * inputs + column] }
            for component in 0..<rank {
                let factor = scaling * b[output * rank + component]
                if factor == 0 { continue }
                for column in 0..<inputs { row[column] += factor * a[component * inputs + column] }
            }
            var sum = 0.0
            for value in row { sum += Double(value) * Double(value) }
            return Float(sum.squareRoot())
        }
    }
}
