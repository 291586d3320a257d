import Kernels
import LoRA
import ModelFiles

/// What the backward pass needs of one layer. M rows; shapes otherwise as in `DecoderWeights`.
struct SavedLayer {
    /// Queries and keys before their norms, `[M, heads · headDimension]`, and 1 / rms of each part, `[M, parts]`.
    struct HeadNorms {
        let query: Matrix
        let key: Matrix
        let queryInverse: Matrix
        let keyInverse: Matrix
    }

    /// Outputs of the two blocks before their norms, `[M, D]` float32, and their statistics.
    struct OutputNorms {
        let attention: Matrix
        let attentionStatistics: NormStatistics
        let feedForward: Matrix
        let feedForwardStatistics: NormStatistics
    }

    /// Input of the first norm, `[M, D]`, and its statistics.
    let attentionInput: Matrix
    let attentionStatistics: NormStatistics
    /// Its output, `[M, D]`.
    let attentionNormed: Matrix
    /// Rotated queries and keys, and values, `[M, Q]`.
    let queryKeyValue: Matrix
    /// nil where queries and keys are not normalized.
    let headNorms: HeadNorms?
    /// nil where blocks are added as they are.
    let outputNorms: OutputNorms?
    /// `[M, heads · headDimension]`
    let attended: Matrix
    /// `[heads, M]`
    let logSum: Matrix
    /// Input of the second norm, `[M, D]`, and its statistics.
    let feedForwardInput: Matrix
    let feedForwardStatistics: NormStatistics
    let feedForwardNormed: Matrix
    /// gate | up before the activation, `[M, 2F]`, without a gate `[M, F]`; the backward pass puts their gradients here.
    let gateUp: Matrix
    /// U of the four matrices with updates, `[M, width]`.
    let u: [Matrix?]

    init(
        _ config: ModelConfig, rows: Int, _ type: Kernels.ElementType, updateWidths: [Int?]
    ) throws {
        let width = config.hiddenSize
        let isCentered = config.norm == .layer
        func statistics() throws -> NormStatistics {
            try NormStatistics(rows: rows, isCentered: isCentered)
        }
        attentionInput = try Matrix(rows: rows, columns: width, type)
        attentionStatistics = try statistics()
        attentionNormed = try Matrix(rows: rows, columns: width, type)
        queryKeyValue = try Matrix(
            rows: rows, columns: config.queryWidth + 2 * config.keyValueWidth, type)
        headNorms =
            config.queryKeyNorm == .none
            ? nil
            : HeadNorms(
                query: try Matrix(rows: rows, columns: config.queryWidth, type),
                key: try Matrix(rows: rows, columns: config.keyValueWidth, type),
                queryInverse: try Matrix(rows: rows, columns: config.queryNormGroups),
                keyInverse: try Matrix(rows: rows, columns: config.keyNormGroups))
        outputNorms =
            config.normPlacement == .before
            ? nil
            : OutputNorms(
                attention: try Matrix(rows: rows, columns: width),
                attentionStatistics: try statistics(),
                feedForward: try Matrix(rows: rows, columns: width),
                feedForwardStatistics: try statistics())
        attended = try Matrix(rows: rows, columns: config.queryWidth, type)
        logSum = try Matrix(rows: config.headCount, columns: rows)
        feedForwardInput = try Matrix(rows: rows, columns: width, type)
        feedForwardStatistics = try statistics()
        feedForwardNormed = try Matrix(rows: rows, columns: width, type)
        gateUp = try Matrix(rows: rows, columns: config.outputs(of: .gateUp), type)
        u = try updateWidths.map { try $0.map { try Matrix(rows: rows, columns: $0, type) } }
    }
}

/// Matrices that one layer after the other uses.
struct TrainingScratch {
    /// Residual stream and its gradient, `[M, D]` float32.
    let residual: Matrix
    let residualGradient: Matrix
    /// The gradient in the type of the products, `[M, D]`.
    let narrowGradient: Matrix
    /// Gradient of a norm's output, `[M, D]` float32; hidden states of the rows with labels before that.
    let normGradient: Matrix
    /// act(gate) · up, `[M, F]`, and its gradient.
    let gated: Matrix
    let gatedGradient: Matrix
    /// Gradient of attention's output, `[M, heads · headDimension]`.
    let attendedGradient: Matrix
    /// Gradient of queries, keys and values, `[M, Q]`.
    let queryKeyValueGradient: Matrix
    /// dU, `[M, widest U]`.
    let uGradient: Matrix
    /// What a dropout leaves of a product's input, `[M, widest input]`; nil without one.
    let dropped: Matrix?
    /// A product before its columns are scaled, `[M, widest product]` float32; nil without DoRA.
    let wide: Matrix?
    /// `[M, D]`: normed hidden states of the rows with labels.
    let hidden: Matrix
    /// Residual rows with labels, `[M, D]` float32, and the statistics of the final norm.
    let labelled: Matrix
    let labelledStatistics: NormStatistics
    /// `[1, M]`
    let losses: Matrix

    init(
        _ config: ModelConfig, rows: Int, _ type: Kernels.ElementType, uWidth: Int,
        scalesColumns: Bool, dropsOut: Bool
    ) throws {
        let width = config.hiddenSize
        residual = try Matrix(rows: rows, columns: width)
        residualGradient = try Matrix(rows: rows, columns: width)
        narrowGradient = try Matrix(rows: rows, columns: width, type)
        normGradient = try Matrix(rows: rows, columns: width)
        gated = try Matrix(rows: rows, columns: config.intermediateSize, type)
        gatedGradient = try Matrix(rows: rows, columns: config.intermediateSize, type)
        attendedGradient = try Matrix(rows: rows, columns: config.queryWidth, type)
        queryKeyValueGradient = try Matrix(
            rows: rows, columns: config.queryWidth + 2 * config.keyValueWidth, type)
        uGradient = try Matrix(rows: rows, columns: uWidth, type)
        dropped =
            dropsOut ? try Matrix(rows: rows, columns: Self.widestInput(config), type) : nil
        wide =
            scalesColumns ? try Matrix(rows: rows, columns: Self.widestProduct(config)) : nil
        hidden = try Matrix(rows: rows, columns: width, type)
        labelled = try Matrix(rows: rows, columns: width)
        labelledStatistics = try NormStatistics(rows: rows, isCentered: config.norm == .layer)
        losses = try Matrix.vector(rows)
    }
}

extension TrainingScratch {
    static func widestInput(_ config: ModelConfig) -> Int {
        max(config.hiddenSize, config.queryWidth, config.intermediateSize)
    }

    static func widestProduct(_ config: ModelConfig) -> Int {
        LayerProduct.allCases.reduce(0) { max($0, config.outputs(of: $1)) }
    }
}

extension TrainingStep {
    /// Bytes that a training step of this shape keeps, weights of the base left out.
    ///
    /// - Parameters:
    ///   - plan: What is trained.
    ///   - rows: The most tokens of one `accumulate`.
    ///   - dropsOut: Whether there is a dropout.
    ///   - optimizerStates: Float32 copies per parameter beside values and gradients (2 for AdamW).
    public static func byteCount(
        config: ModelConfig, plan: AdapterPlan, rows: Int, elementType: Kernels.ElementType,
        dropsOut: Bool = false, optimizerStates: Int = 2
    ) -> Int {
        let element = elementType.byteCount
        let width = config.hiddenSize
        let projected = config.queryWidth + 2 * config.keyValueWidth
        let inner = config.intermediateSize
        let plans = plan.modules
        let ends = plans.map(\.module) + plan.saved
        let lowest =
            ends.contains { $0.kind == .embedding }
            ? 0 : plan.paths.compactMap(layerIndex).min() ?? config.layerCount - 1
        let uWidth = plans.reduce(0) { $0 + PackedUpdate.width(ofRank: $1.rank) }
        let headNorms =
            config.queryKeyNorm == .none
            ? 0
            : rows
                * (element * (config.queryWidth + config.keyValueWidth)
                    + 4 * (config.headCount + config.keyValueHeadCount))
        let outputNorms = config.normPlacement == .before ? 0 : 8 * rows * (width + 32)
        let perLayer =
            headNorms + outputNorms + rows * element
            * (4 * width + projected + config.queryWidth + config.outputs(of: .gateUp))
            + 4 * rows * (config.headCount + 32)
        let scratch =
            rows * element * (2 * width + 2 * inner + projected + config.queryWidth)
            + 16 * rows * width
            + (plans.contains(where: \.usesDoRA)
                ? 4 * rows * TrainingScratch.widestProduct(config) : 0)
            + (dropsOut ? rows * element * TrainingScratch.widestInput(config) : 0)
            + (ends.contains { $0.kind == .head }
                ? HeadScratch.byteCount(
                    config, rows: rows, elementType,
                    width: plans.last { $0.module.kind == .head }
                        .map { PackedUpdate.width(ofRank: $0.rank) } ?? 0) : 0)
        let parameters = TrainableAdapter.parameterCount(
            modules: plans, saved: plan.saved, biases: plan.biases)
        // Values, gradients, optimizer, and the packed forms with their float32 staging; a whole matrix has one form.
        let whole = plan.saved.reduce(0) { $0 + $1.inputs * $1.outputs }
        let adapter =
            parameters * 4 * (2 + optimizerStates) + (parameters - whole) * (3 * element + 4)
            + whole * element
        return perLayer * (config.layerCount - lowest) + scratch + rows * element * uWidth + adapter
    }

    private static func layerIndex(of path: String) -> Int? {
        path.split(separator: ".").lazy.compactMap { Int($0) }.first
    }
}

extension AdapterPlan {
    /// Of everything that is trained.
    fileprivate var paths: [String] {
        modules.map(\.module.path) + saved.map(\.path) + biases.map(\.module.path)
    }
}
