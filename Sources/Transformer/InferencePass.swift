import Kernels
import LoRA
import ModelFiles

/// The forward pass for inference, with its KV memory and its workspace.
///
/// `run` takes a ragged batch: chunks of prompts and single decode steps of many sequences, each through
/// its own adapter or none. A row's logits have the same bits alone, in any batch, and however its prompt
/// was cut into chunks. Nothing is allocated while layers run. One owner uses it at a time.
///
/// The owner hands out KV pages by `pages` (64 positions each, for all layers and heads) and names them in
/// `RaggedBatch.append`; whole pages of a common beginning may be shared between sequences that go through
/// the same adapter.
public final class InferencePass {
    public let decoder: Decoder
    public let compute: Compute
    /// The most rows of one batch.
    public let maximumRows: Int
    /// The most rows that may ask for logits in one batch.
    public let maximumLogitRows: Int
    /// No row may stand at or beyond this position.
    public let maximumPositions: Int
    /// Who holds which page of KV memory.
    public var pages: PageAllocator
    /// `[maximumLogitRows, V]` float32; which row belongs to which span says `logitRow`.
    public let logits: Matrix

    let cache: KVCache
    private let rope: RopeTables
    private let workspace: Workspace
    private var product: AdaptedProduct
    private var all = RowSet()
    private var wanted = RowSet()
    private var tokens: [Int32] = []
    private var wantedRows: [Int32] = []
    private var order: [Int] = []
    private var firstLogitRow: [Int] = []
    /// The batch's rows in each table of rotations, and its sequences' lengths where they matter there.
    private var ropeRows: [[Int32]] = []
    private var lengths: [Int32] = []

    /// Matrices of one pass; rows are those of the batch. Shapes as in `DecoderWeights`.
    private struct Workspace {
        /// Residual stream, `[rows, D]` float32.
        let residual: Matrix
        /// The residual rows that give logits.
        let wantedResidual: Matrix
        /// `[rows, D]`
        let normed: Matrix
        /// `[rows, Q]`
        let queryKeyValue: Matrix
        /// `[rows, heads · headDimension]`, of the rows that give logits.
        let wantedQuery: Matrix
        /// `[rows, heads · headDimension]`
        let attended: Matrix
        /// `[rows, F]`
        let gated: Matrix
        /// A block's output before its norm, or learned positions before they are added: `[rows, D]` float32;
        /// nil where there is neither.
        let blockOutput: Matrix?

        init(_ config: ModelConfig, rows: Int, wanted: Int, _ type: Kernels.ElementType) throws {
            let width = config.hiddenSize
            residual = try Matrix(rows: rows, columns: width)
            wantedResidual = try Matrix(rows: wanted, columns: width)
            normed = try Matrix(rows: rows, columns: width, type)
            queryKeyValue = try Matrix(
                rows: rows, columns: config.queryWidth + 2 * config.keyValueWidth, type)
            wantedQuery = try Matrix(rows: wanted, columns: config.queryWidth, type)
            attended = try Matrix(rows: rows, columns: config.queryWidth, type)
            gated = try Matrix(rows: rows, columns: config.intermediateSize, type)
            blockOutput =
                config.normPlacement == .before && !config.learnedPositions
                ? nil : try Matrix(rows: rows, columns: width)
        }
    }

    /// Bytes of one page of KV memory.
    public static func pageByteCount(_ decoder: Decoder) -> Int {
        KVCache.pageByteCount(
            layers: decoder.config.layerCount, heads: decoder.config.keyValueHeadCount,
            headDim: decoder.config.headDimension, decoder.elementType)
    }

    /// - Parameters:
    ///   - maximumRows: The most tokens of one batch (decode rows and chunk together).
    ///   - maximumLogitRows: The most rows of logits of one batch; each takes 4·V bytes.
    ///   - maximumPositions: Bounds every sequence; at most `config.maximumPositions` makes sense.
    ///   - pageCount: Pages of KV memory, `pageByteCount` each.
    /// - Throws: `KernelError.memory`.
    public init(
        decoder: Decoder, compute: Compute, maximumRows: Int, maximumLogitRows: Int,
        maximumPositions: Int, pageCount: Int
    ) throws {
        let config = decoder.config
        self.decoder = decoder
        self.compute = compute
        self.maximumRows = maximumRows
        self.maximumLogitRows = maximumLogitRows
        // There is no row of the table for what lies beyond it.
        let maximumPositions =
            config.learnedPositions
            ? min(maximumPositions, config.maximumPositions) : maximumPositions
        self.maximumPositions = maximumPositions
        pages = PageAllocator(pageCount: pageCount)
        cache = try KVCache(
            layers: config.layerCount, heads: config.keyValueHeadCount,
            headDim: config.headDimension, pages: pageCount, decoder.elementType)
        logits = try Matrix(rows: maximumLogitRows, columns: config.vocabularySize)
        rope = try RopeTables(config, positions: maximumPositions)
        workspace = try Workspace(
            config, rows: maximumRows, wanted: maximumLogitRows, decoder.elementType)
        product = try AdaptedProduct(
            compute: compute, activation: decoder.activation, rows: maximumRows,
            elementType: decoder.elementType)
    }

    /// Runs a batch: appends its keys and values to the cache and computes the logits it asks for.
    ///
    /// - Throws: `TransformerError.batch` before anything is computed when the batch breaks a limit;
    ///   `KernelError.range` for a token outside the vocabulary or a page outside the cache.
    public func run(_ batch: RaggedBatch) throws {
        try prepare(batch)
        if all.count == 0 { return }
        try product.reserve(
            all.groups, widestOutput: widestOutput,
            unpairedGate: !decoder.weights.layers.allSatisfy(\.gateUp.paired))
        try embed()
        let last = decoder.config.layerCount - 1
        for layer in 0..<last { try run(layer, isLast: false) }
        try run(last, isLast: true)
        try computeLogits()
    }

    /// The row of `logits` that holds a row of a span.
    ///
    /// - Parameters:
    ///   - span: Index that `RaggedBatch.append` gave, of a span that asked for logits.
    ///   - row: Which of the span's rows when it asked for all; 0 otherwise.
    public func logitRow(span: Int, row: Int = 0) -> Int { firstLogitRow[span] + row }

    private var widestOutput: Int {
        let config = decoder.config
        return max(
            config.queryWidth + 2 * config.keyValueWidth, 2 * config.intermediateSize,
            config.hiddenSize)
    }

    /// Sorts the spans by adapter, so that rows of one adapter are neighbors, and lays out the rows.
    private func prepare(_ batch: RaggedBatch) throws {
        try check(batch)
        order.removeAll(keepingCapacity: true)
        order.append(contentsOf: batch.spans.indices)
        if !batch.adapters.isEmpty {
            order.sort {
                let (a, b) = (batch.spans[$0].adapter, batch.spans[$1].adapter)
                return a == b ? $0 < $1 : a < b
            }
        }
        all.removeAll()
        wanted.removeAll()
        tokens.removeAll(keepingCapacity: true)
        wantedRows.removeAll(keepingCapacity: true)
        firstLogitRow.removeAll(keepingCapacity: true)
        firstLogitRow.append(contentsOf: repeatElement(-1, count: batch.spans.count))
        lengths.removeAll(keepingCapacity: true)
        for index in order {
            let span = batch.spans[index]
            let adapter = span.adapter < 0 ? nil : batch.adapters[span.adapter]
            let pages = batch.pages[span.pageStart..<span.pageStart + span.pageCount]
            let end = span.startPosition + span.tokenCount
            let firstRow = all.count
            if rope.dependsOnLength {
                lengths.append(
                    contentsOf: repeatElement(Int32(span.sequenceLength), count: span.tokenCount))
            }
            tokens.append(
                contentsOf: batch.tokens[span.tokenStart..<span.tokenStart + span.tokenCount])
            try all.append(positions: span.startPosition..<end, pages: pages, adapter: adapter)
            let skipped: Int
            switch span.logits {
            case .none: continue
            case .last: skipped = span.tokenCount - 1
            case .all: skipped = 0
            }
            firstLogitRow[index] = wanted.count
            try wanted.append(
                positions: span.startPosition + skipped..<end, pages: pages, adapter: adapter)
            for row in firstRow + skipped..<all.count { wantedRows.append(Int32(row)) }
        }
        ropeRows = rope.rows(all.cacheRows.positions, lengths: lengths)
    }

    private func check(_ batch: RaggedBatch) throws(TransformerError) {
        func refuse(_ condition: Bool, _ message: @autoclosure () -> String)
            throws(TransformerError)
        {
            if condition { throw TransformerError(.batch, message()) }
        }
        try refuse(
            batch.rowCount > maximumRows,
            "\(batch.rowCount) rows; a batch has at most \(maximumRows)")
        try refuse(
            batch.logitRowCount > maximumLogitRows,
            "\(batch.logitRowCount) rows of logits; a batch has at most \(maximumLogitRows)")
        for span in batch.spans {
            try refuse(span.tokenCount < 1, "a span without tokens")
            let end = span.startPosition + span.tokenCount
            try refuse(
                span.startPosition < 0 || end > maximumPositions,
                "positions up to \(end); a sequence has at most \(maximumPositions)")
            try refuse(
                span.sequenceLength < end,
                "a span up to position \(end) of a sequence of \(span.sequenceLength) tokens")
            try refuse(
                span.pageCount < PageAllocator.pages(forPositions: end),
                "\(span.pageCount) pages do not hold \(end) positions")
        }
    }

    /// Token embeddings into the residual stream, with each group's update or its own matrix.
    private func embed() throws {
        let scale = Float(decoder.config.streamEmbeddingMultiplier)
        let residual = try workspace.residual.rows(0..<all.count)
        try compute.gather(tokens, from: decoder.weights.embedding, scale: scale, into: residual)
        for group in all.groups {
            guard let adapter = group.adapter else { continue }
            if adapter.savedEmbedding == nil, adapter.embedding == nil { continue }
            let ids = Array(tokens[group.rows])
            let rows = try residual.rows(group.rows)
            if let saved = adapter.savedEmbedding {
                try compute.gather(ids, from: saved, scale: scale, into: rows)
            }
            if let update = adapter.embedding {
                let u = try Matrix(
                    rows: ids.count, columns: update.table.columns, decoder.elementType)
                try compute.gather(ids, from: update.table, into: u)
                try compute.linear(u, update.up, into: rows, alpha: scale, accumulate: true)
            }
        }
        if let positions = decoder.weights.positions, let room = workspace.blockOutput {
            let rows = try room.rows(0..<all.count)
            try compute.gather(
                all.cacheRows.positions, from: positions, scale: scale, into: rows)
            try compute.add(rows, to: residual)
        }
    }

    private func run(_ layer: Int, isLast: Bool) throws {
        let config = decoder.config
        let weights = decoder.weights.layers[layer]
        let residual = try workspace.residual.rows(0..<all.count)
        let normed = try workspace.normed.rows(0..<all.count)
        let projected = try workspace.queryKeyValue.rows(0..<all.count)
        try enter(residual, weights.inputNorm, normed, all.groups) {
            $0.layers[layer].attentionNorm
        }
        try product(
            normed, weights.queryKeyValue, bias: weights.queryKeyValueBias, groups: all.groups,
            output: .write(projected)
        ) { $0.layers[layer].products[LayerProduct.queryKeyValue.rawValue] }
        let keyStart = config.queryWidth
        let valueStart = keyStart + config.keyValueWidth
        if let queryNorm = weights.queryNorm, let keyNorm = weights.keyNorm {
            let queries = try projected.columns(0..<keyStart)
            let keys = try projected.columns(keyStart..<valueStart)
            try compute.rmsNorm(
                queries, weight: queryNorm, groups: config.queryNormGroups,
                epsilon: Float(config.normEpsilon), into: queries)
            try compute.rmsNorm(
                keys, weight: keyNorm, groups: config.keyNormGroups,
                epsilon: Float(config.normEpsilon), into: keys)
        }
        if let index = rope.index(layer: layer) {
            let table = rope.tables[index]
            let turned = try projected.columns(0..<valueStart)
            try compute.rotate(
                turned, headDim: config.headDimension, positions: ropeRows[index],
                cosine: table.cosine, sine: table.sine, into: turned)
        }
        try compute.append(
            k: projected.columns(keyStart..<valueStart),
            v: projected.columns(valueStart..<projected.columns), to: cache, layer: layer,
            rows: all.cacheRows)
        let query = try projected.columns(0..<keyStart)
        if isLast {
            // Only rows that give logits go on.
            if wanted.count == 0 { return }
            let wantedResidual = try workspace.wantedResidual.rows(0..<wanted.count)
            let wantedQuery = try workspace.wantedQuery.rows(0..<wanted.count)
            try compute.gather(wantedRows, from: residual, into: wantedResidual)
            try compute.gather(wantedRows, from: query, into: wantedQuery)
            try finish(layer, wantedQuery, wantedResidual, wanted)
        } else {
            try finish(layer, query, residual, all)
        }
    }

    /// Attention and feed-forward block of the given rows.
    private func finish(
        _ layer: Int, _ query: Matrix, _ residual: Matrix, _ set: RowSet
    ) throws {
        let config = decoder.config
        let weights = decoder.weights.layers[layer]
        let attended = try workspace.attended.rows(0..<set.count)
        let normed = try workspace.normed.rows(0..<set.count)
        let gated = try workspace.gated.rows(0..<set.count)
        try compute.attend(
            q: query, cache, layer: layer, rows: set.cacheRows,
            AttentionOptions(
                scale: Float(config.attentionScaling), window: config.layers[layer].slidingWindow,
                softCap: Float(config.attentionSoftCap ?? 0)), into: attended)
        let attentionTarget = try target(residual, weights.attentionOutputNorm)
        try product(
            attended, weights.attentionOutput, bias: weights.attentionOutputBias,
            groups: set.groups, output: attentionTarget
        ) { $0.layers[layer].products[LayerProduct.attentionOutput.rawValue] }
        try leave(attentionTarget, weights.attentionOutputNorm, residual)
        try enter(residual, weights.feedForwardNorm, normed, set.groups) {
            $0.layers[layer].feedForwardNorm
        }
        try product(
            normed, weights.gateUp, bias: weights.gateUpBias, groups: set.groups,
            output: .gated(gated)
        ) { $0.layers[layer].products[LayerProduct.gateUp.rawValue] }
        let feedForwardTarget = try target(residual, weights.feedForwardOutputNorm)
        try product(
            gated, weights.down, bias: weights.downBias, groups: set.groups,
            output: feedForwardTarget
        ) { $0.layers[layer].products[LayerProduct.down.rawValue] }
        try leave(feedForwardTarget, weights.feedForwardOutputNorm, residual)
    }

    /// What a block reads: the residual stream, normed where the family does that.
    private func enter(
        _ residual: Matrix, _ norm: Norm?, _ normed: Matrix, _ groups: [RowGroup],
        own: (ServedAdapter) -> Norm?
    ) throws {
        guard let norm else { return try compute.copy(residual, to: normed) }
        let epsilon = decoder.config.streamNormEpsilon
        try compute.normalize(residual, norm, epsilon: epsilon, into: normed)
        for group in groups {
            guard let norm = group.adapter.flatMap(own) else { continue }
            try compute.normalize(
                residual.rows(group.rows), norm, epsilon: epsilon, into: normed.rows(group.rows))
        }
    }

    /// Where a block's last product goes: onto the residual stream, or beside it to be normed first.
    private func target(_ residual: Matrix, _ norm: Norm?) throws -> AdaptedProduct.Output {
        guard norm != nil, let output = workspace.blockOutput else { return .add(residual) }
        return .write(try output.rows(0..<residual.rows))
    }

    /// Adds what `target` kept beside the residual stream, normed.
    private func leave(
        _ target: AdaptedProduct.Output, _ norm: Norm?, _ residual: Matrix
    ) throws {
        guard let norm else { return }
        let output = target.matrix
        try compute.normalize(output, norm, epsilon: decoder.config.normEpsilon, into: output)
        try compute.add(output, to: residual)
    }

    private func computeLogits() throws {
        if wanted.count == 0 { return }
        let residual = try workspace.wantedResidual.rows(0..<wanted.count)
        let hidden = try workspace.normed.rows(0..<wanted.count)
        let logits = try logits.rows(0..<wanted.count)
        try enter(residual, decoder.weights.finalNorm, hidden, wanted.groups) { $0.finalNorm }
        // Groups with another head leave the common product.
        var start = 0
        var first = 0
        func common(to end: Int, groups: Range<Int>) throws {
            if start == end { return }
            let offset = start
            let part = wanted.groups[groups].map {
                RowGroup(
                    adapter: $0.adapter,
                    rows: $0.rows.lowerBound - offset..<$0.rows.upperBound - offset)
            }
            try product(
                hidden.rows(start..<end), decoder.weights.head, groups: part,
                output: .write(logits.rows(start..<end))
            ) { ServedAdapter.Product(update: $0.head, bias: nil) }
        }
        for (index, group) in wanted.groups.enumerated() {
            guard let saved = group.adapter?.savedHead else { continue }
            try common(to: group.rows.lowerBound, groups: first..<index)
            try compute.linear(hidden.rows(group.rows), saved, into: logits.rows(group.rows))
            start = group.rows.upperBound
            first = index + 1
        }
        try common(to: wanted.count, groups: first..<wanted.groups.count)
        if let cap = decoder.config.logitSoftCap { try compute.softCap(logits, Float(cap)) }
    }
}
