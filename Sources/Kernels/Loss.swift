import CKernels

extension Compute {
    /// Cross-entropy of a language-model head without ever storing all logits.
    ///
    /// `logits = cap(logitScale · hidden · headᵀ)` with `cap(z) = softCap · tanh(z / softCap)` if `softCap > 0`;
    /// `losses[row] = logΣexp(logits[row]) - logits[row][label]` (natural logarithm, not weighted);
    /// `dHidden[row] = scale · weights[row] · d losses[row] / d hidden[row]`.
    ///
    /// - Parameters:
    ///   - hidden: `[R, K]`, element type of the head.
    ///   - head: `[V, K]`.
    ///   - labels: One a row; a negative label: loss 0, gradient 0.
    ///   - weights: `[1, R]` float32; nil: ones.
    ///   - losses: `[1, R]` float32.
    ///   - dHidden: `[R, K]` float32, overwritten; nil: losses only.
    ///   - scale: Usually 1 / (number of labels in the whole accumulated batch).
    /// - Returns: Σ weights · losses over rows with a label, summed in row order in double precision.
    /// - Throws: `.range` for a label that is not below V.
    @discardableResult
    public func headLoss(
        _ hidden: Matrix, head: PackedMatrix, labels: [Int32], weights: Matrix? = nil,
        logitScale: Float = 1, softCap: Float = 0, losses: Matrix, dHidden: Matrix? = nil,
        scale: Float = 1
    ) throws(KernelError) -> Double {
        try hidden.expect(hidden.rows, head.columns, "hidden")
        try hidden.expect(head.elementType, "hidden")
        try dHidden?.expect(hidden.rows, hidden.columns, "dHidden")
        try dHidden?.expect(.float32, "dHidden")
        try checkLabels(labels, hidden.rows, head.rows)
        var arguments = ck_head_loss_args()
        arguments.hidden = hidden.c
        arguments.head = head.c
        arguments.rows = hidden.rows
        arguments.weights = UnsafePointer(try weights?.vectorPointer(hidden.rows, "weights"))
        arguments.logit_scale = logitScale
        arguments.soft_cap = softCap
        arguments.loss = try losses.vectorPointer(hidden.rows, "losses")
        if let dHidden { arguments.dhidden = dHidden.c }
        arguments.scale = scale
        arguments.arena = try threadScratch(ck_head_loss_scratch_bytes(head.columns))
        labels.withUnsafeBufferPointer {
            arguments.labels = $0.baseAddress
            run(
                .headLoss, kernels.pointee.head_loss, &arguments, outputs: head.rows,
                inputs: head.columns,
                flops: (dHidden == nil ? 2 : 4) * hidden.rows * head.rows * head.columns)
        }
        return weightedSum(arguments.loss, arguments.weights, labels)
    }

    /// The same from stored logits, for heads that are trained: `logits` are overwritten by
    /// `scale · weights[row] · (softmax - one hot)` when `gradient` is true.
    ///
    /// - Parameter logits: `[R, V]` float32, after any scale and cap (whose slopes are the caller's).
    @discardableResult
    public func logitLoss(
        _ logits: Matrix, labels: [Int32], weights: Matrix? = nil, losses: Matrix,
        gradient: Bool, scale: Float = 1
    ) throws(KernelError) -> Double {
        try logits.expect(.float32, "logits")
        try checkLabels(labels, logits.rows, logits.columns)
        var arguments = ck_logit_loss_args()
        arguments.logits = logits.c
        arguments.rows = logits.rows
        arguments.columns = logits.columns
        arguments.weights = UnsafePointer(try weights?.vectorPointer(logits.rows, "weights"))
        arguments.loss = try losses.vectorPointer(logits.rows, "losses")
        arguments.gradient = gradient ? 1 : 0
        arguments.scale = scale
        labels.withUnsafeBufferPointer {
            arguments.labels = $0.baseAddress
            run(.logitLoss, kernels.pointee.logit_loss, &arguments)
        }
        return weightedSum(arguments.loss, arguments.weights, labels)
    }

    private func checkLabels(_ labels: [Int32], _ rows: Int, _ vocabulary: Int)
        throws(KernelError)
    {
        try require(labels.count == rows, "\(labels.count) labels for \(rows) rows")
        for label in labels {
            try require(
                Int(label) < vocabulary, .range,
                "label \(label) is not in a vocabulary of \(vocabulary)")
        }
    }

    private func weightedSum(
        _ losses: UnsafeMutablePointer<Float>, _ weights: UnsafePointer<Float>?, _ labels: [Int32]
    ) -> Double {
        var sum = 0.0
        for row in labels.indices where labels[row] >= 0 {
            sum += Double(losses[row]) * Double(weights?[row] ?? 1)
        }
        return sum
    }
}
