import Kernels
import LoRA
import ModelFiles

extension TrainingStep {
    /// Runs all layers; from the lowest adapted one on keeps what the backward pass needs.
    ///
    /// - Parameter saving: false for a loss without gradients: the first saved layer is used over and over.
    func forward(_ batch: LabelledBatch, saving: Bool) throws {
        let residual = try scratch.residual.rows(0..<batch.tokens.count)
        let scale = Float(decoder.config.streamEmbeddingMultiplier)
        try compute.gather(
            batch.tokens, from: ends.embedding?.packed ?? decoder.weights.embedding, scale: scale,
            into: residual)
        try ends.embeddingUpdate?.forward(batch.tokens, scale: scale, to: residual, compute)
        if let positions = decoder.weights.positions {
            let rows = try scratch.normGradient.rows(0..<batch.tokens.count)
            try compute.gather(
                batch.spans.positions, from: positions, scale: scale, into: rows)
            try compute.add(rows, to: residual)
        }
        for layer in 0..<decoder.config.layerCount {
            let slot = saving ? max(0, layer - lowestLayer) : 0
            try forward(layer, batch, residual, saved[slot])
        }
    }

    private func forward(
        _ layer: Int, _ batch: LabelledBatch, _ residual: Matrix, _ saved: SavedLayer
    ) throws {
        let config = decoder.config
        let weights = decoder.weights.layers[layer]
        let trained = adapterState.layers[layer]
        let rows = 0..<batch.tokens.count
        let outputNorms = saved.outputNorms

        let normed = try saved.attentionNormed.rows(rows)
        try enter(
            residual, weights.inputNorm, trained.attentionNorm,
            keeping: saved.attentionInput.rows(rows),
            statistics: saved.attentionStatistics.rows(rows), into: normed)
        let projected = try saved.queryKeyValue.rows(rows)
        try product(layer, .queryKeyValue, normed, saved, into: projected)
        let (query, key, value) = try split(projected)
        if let norms = saved.headNorms {
            try normalize(query, weights.queryNorm, norms.query, norms.queryInverse, rows)
            try normalize(key, weights.keyNorm, norms.key, norms.keyInverse, rows)
        }
        try rotate(projected, layer, batch, inverse: false)
        let attended = try saved.attended.rows(rows)
        try compute.spanAttention(
            q: query, k: key, v: value, spans: batch.spans, headDim: config.headDimension,
            attentionOptions(layer), into: attended, logSum: saved.logSum.columns(rows))
        try product(
            layer, .attentionOutput, attended, saved,
            into: outputNorms?.attention.rows(rows) ?? residual, accumulate: outputNorms == nil)
        try leave(
            outputNorms?.attention, weights.attentionOutputNorm, outputNorms?.attentionStatistics,
            residual, rows)

        let innerNormed = try saved.feedForwardNormed.rows(rows)
        try enter(
            residual, weights.feedForwardNorm, trained.feedForwardNorm,
            keeping: saved.feedForwardInput.rows(rows),
            statistics: saved.feedForwardStatistics.rows(rows), into: innerNormed)
        let gated = try scratch.gated.rows(rows)
        let gateUp = try saved.gateUp.rows(rows)
        if weights.gateUp.paired, trained.updates[LayerProduct.gateUp.rawValue]?.columnScale == nil
        {
            try compute.linearGated(
                innerNormed, weights.gateUp, decoder.activation, into: gated,
                bias: bias(layer, .gateUp), saving: gateUp,
                terms: terms(layer, .gateUp, innerNormed, saved))
        } else {
            try product(layer, .gateUp, innerNormed, saved, into: gateUp)
            let (gate, up) = try splitGate(gateUp)
            try compute.activate(decoder.activation, gate: gate, up: up, into: gated)
        }
        try product(
            layer, .down, gated, saved, into: outputNorms?.feedForward.rows(rows) ?? residual,
            accumulate: outputNorms == nil)
        try leave(
            outputNorms?.feedForward, weights.feedForwardOutputNorm,
            outputNorms?.feedForwardStatistics, residual, rows)
    }

    /// One of a layer's four products with its update and bias: y = scale · (x Wᵀ + …) + bias, or y += ….
    private func product(
        _ layer: Int, _ product: LayerProduct, _ x: Matrix, _ saved: SavedLayer, into y: Matrix,
        accumulate: Bool = false
    ) throws {
        let weights = decoder.weights.layers[layer].matrix(product)
        let terms = try terms(layer, product, x, saved)
        let bias = bias(layer, product)
        guard let scale = adapterState.layers[layer].updates[product.rawValue]?.columnScale,
            let wide = scratch.wide
        else {
            return try compute.linear(
                x, weights, into: y, bias: bias, accumulate: accumulate, terms: terms)
        }
        let sum = try wide.rows(0..<x.rows).columns(0..<y.columns)
        try compute.linear(x, weights, into: sum, terms: terms)
        // The magnitude applies to W + BA alone.
        try compute.scaleColumns(sum, by: scale, adding: bias)
        try compute.combine(sum, into: y, beta: accumulate ? 1 : 0)
    }

    /// The trained bias of a product, or the base's.
    private func bias(_ layer: Int, _ product: LayerProduct) -> Matrix? {
        adapterState.layers[layer].biases[product.rawValue]?.joined
            ?? decoder.weights.layers[layer].bias(product)
    }

    /// What a block reads: the residual stream, normed where the family does that.
    private func enter(
        _ residual: Matrix, _ norm: Norm?, _ trained: BiasParameter?, keeping input: Matrix,
        statistics: NormStatistics, into normed: Matrix
    ) throws {
        guard let norm else { return try compute.copy(residual, to: normed) }
        try compute.copy(residual, to: input)
        try compute.normalize(
            residual, norm.with(bias: trained?.value), epsilon: decoder.config.streamNormEpsilon,
            into: normed, statistics: statistics)
    }

    /// Adds a block's output to the residual stream, normed, where it was kept for that.
    private func leave(
        _ output: Matrix?, _ norm: Norm?, _ statistics: NormStatistics?, _ residual: Matrix,
        _ rows: Range<Int>
    ) throws {
        guard let output, let norm, let statistics else { return }
        let normed = try scratch.normGradient.rows(rows)
        try compute.normalize(
            output.rows(rows), norm, epsilon: decoder.config.normEpsilon, into: normed,
            statistics: statistics.rows(rows))
        try compute.add(normed, to: residual)
    }

    private func terms(
        _ layer: Int, _ product: LayerProduct, _ x: Matrix, _ saved: SavedLayer
    ) throws -> [LowRankTerm] {
        guard let update = adapterState.layers[layer].updates[product.rawValue] else { return [] }
        let rows = 0..<x.rows
        // A loss without gradients borrows the first layer's room, which may be narrower.
        let room =
            if let u = saved.u[product.rawValue], u.columns >= update.width { u } else {
                scratch.uGradient
            }
        return try update.forward(
            x, into: room.rows(rows).columns(0..<update.width), dropout: dropout, compute)
    }

    func split(_ matrix: Matrix) throws -> (query: Matrix, key: Matrix, value: Matrix) {
        let query = decoder.config.queryWidth
        let key = query + decoder.config.keyValueWidth
        return (
            try matrix.columns(0..<query), try matrix.columns(query..<key),
            try matrix.columns(key..<matrix.columns)
        )
    }

    /// gate and up of the joined product; without a gate all of it goes through the activation.
    func splitGate(_ matrix: Matrix) throws -> (gate: Matrix, up: Matrix?) {
        guard decoder.config.gatedFeedForward else { return (matrix, nil) }
        let inner = decoder.config.intermediateSize
        return (try matrix.columns(0..<inner), try matrix.columns(inner..<2 * inner))
    }

    /// Normalizes queries or keys in place, keeping them as they were and 1 / rms.
    private func normalize(
        _ x: Matrix, _ weight: Matrix?, _ before: Matrix, _ inverse: Matrix, _ rows: Range<Int>
    ) throws {
        let input = try before.rows(rows)
        try compute.copy(x, to: input)
        try compute.rmsNorm(
            input, weight: weight, groups: inverse.columns,
            epsilon: Float(decoder.config.normEpsilon), into: x, inverse: inverse.rows(rows))
    }

    /// Turns queries and keys by their positions, or their gradients back.
    func rotate(
        _ matrix: Matrix, _ layer: Int, _ batch: LabelledBatch, inverse: Bool
    ) throws {
        let turned = try matrix.columns(
            0..<decoder.config.queryWidth + decoder.config.keyValueWidth)
        guard let index = rope.index(layer: layer) else { return }
        let table = rope.tables[index]
        try compute.rotate(
            turned, headDim: decoder.config.headDimension, positions: batch.ropeRows[index],
            cosine: table.cosine, sine: table.sine, inverse: inverse, into: turned)
    }

    func attentionOptions(_ layer: Int) -> AttentionOptions {
        AttentionOptions(
            scale: Float(decoder.config.attentionScaling),
            window: decoder.config.layers[layer].slidingWindow,
            softCap: Float(decoder.config.attentionSoftCap ?? 0))
    }

    /// Cross-entropy of the rows with labels; with a scale, puts the residual stream's gradient in place.
    ///
    /// - Returns: The sum of the losses, not weighted.
    func loss(_ batch: LabelledBatch, gradientScale: Float?) throws -> Double {
        let count = batch.targets.count
        let residual = try scratch.residual.rows(0..<batch.tokens.count)
        let labelled = try scratch.labelled.rows(0..<count)
        let hidden = try scratch.hidden.rows(0..<count)
        let statistics = try scratch.labelledStatistics.rows(0..<count)
        let losses = try scratch.losses.columns(0..<count)
        try compute.gather(batch.rows, from: residual, into: labelled)
        try compute.normalize(
            labelled, decoder.weights.finalNorm.with(bias: adapterState.finalNorm?.value),
            epsilon: decoder.config.streamNormEpsilon,
            into: hidden, statistics: statistics)
        guard let gradientScale else { return try headLoss(hidden, batch, losses) }
        let hiddenGradient = try scratch.normGradient.rows(0..<count)
        let sum = try headLoss(
            hidden, batch, losses, gradient: (hiddenGradient, scale: gradientScale))
        try compute.normalizeBackward(
            hiddenGradient, x: labelled, decoder.weights.finalNorm, statistics,
            into: hiddenGradient, biasGradient: adapterState.finalNorm?.gradient)
        // Rows without a label start with no gradient.
        let gradient = try scratch.residualGradient.rows(0..<batch.tokens.count)
        gradient.fill(0)
        for (index, row) in batch.rows.enumerated() {
            try hiddenGradient.withFloats(row: index) { source in
                try gradient.withFloats(row: Int(row)) { target in
                    _ = target.update(fromContentsOf: source)
                }
            }
        }
        return sum
    }
}
