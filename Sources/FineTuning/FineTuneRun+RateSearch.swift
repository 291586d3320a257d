import Kernels
import LinuxSystem

extension FineTuneRun {
    /// Before the first step: the peak rate of `learning_rate: find`, from the checkpoint or by a range test whose curve goes
    /// into one.
    ///
    /// - Returns: A stop that was asked for; the test is made anew by the next attempt.
    func settleRate(_ control: FineTuneControl) throws -> FineTuneStop? {
        guard recipe.findsLearningRate else { return nil }
        if let curve = state.rateCurve {
            try use(curve)
            return nil
        }
        let begun = clock()
        switch try searchRate(control) {
        case .failure(let stop): return stop.reason
        case .success(let curve):
            try use(curve)
            state.rateCurve = curve
            searchSeconds = (clock() - begun).seconds
            state.seconds += searchSeconds
            try save()
            return nil
        }
    }

    private struct Stopped: Error { let reason: FineTuneStop }

    /// Takes optimizer steps at growing rates, and leaves parameters and optimizer as they were.
    private func searchRate(_ control: FineTuneControl) throws -> Result<RateCurve, Stopped> {
        let start = try CheckpointStore.floats(model.parameters)
        defer { model.zeroGradients() }
        var untrained: [Double] = []
        for index in 0..<RateCurve.steps {
            if let stop = control.stopRequested() { return .failure(Stopped(reason: stop)) }
            untrained.append(try loss(of: window(index), control))
        }
        var curve = RateCurve()
        var rate: Double?
        for index in 0..<RateCurve.steps {
            if let stop = control.stopRequested() {
                try restore(start)
                return .failure(Stopped(reason: stop))
            }
            let (loss, norm, _) = try gradients(of: window(index), step: index, control)
            if let rate {
                guard loss.isFinite, norm.isFinite else {
                    curve.diverged = true
                    break
                }
                curve.points.append(
                    RateCurve.Point(rate: rate, loss: loss, relative: loss / untrained[index]))
                report(curve, loss: loss, rate: rate, control)
                if curve.isLost {
                    curve.diverged = true
                    break
                }
            }
            let next = RateCurve.rate(index)
            guard loss.isFinite, norm.isFinite,
                try update(rate: next, peak: RateCurve.mostRate, norm: norm)
            else {
                curve.diverged = true
                break
            }
            rate = next
        }
        try restore(start)
        return .success(curve)
    }

    private func restore(_ start: [Float]) throws {
        try CheckpointStore.restore(start, into: model.parameters)
        try model.parametersChanged()
        optimizer.reset()
    }

    /// The mean loss of a window, without gradients.
    private func loss(of rows: ArraySlice<Int>, _ control: FineTuneControl) throws -> Double {
        var sum = 0.0
        var labels = 0
        for packed in packedGroups(rows) {
            let result = try model.evaluate(
                tokens: packed.tokens, spanLengths: packed.spanLengths, labels: packed.labels)
            sum += result.lossSum
            labels += result.labelCount
            control.advanced(packed.tokens.count)
        }
        guard labels > 0, sum.isFinite, sum > 0 else {
            throw FineTuneError(
                .nonFinite,
                "find: the untrained adapter's loss is \(sum), from which no rate follows",
                field: "learning_rate")
        }
        return sum / Double(labels)
    }

    private func report(
        _ curve: RateCurve, loss: Double, rate: Double, _ control: FineTuneControl
    ) {
        control.report(
            FineTuneProgress(
                phase: .searching, step: 0, totalSteps: totalSteps, epoch: 0, loss: loss,
                gradientNorm: nil, learningRate: rate, tokens: 0, tokensPerSecond: 0))
    }
}
