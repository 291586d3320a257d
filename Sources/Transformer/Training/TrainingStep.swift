import Kernels
import LoRA
import ModelFiles

/// Forward and backward pass of LoRA training over one base model.
///
/// Packed documents (spans of rows) go through the decoder with attention inside each span; the gradients
/// of what is trained are added up over any number of `accumulate` calls until `zeroGradients`. Frozen weights get
/// no gradients, nothing is computed backwards below the lowest adapted matrix, and logits exist only
/// where labels are, a part of the vocabulary (where the head is trained: some rows) at a time. Products are in the decoder's element type with
/// float32 sums; residual stream, parameters and gradients are float32.
///
/// Not thread-safe: one owner calls it. A `Compute` of its own.
public final class TrainingStep {
    /// One tensor of the adapter in the flat buffers.
    public struct Tensor: Sendable, Equatable {
        /// As PEFT names it.
        public let name: String
        public let shape: [Int]
        /// Its numbers in `parameters` and `gradients`, row-major.
        public let range: Range<Int>
    }

    public let decoder: Decoder
    public let compute: Compute
    /// The most tokens of one `accumulate`.
    public let maximumRows: Int

    let adapterState: TrainableAdapter
    let scratch: TrainingScratch
    /// One for each layer from the lowest adapted one on.
    let saved: [SavedLayer]
    /// The lowest layer of which something is trained, and the first of its products that the backward pass must
    /// reach (`TrainableAdapter.Layer.lowest`).
    let lowestLayer: Int
    let lowestProduct: Int
    let rope: RopeTables
    /// nil unless the head is trained.
    let headScratch: HeadScratch?
    var ends: TrainableEnds { adapterState.ends }
    /// nil without a dropout.
    private let dropoutSeed: UInt64?
    /// What `beginStep` was told, and how many documents the step has seen since.
    private var stepNumber = 0
    private var documentCount = 0
    /// Of the pass that is being computed; nil without one.
    private(set) var dropout: InputDropout?

    /// All A and B, magnitudes, biases and whole matrices as one float32 vector `[1, count]`; call `parametersChanged` after writing to it.
    public var parameters: Matrix { adapterState.parameters }
    /// Their gradients in the same order.
    public var gradients: Matrix { adapterState.gradients }
    /// Which numbers of the flat buffers belong to which tensor.
    public var tensors: [Tensor] { adapterState.tensors }

    /// - Parameters:
    ///   - adapter: Where training starts.
    ///   - maximumRows: The most tokens of one `accumulate`; decides memory (`byteCount`).
    ///   - dropoutSeed: Of the masks of `lora_dropout`; nil: nothing is dropped.
    /// - Throws: `TransformerError.training` naming what cannot be trained; `KernelError.memory`.
    public init(
        decoder: Decoder, adapter: Adapter, compute: Compute, maximumRows: Int,
        dropoutSeed: UInt64? = nil
    ) throws {
        self.decoder = decoder
        self.compute = compute
        self.maximumRows = maximumRows
        let dropsOut = dropoutSeed != nil && adapter.config.dropout > 0
        self.dropoutSeed = dropsOut ? dropoutSeed : nil
        let state = try TrainableAdapter(
            adapter, decoder: decoder, rows: maximumRows, dropsOut: dropsOut, compute: compute)
        adapterState = state
        let config = decoder.config
        // Where no layer has anything, the pass ends in the last one.
        let lowest =
            state.ends.reachesEmbedding
            ? 0 : state.layers.firstIndex { $0.lowest != nil } ?? config.layerCount - 1
        lowestLayer = lowest
        lowestProduct =
            state.ends.reachesEmbedding
            ? -1 : state.layers[lowest].lowest ?? LayerProduct.down.rawValue
        headScratch =
            state.ends.trainsHead
            ? try HeadScratch(
                config, rows: maximumRows, decoder.elementType,
                width: state.ends.headUpdate?.width ?? 0) : nil
        scratch = try TrainingScratch(
            config, rows: maximumRows, decoder.elementType, uWidth: state.maximumWidth,
            scalesColumns: state.hasColumnScales, dropsOut: dropsOut)
        saved = try state.layers[lowest...].map {
            try SavedLayer(
                config, rows: maximumRows, decoder.elementType,
                updateWidths: $0.updates.map { $0?.width })
        }
        rope = try RopeTables(config, positions: min(config.maximumPositions, maximumRows))
    }

    /// Adds one packed batch's loss gradients to `gradients`.
    ///
    /// - Parameters:
    ///   - tokens: Documents one after the other.
    ///   - spanLengths: Tokens of each document; their sum is the number of tokens.
    ///   - labels: One a token, as Hugging Face aligns them: `labels[i]` is `tokens[i]` where it is
    ///     trained, negative where not. The row before it in the same span predicts it; the first token
    ///     of a span is never predicted.
    ///   - lossWeight: Multiplies every label's gradient; 1 / (labels of the whole accumulated batch).
    /// - Returns: The sum of the labels' losses (natural logarithm, not weighted) and how many there are.
    ///   Without labels nothing is computed.
    /// - Throws: `TransformerError.batch` before anything is computed.
    @discardableResult
    public func accumulate(
        tokens: [Int32], spanLengths: [Int], labels: [Int32], lossWeight: Float
    ) throws -> (lossSum: Double, labelCount: Int) {
        let batch = try LabelledBatch(
            tokens: tokens, spanLengths: spanLengths, labels: labels, limit: maximumRows,
            rope: rope)
        dropout = nextDropout(batch)
        defer { dropout = nil }
        if batch.targets.isEmpty { return (0, 0) }
        try forward(batch, saving: true)
        let sum = try loss(batch, gradientScale: lossWeight)
        try backward(batch)
        return (sum, batch.targets.count)
    }

    /// The loss of a packed batch without gradients; parameters as in `accumulate`.
    public func evaluate(
        tokens: [Int32], spanLengths: [Int], labels: [Int32]
    ) throws -> (lossSum: Double, labelCount: Int) {
        let batch = try LabelledBatch(
            tokens: tokens, spanLengths: spanLengths, labels: labels, limit: maximumRows,
            rope: rope)
        if batch.targets.isEmpty { return (0, 0) }
        try forward(batch, saving: false)
        return (try loss(batch, gradientScale: nil), batch.targets.count)
    }

    public func zeroGradients() { gradients.fill(0) }

    /// Zeroes the gradients for a new optimizer step and names it, from 0: the masks of a dropout follow from seed, step,
    /// document (in the order of `accumulate`), position, module and column alone.
    public func beginStep(_ number: Int) {
        zeroGradients()
        (stepNumber, documentCount) = (number, 0)
    }

    /// The masks of a pass whose documents follow those of the step so far.
    private func nextDropout(_ batch: LabelledBatch) -> InputDropout? {
        guard let seed = dropoutSeed, let room = scratch.dropped else { return nil }
        var document = documentCount - 1
        let keys = batch.spans.positions.map { position in
            if position == 0 { document += 1 }
            return InputDropout.key(
                seed: seed, step: stepNumber, document: document, position: Int(position))
        }
        documentCount = document + 1
        return InputDropout(
            rows: DropoutMask(probability: adapterState.config.dropout, keys: keys), room: room)
    }

    /// Makes the packed forms of A and B anew; after an optimizer step or a restored checkpoint.
    public func parametersChanged() throws { try adapterState.repack(compute) }

    /// The adapter as it is now, to be written or served.
    public func adapter() -> Adapter { adapterState.snapshot() }
}

/// A packed batch with its labels moved to the rows that predict them.
struct LabelledBatch {
    let tokens: [Int32]
    let spans: RowSpans
    /// Each row in the tables of rotations.
    let ropeRows: [[Int32]]
    /// Rows that predict a label, and the label of each.
    let rows: [Int32]
    let targets: [Int32]

    init(
        tokens: [Int32], spanLengths: [Int], labels: [Int32], limit: Int, rope: RopeTables
    ) throws {
        guard tokens.count == labels.count else {
            throw TransformerError(.batch, "\(labels.count) labels for \(tokens.count) tokens")
        }
        guard tokens.count <= limit else {
            throw TransformerError(
                .batch, "\(tokens.count) tokens; this step was made for at most \(limit)")
        }
        guard spanLengths.allSatisfy({ $0 > 0 && $0 <= rope.positions }) else {
            throw TransformerError(
                .batch, "a span is empty or longer than \(rope.positions) positions")
        }
        spans = try RowSpans(lengths: spanLengths)
        guard spans.rows == tokens.count else {
            throw TransformerError(
                .batch, "spans of \(spans.rows) tokens in all for \(tokens.count) tokens")
        }
        self.tokens = tokens
        let positions = spans.positions
        let lengths = spanLengths.flatMap { repeatElement(Int32($0), count: $0) }
        ropeRows = rope.rows(positions, lengths: lengths)
        var rows: [Int32] = []
        var targets: [Int32] = []
        for row in 1..<max(tokens.count, 1) where labels[row] >= 0 && positions[row] > 0 {
            rows.append(Int32(row - 1))
            targets.append(labels[row])
        }
        self.rows = rows
        self.targets = targets
    }
}
