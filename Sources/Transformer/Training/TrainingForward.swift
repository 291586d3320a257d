import Kernels
import LoRA

extension TrainingStep {
    /// Runs all layers; from the lowest adapted one on keeps what the backward pass needs.
    ///
    /// - Parameter saving: false for a loss without gradients: the first saved layer is used over and over.
    func forward(_ batch: LabelledBatch, saving: Bool) throws {
        let residual = try scratch.residual.rows(0..<batch.tokens.count)
        try compute.gather(
            batch.tokens, from: decoder.weights.embedding,
            scale: Float(decoder.config.streamEmbeddingMultiplier), into: residual)
        if let positions = decoder.weights.positions {
            let rows = try scratch.normGradient.rows(0..<batch.tokens.count)
            try compute.gather(
                batch.spans.positions, from: positions,
                scale: Float(decoder.config.streamEmbeddingMultiplier), into: rows)
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
        let updates = adapterState.layers[layer]
        let rows = 0..<batch.tokens.count
        let outputNorms = saved.outputNorms

        let normed = try saved.attentionNormed.rows(rows)
        try enter(
            residual, weights.inputNorm, keeping: saved.attentionInput.rows(rows),
            statistics: saved.attentionStatistics.rows(rows), into: normed)
        let projected = try saved.queryKeyValue.rows(rows)
        try compute.linear(
            normed, weights.queryKeyValue, into: projected, bias: weights.queryKeyValueBias,
            terms: terms(updates.queryKeyValue, normed, saved.u[0], rows))
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
        try compute.linear(
            attended, weights.attentionOutput,
            into: outputNorms?.attention.rows(rows) ?? residual,
            bias: weights.attentionOutputBias, accumulate: outputNorms == nil,
            terms: terms(updates.attentionOutput, attended, saved.u[1], rows))
        try leave(
            outputNorms?.attention, weights.attentionOutputNorm, outputNorms?.attentionStatistics,
            residual, rows)

        let innerNormed = try saved.feedForwardNormed.rows(rows)
        try enter(
            residual, weights.feedForwardNorm, keeping: saved.feedForwardInput.rows(rows),
            statistics: saved.feedForwardStatistics.rows(rows), into: innerNormed)
        let gated = try scratch.gated.rows(rows)
        let gateUp = try saved.gateUp.rows(rows)
        let gateTerms = try terms(updates.gateUp, innerNormed, saved.u[2], rows)
        if weights.gateUp.paired {
            try compute.linearGated(
                innerNormed, weights.gateUp, decoder.activation, into: gated,
                bias: weights.gateUpBias, saving: gateUp, terms: gateTerms)
        } else {
            try compute.linear(
                innerNormed, weights.gateUp, into: gateUp, bias: weights.gateUpBias,
                terms: gateTerms)
            let (gate, up) = try splitGate(gateUp)
            try compute.activate(decoder.activation, gate: gate, up: up, into: gated)
        }
        try compute.linear(
            gated, weights.down, into: outputNorms?.feedForward.rows(rows) ?? residual,
            bias: weights.downBias, accumulate: outputNorms == nil,
            terms: terms(updates.down, gated, saved.u[3], rows))
        try leave(
            outputNorms?.feedForward, weights.feedForwardOutputNorm,
            outputNorms?.feedForwardStatistics, residual, rows)
    }

    /// What a block reads: the residual stream, normed where the family does that.
    private func enter(
        _ residual: Matrix, _ norm: Norm?, keeping input: Matrix, statistics: NormStatistics,
        into normed: Matrix
    ) throws {
        guard let norm else { return try compute.copy(residual, to: normed) }
        try compute.copy(residual, to: input)
        try compute.normalize(
            residual, norm, epsilon: decoder.config.streamNormEpsilon, into: normed,
            statistics: statistics)
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
        _ update: TrainableUpdate?, _ x: Matrix, _ u: Matrix?, _ rows: Range<Int>
    ) throws -> [LowRankTerm] {
        guard let update else { return [] }
        // A loss without gradients borrows the first layer's room, which may be narrower.
        let room =
            if let u, u.columns >= update.width { u } else { scratch.uGradient }
        return try update.forward(x, into: room.rows(rows).columns(0..<update.width), compute)
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
        let softCap = Float(decoder.config.logitSoftCap ?? 0)
        try compute.gather(batch.rows, from: residual, into: labelled)
        try compute.normalize(
            labelled, decoder.weights.finalNorm, epsilon: decoder.config.streamNormEpsilon,
            into: hidden, statistics: statistics)
        guard let gradientScale else {
            return try compute.headLoss(
                hidden, head: decoder.weights.head, labels: batch.targets, softCap: softCap,
                losses: losses)
        }
        let hiddenGradient = try scratch.normGradient.rows(0..<count)
        let sum = try compute.headLoss(
            hidden, head: decoder.weights.head, labels: batch.targets, softCap: softCap,
            losses: losses, dHidden: hiddenGradient, scale: gradientScale)
        try compute.normalizeBackward(
            hiddenGradient, x: labelled, decoder.weights.finalNorm, statistics,
            into: hiddenGradient)
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
