import Datasets
import JSONModel
import Kernels
import LinuxSystem
import Testing

@testable import FineTuning

/// Early ends of whole runs, and that a run that died or was stopped anywhere comes to the same one.
@Suite struct EarlyEndTests {
    /// What is evaluated agrees with the training at first and then no more.
    static let evaluation = [
        TrainingExample(line: 1, tokens: [0, 1, 2], labelled: [1..<3]),
        TrainingExample(line: 2, tokens: [0, 1, 4], labelled: [1..<3]),
    ]

    private func overfitting(_ folder: String) throws -> BigramRun {
        var run = try BigramRun(folder: folder)
        run.evaluation = Self.evaluation
        run.recipe.epochs = 10
        run.recipe.scheduler = .constant
        run.recipe.maximumGradientNorm = 0
        run.recipe.evalSteps = 2
        run.recipe.saveSteps = 4
        run.recipe.savedLimit = 1
        run.recipe.stopping.keepsBest = true
        run.recipe.stopping.patience = 3
        return run
    }

    private func diverging(_ folder: String, keepsBest: Bool) throws -> BigramRun {
        var run = try overfitting(folder)
        run.recipe.stopping.patience = nil
        run.recipe.stopping.keepsBest = keepsBest
        run.recipe.stopping.divergenceThreshold = 1
        run.recipe.stopping.divergencePatience = 3
        run.recipe.epochs = 30
        // From step 10 on the rate is one that nothing bears.
        run.rates = { $0 < 10 ? 0.05 : 60 }
        return run
    }

    private func summary(_ ending: FineTuneEnding) throws -> FineTuneSummary {
        guard case .finished(let summary) = ending else {
            Issue.record("not finished")
            throw FineTuneError(.compute, "not finished")
        }
        return summary
    }

    @Test func theBestStateIsWrittenAndKept() throws {
        try withTemporaryFolder { folder in
            let run = try overfitting(folder)
            let summary = try summary(run.run())
            let end = try #require(summary.end)
            #expect(end.reason == .earlyStopping && summary.steps < summary.plannedSteps)
            let evaluations = try run.metrics().filter { $0.evalLoss != nil && $0.step != 0 }
            let best = try #require(
                evaluations.min { ($0.evalLoss ?? 0) < ($1.evalLoss ?? 0) })
            #expect(summary.bestStep == best.step && summary.bestEvalLoss == best.evalLoss)
            #expect(summary.adapterStep == best.step && summary.evalLossAfter == best.evalLoss)
            #expect(end.step == (best.step ?? 0) + 3 * 2)
            // The model is that of the best step: it has its loss.
            let rows = PackedRows(Self.evaluation)
            let now = try run.model.evaluate(
                tokens: rows.tokens, spanLengths: rows.spanLengths, labels: rows.labels)
            #expect(now.lossSum / Double(now.labelCount) == best.evalLoss)
            #expect(try run.metrics().last?.value["stopped"] == "early_stopping")
            #expect(best.value["best"] == true)
            // Beyond the limit of one, the best checkpoint stays.
            let store = CheckpointStore(folder: folder + "/checkpoints", adapterConfig: nil)
            #expect(store.steps() == [summary.adapterStep, end.step])
        }
    }

    @Test func withoutBeingAskedForTheLastStateIsWritten() throws {
        try withTemporaryFolder { folder in
            var run = try overfitting(folder)
            run.recipe.stopping.keepsBest = false
            let summary = try summary(run.run())
            let last = try run.metrics().last { $0.evalLoss != nil }
            #expect(summary.adapterStep == summary.steps && summary.end != nil)
            #expect(summary.evalLossAfter == last?.evalLoss)
            #expect(summary.bestEvalLoss.map { $0 < (last?.evalLoss ?? 0) } == true)
        }
    }

    /// Stopped after any step, or in the middle of any evaluation, a run ends where an uninterrupted one ends, with the
    /// same figures and weights to the last bit.
    @Test(arguments: [false, true]) func resumeDecidesTheSame(diverges: Bool) throws {
        try withTemporaryFolder { folder in
            func make(_ name: String) throws -> BigramRun {
                try diverges
                    ? diverging(folder + name, keepsBest: true) : overfitting(folder + name)
            }
            let whole = try make("/whole")
            let expected = try summary(whole.run())
            #expect(expected.end?.reason == (diverges ? .divergence : .earlyStopping))
            let lines = try whole.metrics().map(\.comparable)
            for stop in 0..<(2 * expected.steps) {
                var run = try make("/\(stop)")
                var asked = 0
                // Asked before steps and between evaluation batches.
                let first = try run.run(
                    FineTuneControl(stopRequested: {
                        asked += 1
                        return asked > stop ? .preempted : nil
                    }))
                if case .finished = first { break }
                run.model = try Bigram()
                let resumed = try summary(run.run())
                #expect(resumed.end == expected.end && resumed.adapterStep == expected.adapterStep)
                #expect(try run.metrics().map(\.comparable) == lines, "stopped at \(stop)")
                #expect(run.model.parameters.values == whole.model.parameters.values)
            }
        }
    }

    /// A death between checkpoints: what was decided since is decided once more.
    @Test func deathDecidesTheSame() throws {
        try withTemporaryFolder { folder in
            let whole = try overfitting(folder + "/whole")
            let expected = try summary(whole.run())
            for pass in 0..<expected.steps {
                var run = try overfitting(folder + "/\(pass)")
                #expect(throws: FailingStep.Failed.self) {
                    _ = try run.runner(FailingStep(run.model, atPass: pass)).run()
                }
                run.model = try Bigram()
                #expect(try summary(run.run()).end == expected.end)
                #expect(
                    try run.metrics().map(\.comparable) == whole.metrics().map(\.comparable))
                #expect(run.model.parameters.values == whole.model.parameters.values)
            }
        }
    }

    @Test func divergenceFailsAndNamesTheLastGoodCheckpoint() throws {
        try withTemporaryFolder { folder in
            let run = try diverging(folder, keepsBest: false)
            let error = #expect(throws: FineTuneError.self) { _ = try run.run() }
            #expect(error?.code == .diverged)
            let store = CheckpointStore(folder: folder + "/checkpoints", adapterConfig: nil)
            let last = try #require(try run.metrics().last)
            #expect(last.value["stopped"] == "divergence")
            let good = try #require(
                store.steps().first { error?.message.contains(store.path(of: $0)) == true })
            let loaded = try store.checkpoint(good, tensors: run.model.trainedTensors)
            #expect(loaded.state.watch.stepsAbove == 0 && loaded.state.watch.goodCheckpoint == good)
            // The same again after a retry.
            var again = run
            again.model = try Bigram()
            #expect(throws: FineTuneError.self) { _ = try again.run() }
            #expect(try again.metrics().map(\.comparable) == run.metrics().map(\.comparable))
        }
    }

    @Test func divergenceLeavesTheBestStateWhereThatIsAskedFor() throws {
        try withTemporaryFolder { folder in
            let run = try diverging(folder, keepsBest: true)
            let summary = try summary(run.run())
            #expect(summary.end?.reason == .divergence && summary.adapterStep <= 10)
            #expect(summary.evalLossAfter == summary.bestEvalLoss)
            #expect(summary.warnings.contains { $0.contains("step \(summary.adapterStep)") })
            let store = CheckpointStore(folder: folder + "/checkpoints", adapterConfig: nil)
            #expect(
                !store.steps().contains(summary.end?.step ?? 0), "no checkpoint of a run gone wrong"
            )
        }
    }

    @Test func lossesThatStayNonFiniteLeaveTheBestStateToo() throws {
        try withTemporaryFolder { folder in
            var run = try overfitting(folder)
            run.recipe.stopping.patience = nil
            run.model.poisonedLosses = Set(8..<1_000)
            let summary = try summary(run.run())
            #expect(summary.end?.reason == .nonFinite && summary.adapterStep <= 8)
            #expect(run.model.parameters.values.allSatisfy { $0.isFinite })
        }
    }
}

extension JSONLine {
    /// Without what depends on the clock.
    var comparable: String {
        var object = value.object ?? JSONObject()
        object["seconds"] = nil
        object["tokens_per_second"] = nil
        return JSONValue.object(object).text()
    }
}
