import Kernels
import LoRA
import ModelFiles

/// A matrix trained whole (`modules_to_save`), `[V, D]`: its float32 numbers and gradients, and its packed form.
struct TrainableMatrix {
    let module: AdaptableModule
    let value: Matrix
    let gradient: Matrix
    let packed: PackedMatrix

    init(_ module: AdaptableModule, value: Matrix, gradient: Matrix, _ type: Kernels.ElementType)
        throws
    {
        self.module = module
        self.value = value
        self.gradient = gradient
        packed = try PackedMatrix(
            PackedMatrix.Layout(rows: value.rows, columns: value.columns, type))
    }

    func repack(_ compute: Compute) throws { try compute.pack([value], into: packed) }
}

/// The low-rank update of token embeddings in training: row t of Aᵀ times (s B)ᵀ is added to row t of the embedding.
///
/// For a token t with the gradient g of its embedding: `dB += s · gᵀ A[:, t]ᵀ` and `dA[:, t] += s · Bᵀ g`
/// (Hu et al. 2021, eq. 3, of a one-hot input). PEFT drops nothing out here, whatever `lora_dropout` is.
struct TrainableEmbedding {
    let module: TrainableModule
    /// `[D, width]`, scaling folded in.
    private let up: PackedMatrix
    private let staging: Matrix
    /// `[M, width]`, of the last forward pass, in float32 and the element type.
    private let gathered: Matrix
    private let u: Matrix
    /// `[M, width]`
    private let uGradient: Matrix

    init(_ module: TrainableModule, rows: Int, _ type: Kernels.ElementType) throws {
        self.module = module
        let width = PackedUpdate.width(ofRank: module.plan.rank)
        let outputs = module.plan.module.outputs
        up = try PackedMatrix(PackedMatrix.Layout(rows: outputs, columns: width, type))
        staging = try Matrix(rows: outputs, columns: width)
        gathered = try Matrix(rows: rows, columns: width)
        u = try Matrix(rows: rows, columns: width, type)
        uGradient = try Matrix(rows: rows, columns: width)
    }

    func repack(_ compute: Compute) throws {
        try compute.combine(
            module.b, alpha: Float(module.plan.scaling),
            into: staging.columns(0..<module.plan.rank))
        try compute.pack([staging], into: up)
    }

    /// - Parameter residual: `[tokens, D]` float32; gets `scale` times the update.
    func forward(_ tokens: [Int32], scale: Float, to residual: Matrix, _ compute: Compute) throws {
        let table = module.a
        for (row, token) in tokens.enumerated() {
            try gathered.withFloats(row: row) { values in
                for rank in 0..<module.plan.rank { values[rank] = table[rank, Int(token)] }
            }
        }
        let rows = 0..<tokens.count
        try compute.copy(gathered.rows(rows), to: u.rows(rows))
        try compute.linear(u.rows(rows), up, into: residual, alpha: scale, accumulate: true)
    }

    /// - Parameter gradient: `[tokens, D]`, element type of the products.
    func backward(_ tokens: [Int32], _ gradient: Matrix, scale: Float, _ compute: Compute) throws {
        let rows = 0..<tokens.count
        try compute.contract(
            gradient, u.rows(rows).columns(0..<module.plan.rank), into: module.bGradient,
            alpha: scale * Float(module.plan.scaling))
        let through = try uGradient.rows(rows)
        try compute.linearBackwardInput(gradient, up, into: through, alpha: scale)
        let table = module.aGradient
        for (row, token) in tokens.enumerated() {
            try through.withFloats(row: row) { values in
                for rank in 0..<module.plan.rank { table[rank, Int(token)] += values[rank] }
            }
        }
    }
}

/// What is trained of embedding and head.
struct TrainableEnds {
    let embedding: TrainableMatrix?
    let embeddingUpdate: TrainableEmbedding?
    let head: TrainableMatrix?
    let headUpdate: TrainableUpdate?

    /// Whether the backward pass must reach the embedding.
    var reachesEmbedding: Bool { embedding != nil || embeddingUpdate != nil }
    var trainsHead: Bool { head != nil || headUpdate != nil }

    func repack(_ compute: Compute) throws {
        try embedding?.repack(compute)
        try embeddingUpdate?.repack(compute)
        try head?.repack(compute)
        try headUpdate?.repack(compute)
    }
}

/// Room for the logits of a trained head, some rows at a time.
struct HeadScratch {
    /// Most numbers of one block of logits.
    private static let maximumNumbers = 1 << 24

    /// `[R, V]` float32; their gradient after the loss.
    let logits: Matrix
    /// Logits after the soft cap; nil without one.
    let capped: Matrix?
    /// The gradient in the type of the products; nil where that is float32.
    let narrow: Matrix?
    /// U of the head's update and its gradient, `[R, width]`.
    let u: Matrix
    let uGradient: Matrix

    static func rows(_ config: ModelConfig, of rows: Int) -> Int {
        max(1, min(rows, maximumNumbers / config.vocabularySize))
    }

    static func byteCount(
        _ config: ModelConfig, rows: Int, _ type: Kernels.ElementType, width: Int
    ) -> Int {
        let rows = Self.rows(config, of: rows)
        let perLogit =
            4 + (config.logitSoftCap == nil ? 0 : 4) + (type == .float32 ? 0 : type.byteCount)
        return rows * (config.vocabularySize * perLogit + 2 * type.byteCount * width)
    }

    init(_ config: ModelConfig, rows: Int, _ type: Kernels.ElementType, width: Int) throws {
        let rows = Self.rows(config, of: rows)
        let vocabulary = config.vocabularySize
        logits = try Matrix(rows: rows, columns: vocabulary)
        capped = config.logitSoftCap == nil ? nil : try Matrix(rows: rows, columns: vocabulary)
        narrow = type == .float32 ? nil : try Matrix(rows: rows, columns: vocabulary, type)
        u = try Matrix(rows: rows, columns: width, type)
        uGradient = try Matrix(rows: rows, columns: width, type)
    }
}
