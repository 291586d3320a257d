import Datasets
import Kernels
import LinuxSystem
import Testing

@testable import FineTuning

@Suite struct FineTuneRunTests {
    /// Loss, gradient norm before clipping and learning rate of each step, from PyTorch: `torch.optim.AdamW`,
    /// `clip_grad_norm_`, cosine schedule, windows of two rows, the last one partial.
    static let reference: [(loss: Double, norm: Double, rate: Double)] = [
        (1.6243768, 0.4002613, 0.000000000),
        (1.4835567, 0.4263103, 0.150000000),
        (2.2807488, 0.9878014, 0.300000000),
        (1.3381799, 0.3504685, 0.256066017),
        (0.9946178, 0.3487851, 0.150000000),
        (1.7023840, 0.9163553, 0.043933983),
    ]

    @Test func stepsEqualPyTorch() throws {
        try withTemporaryFolder { folder in
            let run = try BigramRun(folder: folder)
            guard case .finished(let summary) = try run.run() else {
                Issue.record("not finished")
                return
            }
            let lines = try run.metrics()
            #expect(lines.count == Self.reference.count)
            for (line, expected) in zip(lines, Self.reference) {
                #expect(abs((line.loss ?? .nan) - expected.loss) <= 2e-6)
                #expect(abs((line.norm ?? .nan) - expected.norm) <= 2e-6)
                #expect(abs((line.rate ?? .nan) - expected.rate) <= 1e-9)
            }
            #expect(summary.steps == 6 && summary.epochs == 2)
            #expect(summary.firstLoss == lines[0].loss && summary.lastLoss == lines[5].loss)
            #expect(summary.labels == 2 * 9 && summary.tokens == 2 * 18)
            #expect(abs(run.model.parameters[0, 8] - 0.9874674) < 1e-5)
        }
    }

    /// Packing, batches and accumulation change speed only.
    @Test("KINDS 4: packing and batch layout change no step") func layoutDoesNotChangeTheRun()
        throws
    {
        var seen: [[Float]] = []
        for (batch, accumulation, packing, rows) in [
            (1, 2, true, 64), (2, 1, false, 64), (1, 2, false, 64), (2, 1, true, 5),
        ] {
            try withTemporaryFolder { folder in
                var run = try BigramRun(folder: folder, maximumRows: rows)
                run.recipe.batchSize = batch
                run.recipe.accumulation = accumulation
                run.recipe.packing = packing
                _ = try run.run()
                for (line, expected) in zip(try run.metrics(), Self.reference) {
                    #expect(abs((line.loss ?? .nan) - expected.loss) <= 2e-6)
                }
                seen.append(run.model.parameters.values)
            }
        }
        for other in seen.dropFirst() {
            for (a, b) in zip(seen[0], other) { #expect(abs(a - b) < 1e-5) }
        }
    }

    /// Stopping after any step and going on gives the same losses and weights, to the last bit.
    @Test(arguments: [FineTuneStop.preempted, .cancelled])
    func resumeIsBitEqual(stop: FineTuneStop) throws {
        try withTemporaryFolder { folder in
            var whole = try BigramRun(folder: folder + "/whole")
            whole.recipe.shuffle = true
            whole.evaluation = Array(bigramRows.prefix(2))
            _ = try whole.run()
            let expected = try whole.metrics().map { [$0.loss, $0.norm, $0.rate, $0.evalLoss] }
            for last in 0..<6 {
                var first = try BigramRun(folder: folder + "/\(last)")
                first.recipe.shuffle = true
                first.evaluation = whole.evaluation
                var steps = 0
                let ending = try first.run(
                    FineTuneControl(
                        stopRequested: { steps > last ? stop : nil },
                        report: { if $0.phase == .training { steps += 1 } }))
                #expect(ending == .stopped(stop, step: last + 1))
                var second = first
                second.model = try Bigram()
                guard case .finished(let summary) = try second.run() else {
                    Issue.record("not finished")
                    return
                }
                #expect(summary.resumedFromStep == last + 1 && summary.warnings.isEmpty)
                #expect(
                    try second.metrics().map { [$0.loss, $0.norm, $0.rate, $0.evalLoss] }
                        == expected)
                #expect(second.model.parameters.values == whole.model.parameters.values)
                #expect(summary.tokens == 36 && summary.labels == 18)
            }
        }
    }

    /// A run that dies between checkpoints repeats the steps since, and its metrics hold each step once.
    @Test func deathBetweenCheckpointsRepeatsSteps() throws {
        struct Died: Error {}
        try withTemporaryFolder { folder in
            let whole = try BigramRun(folder: folder + "/whole")
            _ = try whole.run()
            var run = try BigramRun(folder: folder + "/run")
            run.recipe.saveSteps = 2
            run.model.poisonedLosses = []
            // The model of the first attempt fails in its fourth step.
            let failing = try FailingStep(run.model, atPass: 3)
            #expect(throws: FailingStep.Failed.self) {
                _ = try FineTuneRun(
                    model: failing, recipe: run.recipe, training: bigramRows,
                    identity: run.identity, folder: run.folder,
                    compute: BigramRun.compute.get()
                ).run()
            }
            #expect(try run.metrics().map(\.step) == [1, 2, 3])
            run.model = try Bigram()
            _ = try run.run()
            #expect(try run.metrics().map(\.step) == [1, 2, 3, 4, 5, 6])
            #expect(try run.metrics().map(\.loss) == whole.metrics().map(\.loss))
            #expect(run.model.parameters.values == whole.model.parameters.values)
        }
    }

    /// A non-finite loss or gradient never reaches weights, optimizer or checkpoint.
    @Test("KINDS 7: a step that is not finite is left out and named", arguments: [true, false])
    func nonFiniteStepIsSkipped(inLoss: Bool) throws {
        try withTemporaryFolder { folder in
            let run = try BigramRun(folder: folder)
            if inLoss { run.model.poisonedLosses = [2] } else { run.model.poisonedGradients = [2] }
            guard case .finished(let summary) = try run.run() else {
                Issue.record("not finished")
                return
            }
            #expect(summary.skippedSteps == [2])
            #expect(summary.warnings.contains { $0.contains("2") })
            let lines = try run.metrics()
            #expect(lines[2].skipped?.contains(inLoss ? "loss" : "gradient") == true)
            #expect(lines[2].loss == nil && lines[2].rate == 0.3)
            #expect(run.model.parameters.values.allSatisfy { $0.isFinite })
            // The schedule goes on in optimizer steps.
            #expect(abs((lines[3].rate ?? .nan) - Self.reference[3].rate) < 1e-9)
        }
    }

    @Test("KINDS 7: repetition fails the run") func repeatedNonFiniteStepsFail() throws {
        try withTemporaryFolder { folder in
            let run = try BigramRun(folder: folder)
            run.model.poisonedLosses = Set(0..<100)
            let before = run.model.parameters.values
            do {
                _ = try run.run()
                Issue.record("nothing was thrown")
            } catch let error as FineTuneError {
                #expect(error.code == .nonFinite && error.message.contains("learning rate"))
            }
            #expect(run.model.parameters.values == before)
        }
        // Also in a run that is shorter than the limit.
        try withTemporaryFolder { folder in
            var run = try BigramRun(folder: folder)
            run.recipe.maximumSteps = 2
            run.model.poisonedLosses = Set(0..<100)
            #expect(throws: FineTuneError.self) { _ = try run.run() }
        }
    }

    @Test("KINDS 2: rows without labels do not start") func rowsWithoutLabelsDoNotStart() throws {
        try withTemporaryFolder { folder in
            let run = try BigramRun(folder: folder)
            let bare = TrainingExample(line: 1, tokens: [1, 2], labelled: [0..<1])
            #expect(throws: FineTuneError.self) {
                _ = try FineTuneRun(
                    model: run.model, recipe: run.recipe, training: [bare],
                    identity: run.identity, folder: folder, compute: BigramRun.compute.get())
            }
        }
    }

    @Test func evaluationIsTheLabelMean() throws {
        try withTemporaryFolder { folder in
            var run = try BigramRun(folder: folder)
            run.evaluation = bigramRows
            run.recipe.evalSteps = 3
            run.recipe.maximumGradientNorm = 0
            let before = try run.model.evaluate(
                tokens: PackedRows(bigramRows).tokens, spanLengths: [4, 3, 5, 2, 4],
                labels: PackedRows(bigramRows).labels)
            guard case .finished(let summary) = try run.run() else { return }
            #expect(summary.evalLossBefore == before.lossSum / 9)
            #expect(summary.evalLossAfter.map { $0 < before.lossSum / 9 } == true)
            #expect(try run.metrics().filter { $0.evalLoss != nil }.map(\.step) == [0, 3, 6])
        }
    }

    @Test func stepsTakeThePlaceOfEpochs() throws {
        try withTemporaryFolder { folder in
            var run = try BigramRun(folder: folder)
            run.recipe.maximumSteps = 7
            guard case .finished(let summary) = try run.run() else { return }
            #expect(summary.steps == 7)
        }
        var recipe = FineTuneRecipe()
        recipe.epochs = 1.5
        #expect(recipe.totalSteps(stepsPerEpoch: 3) == 5)
        recipe.warmupRatio = 0.1
        #expect(recipe.warmup(of: 25) == 3)
    }
}

/// A model that fails in one pass.
final class FailingStep: GradientStep {
    struct Failed: Error {}
    private let inner: Bigram
    private let pass: Int

    init(_ inner: Bigram, atPass pass: Int) throws {
        self.inner = inner
        self.pass = pass
    }

    var parameters: Matrix { inner.parameters }
    var gradients: Matrix { inner.gradients }
    var trainedTensors: [TrainedTensor] { inner.trainedTensors }
    var maximumRows: Int { inner.maximumRows }
    func zeroGradients() { inner.zeroGradients() }
    func parametersChanged() throws { try inner.parametersChanged() }

    func accumulate(
        tokens: [Int32], spanLengths: [Int], labels: [Int32], lossWeight: Float
    ) throws -> (lossSum: Double, labelCount: Int) {
        if inner.passes == pass { throw Failed() }
        return try inner.accumulate(
            tokens: tokens, spanLengths: spanLengths, labels: labels, lossWeight: lossWeight)
    }

    func evaluate(
        tokens: [Int32], spanLengths: [Int], labels: [Int32]
    ) throws -> (lossSum: Double, labelCount: Int) {
        try inner.evaluate(tokens: tokens, spanLengths: spanLengths, labels: labels)
    }
}
