import JSONModel
import LinuxSystem

/// The rules that keep the best state and end a run early, as the loop asks them.
extension FineTuneRun {
    /// What the result says beside its figures.
    func addWarnings(adapterStep: Int) {
        if !state.skippedSteps.isEmpty {
            warnings.append(
                "steps left out because a loss or gradient was not finite: "
                    + state.skippedSteps.map(String.init).joined(separator: ", "))
        }
        if let end = state.watch.end {
            var text = "the run ended at step \(end.step) of \(schedule.totalSteps): \(end.message)"
            if adapterStep != end.step { text += "; the adapter is that of step \(adapterStep)" }
            warnings.append(text)
        }
        if let best = state.watch.bestLoss, let before = state.evalLossBefore, best >= before {
            warnings.append("no evaluation was better than the one before the first step")
        }
    }

    /// Ends the run where the last step or evaluation asks for it: with the best state so far if the recipe keeps that, by
    /// an error if not. The state of such a step is never written to a checkpoint.
    func endIfPending() throws {
        guard let end = pendingEnd else { return }
        pendingEnd = nil
        try record(end)
        if rules.keepsBest, state.watch.bestStep != nil {
            state.watch.end = end
            return
        }
        let code: FineTuneError.Code = end.reason == .divergence ? .diverged : .nonFinite
        let kept = state.watch.goodCheckpoint.map {
            "; the checkpoint of step \($0), from before that, is kept in \(store.path(of: $0))"
        }
        throw FineTuneError(code, end.message + (kept ?? ""))
    }

    /// Makes the model what it was after `step`.
    func goBack(to step: Int) throws {
        let loaded = try store.checkpoint(step, tensors: model.trainedTensors)
        try CheckpointStore.restore(loaded.parameters, into: model.parameters)
        try model.parametersChanged()
    }

    /// Whether the recipe asks for an evaluation after this step that has not been made. The one after the last step is
    /// made at the end.
    var isEvaluationDue: Bool {
        guard let every = recipe.evalSteps, !evaluation.isEmpty else { return false }
        return state.step > 0 && state.step % every == 0 && state.step < schedule.totalSteps
            && state.watch.evaluatedStep != state.step && state.watch.end == nil
    }

    /// At the intervals that the recipe asks for, after the last step, and of the best state and of one that ends the run.
    func saveIfDue() throws {
        // A run that diverged ends without one.
        if let end = state.watch.end, end.reason != .earlyStopping { return }
        guard state.step > 0, savedStep != state.step,
            state.step % recipe.saveSteps == 0 || state.step == schedule.totalSteps
                || state.watch.bestStep == state.step || state.watch.end != nil
        else { return }
        try save()
    }

    /// A line of `metrics.jsonl`.
    func record(_ end: EarlyEnd) throws {
        try metrics.append([
            "step": .integer(Int64(end.step)),
            "epoch": .number(Double(end.step) / Double(plan.stepsPerEpoch)),
            "stopped": .string(end.reason.rawValue), "message": .string(end.message),
        ])
    }
}
