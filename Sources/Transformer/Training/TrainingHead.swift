import Kernels
import LoRA
import ModelFiles

extension TrainingStep {
    /// Cross-entropy of the rows with labels, with the head that is trained or the base's.
    ///
    /// - Parameters:
    ///   - hidden: Normed rows with labels, `[L, D]`.
    ///   - losses: `[1, L]`
    ///   - gradient: Gets that of `hidden`, `[L, D]` float32, times the scale; the head's own is added to its buffers.
    /// - Returns: The sum of the losses, not weighted.
    func headLoss(
        _ hidden: Matrix, _ batch: LabelledBatch, _ losses: Matrix,
        gradient: (hidden: Matrix, scale: Float)? = nil
    ) throws -> Double {
        let head = ends.head?.packed ?? decoder.weights.head
        guard ends.headUpdate != nil || (ends.head != nil && gradient != nil),
            let room = headScratch
        else {
            return try compute.headLoss(
                hidden, head: head, labels: batch.targets,
                softCap: Float(decoder.config.logitSoftCap ?? 0), losses: losses,
                dHidden: gradient?.hidden, scale: gradient?.scale ?? 1)
        }
        var sum = 0.0
        for start in stride(from: 0, to: hidden.rows, by: room.logits.rows) {
            let rows = start..<min(hidden.rows, start + room.logits.rows)
            let inner = try gradient.map { (hidden: try $0.hidden.rows(rows), scale: $0.scale) }
            sum += try trainedHeadLoss(
                hidden.rows(rows), head, labels: Array(batch.targets[rows]),
                dropout: dropout.map { dropout in
                    InputDropout(
                        rows: DropoutMask(
                            probability: dropout.rows.probability,
                            keys: batch.rows[rows].map { dropout.rows.keys[Int($0)] }),
                        room: dropout.room)
                }, losses: losses.columns(rows), gradient: inner)
        }
        return sum
    }

    /// One block of rows: all their logits, then with a gradient those of hidden states, matrix, A and B.
    private func trainedHeadLoss(
        _ hidden: Matrix, _ head: PackedMatrix, labels: [Int32], dropout: InputDropout?,
        losses: Matrix, gradient: (hidden: Matrix, scale: Float)?
    ) throws -> Double {
        guard let room = headScratch else { return 0 }
        let rows = 0..<hidden.rows
        let logits = try room.logits.rows(rows)
        let u = try room.u.rows(rows)
        let terms = try ends.headUpdate?.forward(hidden, into: u, dropout: dropout, compute) ?? []
        try compute.linear(hidden, head, into: logits, terms: terms)
        let capped = try room.capped?.rows(rows)
        if let cap = decoder.config.logitSoftCap, let capped {
            try compute.softCap(logits, Float(cap))
            try compute.copy(logits, to: capped)
        }
        let sum = try compute.logitLoss(
            logits, labels: labels, losses: losses, gradient: gradient != nil,
            scale: gradient?.scale ?? 1)
        guard let gradient else { return sum }
        if let cap = decoder.config.logitSoftCap, let capped {
            try compute.softCapBackward(logits, y: capped, Float(cap))
        }
        var slope = logits
        if let narrow = try room.narrow?.rows(rows) {
            try compute.copy(logits, to: narrow)
            slope = narrow
        }
        if let whole = ends.head { try compute.contract(slope, hidden, into: whole.gradient) }
        guard let update = ends.headUpdate else {
            try compute.linearBackwardInput(slope, head, into: gradient.hidden)
            return sum
        }
        let uGradient = try room.uGradient.rows(rows)
        let inputTerms = try update.backward(slope, u: u, into: uGradient, compute)
        try compute.linearBackwardInput(slope, head, into: gradient.hidden, terms: inputTerms)
        if let dropout {
            try update.addInputGradient(
                uGradient, dropout: dropout, to: gradient.hidden, compute)
        }
        try update.accumulateDownGradient(hidden, du: uGradient, dropout: dropout, compute)
        return sum
    }
}
