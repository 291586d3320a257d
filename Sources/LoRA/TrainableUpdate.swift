import Kernels

/// One module of a matrix in training: views into the flat buffers of parameters and gradients.
public struct TrainableModule: Sendable {
    public let plan: ModulePlan
    /// First output column of the module in the joined matrix.
    public let columnStart: Int
    /// A, `[rank, inputs]` float32.
    public let a: Matrix
    /// B, `[outputs, rank]` float32.
    public let b: Matrix
    /// Gradients, shaped like A and B.
    public let aGradient: Matrix
    public let bGradient: Matrix
    /// DoRA's magnitudes and their gradients, `[1, outputs]` float32.
    public let magnitude: Matrix?
    public let magnitudeGradient: Matrix?

    public init(
        plan: ModulePlan, columnStart: Int, a: Matrix, b: Matrix, aGradient: Matrix,
        bGradient: Matrix, magnitude: Matrix? = nil, magnitudeGradient: Matrix? = nil
    ) {
        self.plan = plan
        self.columnStart = columnStart
        self.a = a
        self.b = b
        self.aGradient = aGradient
        self.bGradient = bGradient
        self.magnitude = magnitude
        self.magnitudeGradient = magnitudeGradient
    }

    /// Its columns of the joined matrix.
    var columns: Range<Int> { columnStart..<columnStart + plan.module.outputs }
}

/// The low-rank update of one (possibly joined) matrix in training, forward and backward.
///
/// Forward `U = x Aᵀ`, `y += U (s B)ᵀ`; backward `dU = dy (s B)`, `dB += s · dyᵀ U`, `dA += dUᵀ x`,
/// `dx += dU A` (Hu et al. 2021, eq. 3; s is the module's scaling). The products run on packed forms of the
/// float32 parameters, which `repack` makes anew after each optimizer step. With DoRA `columnScale` stands before
/// the sum of base and update (`MagnitudeScale`).
public struct TrainableUpdate: Sendable {
    private struct Part: Sendable {
        let columns: Range<Int>
        let ranks: Range<Int>
        let up: PackedMatrix
        /// Float32 form of `up`, `[outputs, ranks]`.
        let staging: Matrix
        /// `up` as the forward product takes it: itself, or its two halves where the joined matrix is paired.
        let pieces: [(columns: Range<Int>, up: PackedMatrix)]
    }

    public let modules: [TrainableModule]
    /// Columns of U.
    public let width: Int
    private let rankStarts: [Int]
    private let parts: [Part]
    /// `[width, inputs]`: the A's one below the other.
    private let down: PackedMatrix
    private let downStaging: Matrix
    /// `[inputs, width]`
    private let downTransposed: PackedMatrix
    private let magnitudes: MagnitudeScale?
    /// Each module's A alone, `[rank width, inputs]`: a dropout gives each an input of its own. Empty without dropout.
    private let downs: [PackedMatrix]

    /// DoRA's factor of each output column, `[1, outputs]`; nil without DoRA.
    public var columnScale: Matrix? { magnitudes?.scale }

    /// - Parameters:
    ///   - modules: Not empty; all with the same inputs.
    ///   - outputs: Output columns of the joined matrix.
    ///   - base: The joined matrix, `[outputs, inputs]`; read by DoRA.
    ///   - dropsOut: Whether `forward` and `backward` will be given masks.
    public init(
        _ modules: [TrainableModule], outputs: Int, base: PackedMatrix, dropsOut: Bool = false,
        compute: Compute
    ) throws {
        let elementType = base.elementType
        guard let inputs = modules.first?.plan.module.inputs else {
            throw LoRAError(.tensors, "no module to train")
        }
        self.modules = modules
        var starts: [Int] = []
        var width = 0
        for module in modules {
            starts.append(width)
            width += PackedUpdate.width(ofRank: module.plan.rank)
        }
        self.width = width
        rankStarts = starts
        func part(_ columns: Range<Int>, _ ranks: Range<Int>) throws -> Part {
            func packed(_ columns: Range<Int>) throws -> PackedMatrix {
                try PackedMatrix(
                    PackedMatrix.Layout(rows: columns.count, columns: ranks.count, elementType))
            }
            let up = try packed(columns)
            let pieces = PackedUpdate.pieces(of: columns, outputs: outputs, isPaired: base.paired)
            return Part(
                columns: columns, ranks: ranks, up: up,
                staging: try Matrix(rows: columns.count, columns: ranks.count),
                pieces: try pieces.map { ($0, $0 == columns ? up : try packed($0)) })
        }
        let isAligned = modules.allSatisfy {
            let range = $0.columns
            return range.lowerBound % 32 == 0
                && (range.upperBound % 32 == 0 || range.upperBound == outputs)
        }
        if isAligned {
            parts = try zip(modules, starts).map { module, start in
                try part(
                    module.columns, start..<start + PackedUpdate.width(ofRank: module.plan.rank))
            }
        } else {
            parts = [try part(0..<outputs, 0..<width)]
        }
        downStaging = try Matrix(rows: width, columns: inputs)
        down = try PackedMatrix(
            PackedMatrix.Layout(rows: width, columns: inputs, elementType))
        downTransposed = try PackedMatrix(
            PackedMatrix.Layout(rows: inputs, columns: width, elementType))
        downs =
            dropsOut
            ? try modules.map {
                try PackedMatrix(
                    PackedMatrix.Layout(
                        rows: PackedUpdate.width(ofRank: $0.plan.rank), columns: inputs,
                        elementType))
            } : []
        magnitudes =
            modules.contains { $0.magnitude != nil }
            ? try MagnitudeScale(modules, base: base, compute: compute) : nil
        try repack(compute)
    }

    /// Makes the packed forms from the parameters.
    public func repack(_ compute: Compute) throws {
        for (index, module) in modules.enumerated() {
            let rank = module.plan.rank
            let start = rankStarts[index]
            try compute.copy(module.a, to: downStaging.rows(start..<start + rank))
            let part = parts[parts.count == 1 ? 0 : index]
            let rows = module.columnStart - part.columns.lowerBound
            let ranks = start - part.ranks.lowerBound
            try compute.combine(
                module.b, alpha: Float(module.plan.scaling),
                into: part.staging.rows(rows..<rows + module.plan.module.outputs)
                    .columns(ranks..<ranks + rank))
        }
        for part in parts {
            try compute.pack([part.staging], into: part.up)
            for (columns, up) in part.pieces where columns != part.columns {
                let start = columns.lowerBound - part.columns.lowerBound
                try compute.pack([part.staging.rows(start..<start + columns.count)], into: up)
            }
        }
        try compute.pack([downStaging], into: down)
        try compute.transpose(down, into: downTransposed)
        for (index, down) in downs.enumerated() {
            let start = rankStarts[index]
            try compute.pack([downStaging.rows(start..<start + down.rows)], into: down)
        }
        try magnitudes?.refresh(
            down: down, staging: downStaging, rankStarts: rankStarts, compute: compute)
    }

    /// `U = x Aᵀ`; returns the terms that the base product adds.
    ///
    /// - Parameters:
    ///   - x: `[rows, inputs]`
    ///   - u: `[rows, width]`, kept for the backward pass.
    ///   - dropout: Leaves out numbers of x, others for each module, as PEFT's `lora_dropout` does.
    public func forward(
        _ x: Matrix, into u: Matrix, dropout: InputDropout? = nil, _ compute: Compute
    ) throws -> [LowRankTerm] {
        guard let dropout else {
            try compute.linear(x, down, into: u)
            return try terms(u)
        }
        for (index, down) in downs.enumerated() {
            let start = rankStarts[index]
            try compute.linear(
                dropout.dropped(x, modules[index], compute), down,
                into: u.columns(start..<start + down.rows))
        }
        return try terms(u)
    }

    /// The terms that the base product adds for a U that is there.
    public func terms(_ u: Matrix) throws -> [LowRankTerm] {
        try parts.flatMap { part in
            try part.pieces.map { columns, up in
                LowRankTerm(
                    rows: 0..<u.rows, firstColumn: columns.lowerBound,
                    u: try u.columns(part.ranks), up: up)
            }
        }
    }

    /// With DoRA: the magnitudes' gradients, and dy becomes the gradient of the sum before it was scaled.
    ///
    /// - Parameters:
    ///   - dy: `[rows, outputs]`, changed in place.
    ///   - z: `[rows, outputs]` float32: `x Wᵀ` with the update, not scaled.
    public func backwardMagnitude(_ dy: Matrix, z: Matrix, _ compute: Compute) throws {
        try magnitudes?.backward(dy, z: z, compute: compute)
    }

    /// `dU = dy (s B)` and `dB += s · dyᵀ U`; returns the term that the input's gradient adds, which with a dropout is
    /// not one term: `addInputGradient` adds it then.
    ///
    /// - Parameters:
    ///   - dy: `[rows, outputs]`
    ///   - u: As `forward` left it.
    ///   - du: `[rows, width]`, overwritten.
    public func backward(
        _ dy: Matrix, u: Matrix, into du: Matrix, _ compute: Compute
    ) throws -> [LowRankTerm] {
        for part in parts {
            try compute.linearBackwardInput(
                dy.columns(part.columns), part.up, into: du.columns(part.ranks))
        }
        for (index, module) in modules.enumerated() {
            let columns = module.columns
            let ranks = rankStarts[index]..<rankStarts[index] + module.plan.rank
            try compute.contract(
                dy.columns(columns), u.columns(ranks), into: module.bGradient,
                alpha: Float(module.plan.scaling))
        }
        return downs.isEmpty ? [LowRankTerm(rows: 0..<dy.rows, u: du, up: downTransposed)] : []
    }

    /// `dx += mask · (dU A)` of every module: what the terms of `backward` are without a dropout.
    ///
    /// - Parameter dx: `[rows, inputs]`
    public func addInputGradient(
        _ du: Matrix, dropout: InputDropout, to dx: Matrix, _ compute: Compute
    ) throws {
        for (index, down) in downs.enumerated() {
            let start = rankStarts[index]
            let through = try dropout.room.rows(0..<dx.rows).columns(0..<dx.columns)
            try compute.linearBackwardInput(
                du.columns(start..<start + down.rows), down, into: through)
            try compute.dropOut(
                through, dropout.mask(modules[index]), into: dx, accumulate: true)
        }
    }

    /// `dA += dUᵀ x`, with a dropout of what was left of x.
    public func accumulateDownGradient(
        _ x: Matrix, du: Matrix, dropout: InputDropout? = nil, _ compute: Compute
    ) throws {
        for (index, module) in modules.enumerated() {
            let ranks = rankStarts[index]..<rankStarts[index] + module.plan.rank
            try compute.contract(
                du.columns(ranks), dropout?.dropped(x, module, compute) ?? x,
                into: module.aGradient)
        }
    }
}
