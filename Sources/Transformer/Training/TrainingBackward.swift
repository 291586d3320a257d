import Kernels
import LoRA

extension TrainingStep {
    /// From the residual stream's gradient down to the lowest adapted matrix.
    func backward(_ batch: LabelledBatch) throws {
        for layer in stride(from: decoder.config.layerCount - 1, through: lowestLayer, by: -1) {
            try backward(layer, batch, saved[layer - lowestLayer])
        }
    }

    /// One layer: the gradient of its output becomes that of its input, in place.
    ///
    /// In the lowest layer it ends at the first of the four matrices (joined queries/keys/values, attention
    /// output, joined gate/up, down) that has an update.
    private func backward(_ layer: Int, _ batch: LabelledBatch, _ saved: SavedLayer) throws {
        let rows = 0..<batch.tokens.count
        let first = layer == lowestLayer ? lowestMatrix : -1
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
            saved.feedForwardStatistics, into: gradient)

        try leaveBackward(
            gradient, outputNorms?.attention, weights.attentionOutputNorm,
            outputNorms?.attentionStatistics, into: narrow)
        try attentionBackward(layer, batch, saved, rows, narrow, stop: first)
        if first >= 0 { return }
        try enterBackward(
            normGradient, saved.attentionInput, weights.inputNorm, saved.attentionStatistics,
            into: gradient)
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
        into gradient: Matrix
    ) throws {
        guard let norm else { return try compute.add(normGradient, to: gradient) }
        let rows = 0..<gradient.rows
        try compute.normalizeBackward(
            normGradient, x: input.rows(rows), norm, statistics.rows(rows), into: gradient,
            accumulate: true)
    }

    /// Leaves the gradient of the second norm's output in `scratch.normGradient`.
    private func feedForwardBackward(
        _ layer: Int, _ saved: SavedLayer, _ rows: Range<Int>, _ dy: Matrix, stop: Int
    ) throws {
        let weights = decoder.weights.layers[layer]
        let updates = adapterState.layers[layer]
        let gateUp = try saved.gateUp.rows(rows)
        let (gate, up) = try splitGate(gateUp)
        let gated = try scratch.gated.rows(rows)

        let downTerms = try updateBackward(updates.down, dy, saved.u[3], rows)
        if stop == 3 {
            try compute.activate(decoder.activation, gate: gate, up: up, into: gated)
            try downGradient(updates.down, gated, rows)
            return
        }
        let gatedGradient = try scratch.gatedGradient.rows(rows)
        try compute.linearBackwardInput(
            dy, weights.down, into: gatedGradient, terms: downTerms)
        try compute.activateBackward(
            decoder.activation, dY: gatedGradient, gate: gate, up: up, dGate: gate, dUp: up,
            recomputing: updates.down == nil ? nil : gated)
        try downGradient(updates.down, gated, rows)

        let gateTerms = try updateBackward(updates.gateUp, gateUp, saved.u[2], rows)
        try downGradient(updates.gateUp, saved.feedForwardNormed.rows(rows), rows)
        if stop == 2 { return }
        try compute.linearBackwardInput(
            gateUp, weights.gateUp, into: scratch.normGradient.rows(rows), terms: gateTerms)
    }

    /// Leaves the gradient of the first norm's output in `scratch.normGradient`.
    private func attentionBackward(
        _ layer: Int, _ batch: LabelledBatch, _ saved: SavedLayer, _ rows: Range<Int>,
        _ dy: Matrix, stop: Int
    ) throws {
        let weights = decoder.weights.layers[layer]
        let updates = adapterState.layers[layer]
        let attended = try saved.attended.rows(rows)
        let outputTerms = try updateBackward(updates.attentionOutput, dy, saved.u[1], rows)
        try downGradient(updates.attentionOutput, attended, rows)
        if stop == 1 { return }
        let attendedGradient = try scratch.attendedGradient.rows(rows)
        try compute.linearBackwardInput(
            dy, weights.attentionOutput, into: attendedGradient, terms: outputTerms)

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

        let inputTerms = try updateBackward(
            updates.queryKeyValue, projectedGradient, saved.u[0], rows)
        try downGradient(updates.queryKeyValue, saved.attentionNormed.rows(rows), rows)
        if stop == 0 { return }
        try compute.linearBackwardInput(
            projectedGradient, weights.queryKeyValue, into: scratch.normGradient.rows(rows),
            terms: inputTerms)
    }

    /// dU and dB of an update; the terms that the input's gradient adds.
    private func updateBackward(
        _ update: TrainableUpdate?, _ dy: Matrix, _ u: Matrix?, _ rows: Range<Int>
    ) throws -> [LowRankTerm] {
        guard let update, let u else { return [] }
        return try update.backward(
            dy, u: u.rows(rows), into: scratch.uGradient.rows(rows).columns(0..<update.width),
            compute)
    }

    /// dA of an update whose dU was just made.
    private func downGradient(_ update: TrainableUpdate?, _ x: Matrix, _ rows: Range<Int>) throws {
        guard let update else { return }
        try update.accumulateDownGradient(
            x, du: scratch.uGradient.rows(rows).columns(0..<update.width), compute)
    }
}
