import Kernels
import LoRA
import ModelFiles

extension TrainingStep {
    /// From the residual stream's gradient down to the lowest adapted matrix.
    func backward(_ batch: LabelledBatch) throws {
        for layer in stride(from: decoder.config.layerCount - 1, through: lowestLayer, by: -1) {
            try backward(layer, batch, saved[layer - lowestLayer])
        }
        guard ends.reachesEmbedding else { return }
        let scale = Float(decoder.config.streamEmbeddingMultiplier)
        let gradient = try scratch.residualGradient.rows(0..<batch.tokens.count)
        if let whole = ends.embedding {
            try compute.scatterAdd(gradient, scale: scale, to: batch.tokens, of: whole.gradient)
        }
        if let update = ends.embeddingUpdate {
            let narrow = try scratch.narrowGradient.rows(0..<batch.tokens.count)
            try compute.copy(gradient, to: narrow)
            try update.backward(batch.tokens, narrow, scale: scale, compute)
        }
    }

    /// One layer: the gradient of its output becomes that of its input, in place.
    ///
    /// In the lowest layer it ends at the first of the four matrices (joined queries/keys/values, attention
    /// output, joined gate/up, down) that has an update.
    private func backward(_ layer: Int, _ batch: LabelledBatch, _ saved: SavedLayer) throws {
        let rows = 0..<batch.tokens.count
        let first = layer == lowestLayer ? lowestProduct : -1
        let weights = decoder.weights.layers[layer]
        let gradient = try scratch.residualGradient.rows(rows)
        let narrow = try scratch.narrowGradient.rows(rows)
        let normGradient = try scratch.normGradient.rows(rows)

        let outputNorms = saved.outputNorms
        try leaveBackward(
            gradient, outputNorms?.feedForward, weights.feedForwardOutputNorm,
            outputNorms?.feedForwardStatistics, into: narrow)
        try feedForwardBackward(layer, saved, rows, narrow, stop: first)
        if first >= 2 { return }
        try enterBackward(
            normGradient, saved.feedForwardInput, weights.feedForwardNorm,
            saved.feedForwardStatistics, adapterState.layers[layer].feedForwardNorm,
            into: gradient)

        try leaveBackward(
            gradient, outputNorms?.attention, weights.attentionOutputNorm,
            outputNorms?.attentionStatistics, into: narrow)
        try attentionBackward(layer, batch, saved, rows, narrow, stop: first)
        if first >= 0 { return }
        try enterBackward(
            normGradient, saved.attentionInput, weights.inputNorm, saved.attentionStatistics,
            adapterState.layers[layer].attentionNorm, into: gradient)
    }

    /// The gradient of a block's output from that of the residual stream.
    private func leaveBackward(
        _ gradient: Matrix, _ output: Matrix?, _ norm: Norm?, _ statistics: NormStatistics?,
        into narrow: Matrix
    ) throws {
        guard let output, let norm, let statistics else {
            return try compute.copy(gradient, to: narrow)
        }
        let rows = 0..<gradient.rows
        try compute.normalizeBackward(
            gradient, x: output.rows(rows), norm, statistics.rows(rows), into: narrow)
    }

    /// Adds the gradient of what a block read to that of the residual stream.
    private func enterBackward(
        _ normGradient: Matrix, _ input: Matrix, _ norm: Norm?, _ statistics: NormStatistics,
        _ trained: BiasParameter?, into gradient: Matrix
    ) throws {
        guard let norm else { return try compute.add(normGradient, to: gradient) }
        let rows = 0..<gradient.rows
        try compute.normalizeBackward(
            normGradient, x: input.rows(rows), norm, statistics.rows(rows), into: gradient,
            accumulate: true, biasGradient: trained?.gradient)
    }

    /// Leaves the gradient of the second norm's output in `scratch.normGradient`.
    private func feedForwardBackward(
        _ layer: Int, _ saved: SavedLayer, _ rows: Range<Int>, _ dy: Matrix, stop: Int
    ) throws {
        let updates = adapterState.layers[layer].updates
        let gateUp = try saved.gateUp.rows(rows)
        let (gate, up) = try splitGate(gateUp)
        let gated = try scratch.gated.rows(rows)

        let down = updates[LayerProduct.down.rawValue]
        let isLast = stop == LayerProduct.down.rawValue
        // Otherwise `activateBackward` makes it once more on its way.
        if isLast || down?.columnScale != nil {
            try compute.activate(decoder.activation, gate: gate, up: up, into: gated)
        }
        let downTerms = try productBackward(layer, .down, dy, x: gated, saved)
        if isLast { return try downGradient(layer, .down, gated) }
        let gatedGradient = try scratch.gatedGradient.rows(rows)
        try inputGradient(layer, .down, dy, into: gatedGradient, terms: downTerms)
        try compute.activateBackward(
            decoder.activation, dY: gatedGradient, gate: gate, up: up, dGate: gate, dUp: up,
            recomputing: down == nil ? nil : gated)
        try downGradient(layer, .down, gated)

        let normed = try saved.feedForwardNormed.rows(rows)
        let gateTerms = try productBackward(layer, .gateUp, gateUp, x: normed, saved)
        try downGradient(layer, .gateUp, normed)
        if stop == LayerProduct.gateUp.rawValue { return }
        try inputGradient(
            layer, .gateUp, gateUp, into: scratch.normGradient.rows(rows), terms: gateTerms)
    }

    /// Leaves the gradient of the first norm's output in `scratch.normGradient`.
    private func attentionBackward(
        _ layer: Int, _ batch: LabelledBatch, _ saved: SavedLayer, _ rows: Range<Int>,
        _ dy: Matrix, stop: Int
    ) throws {
        let weights = decoder.weights.layers[layer]
        let attended = try saved.attended.rows(rows)
        let outputTerms = try productBackward(layer, .attentionOutput, dy, x: attended, saved)
        try downGradient(layer, .attentionOutput, attended)
        if stop == LayerProduct.attentionOutput.rawValue { return }
        let attendedGradient = try scratch.attendedGradient.rows(rows)
        try inputGradient(layer, .attentionOutput, dy, into: attendedGradient, terms: outputTerms)

        let projected = try saved.queryKeyValue.rows(rows)
        let projectedGradient = try scratch.queryKeyValueGradient.rows(rows)
        let (query, key, value) = try split(projected)
        let (queryGradient, keyGradient, valueGradient) = try split(projectedGradient)
        try compute.spanAttentionBackward(
            dOut: attendedGradient, q: query, k: key, v: value, out: attended,
            logSum: saved.logSum.columns(rows), spans: batch.spans,
            headDim: decoder.config.headDimension, attentionOptions(layer), dQ: queryGradient,
            dK: keyGradient, dV: valueGradient)
        try rotate(projectedGradient, layer, batch, inverse: true)
        if let norms = saved.headNorms {
            try compute.rmsNormBackward(
                queryGradient, x: norms.query.rows(rows), weight: weights.queryNorm,
                inverse: norms.queryInverse.rows(rows), groups: decoder.config.queryNormGroups,
                into: queryGradient)
            try compute.rmsNormBackward(
                keyGradient, x: norms.key.rows(rows), weight: weights.keyNorm,
                inverse: norms.keyInverse.rows(rows), groups: decoder.config.keyNormGroups,
                into: keyGradient)
        }

        let normed = try saved.attentionNormed.rows(rows)
        let inputTerms = try productBackward(
            layer, .queryKeyValue, projectedGradient, x: normed, saved)
        try downGradient(layer, .queryKeyValue, normed)
        if stop == LayerProduct.queryKeyValue.rawValue { return }
        try inputGradient(
            layer, .queryKeyValue, projectedGradient, into: scratch.normGradient.rows(rows),
            terms: inputTerms)
    }

    /// Gradients of a product's bias, magnitudes and B; dU for `downGradient`.
    ///
    /// - Parameters:
    ///   - dy: Gradient of the product, `[M, N]`; with DoRA it becomes that of the sum before it was scaled.
    ///   - x: What the product read; used by DoRA alone.
    /// - Returns: The terms that the input's gradient adds.
    private func productBackward(
        _ layer: Int, _ product: LayerProduct, _ dy: Matrix, x: Matrix, _ saved: SavedLayer
    ) throws -> [LowRankTerm] {
        let trained = adapterState.layers[layer]
        try trained.biases[product.rawValue]?.accumulate(dy, compute)
        guard let update = trained.updates[product.rawValue],
            let u = try saved.u[product.rawValue]?.rows(0..<dy.rows)
        else { return [] }
        if update.columnScale != nil, let wide = scratch.wide {
            // The sum is made once more: keeping it would take as much as all else that is kept.
            let sum = try wide.rows(0..<dy.rows).columns(0..<dy.columns)
            try compute.linear(
                x, decoder.weights.layers[layer].matrix(product), into: sum,
                terms: update.terms(u))
            try update.backwardMagnitude(dy, z: sum, compute)
        }
        return try update.backward(
            dy, u: u, into: scratch.uGradient.rows(0..<dy.rows).columns(0..<update.width), compute)
    }

    /// The gradient of a product's input, by the base and the update whose dU was just made.
    private func inputGradient(
        _ layer: Int, _ product: LayerProduct, _ dy: Matrix, into dx: Matrix, terms: [LowRankTerm]
    ) throws {
        try compute.linearBackwardInput(
            dy, decoder.weights.layers[layer].matrix(product), into: dx, terms: terms)
        guard let dropout, let update = adapterState.layers[layer].updates[product.rawValue]
        else { return }
        try update.addInputGradient(
            scratch.uGradient.rows(0..<dy.rows).columns(0..<update.width), dropout: dropout,
            to: dx, compute)
    }

    /// dA of an update whose dU was just made.
    private func downGradient(_ layer: Int, _ product: LayerProduct, _ x: Matrix) throws {
        guard let update = adapterState.layers[layer].updates[product.rawValue] else { return }
        try update.accumulateDownGradient(
            x, du: scratch.uGradient.rows(0..<x.rows).columns(0..<update.width),
            dropout: dropout, compute)
    }
}
