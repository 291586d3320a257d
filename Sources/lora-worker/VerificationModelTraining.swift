import Datasets
import JSONModel
import Kernels
import LoRA
import ModelFiles
import Transformer

/// The fine-tune in `train/`: PEFT's steps from the same start, with the same batches and rates.
struct VerificationModelTraining {
    private let real: VerificationModel
    private let settings: JSONValue
    private let training: ReferenceTraining
    private let evaluation: [TrainingExample]

    init(_ real: VerificationModel) throws {
        self.real = real
        settings = try real.json("train/run.json")
        let builder = real.text.builder(real.decoder.config)
        let rows = try TrainingDataset.read(
            path: real.folder + "/train/train.jsonl", builder: builder
        ).examples
        evaluation = try TrainingDataset.read(
            path: real.folder + "/train/eval.jsonl", builder: builder
        ).examples
        let steps = settings["step"]?.array ?? []
        let size = settings["batch"]?.integer ?? 0
        guard size > 0, rows.count == steps.count * size else {
            throw ModelFileError(
                .malformed, file: real.folder + "/train/run.json", item: "step",
                "has \(steps.count) steps of \(size) for \(rows.count) rows")
        }
        training = ReferenceTraining(
            betas: (0.9, 0.999), epsilon: settings["eps"]?.double ?? 1e-8,
            weightDecay: settings["weight_decay"]?.double ?? 0,
            maximumNorm: settings["clip"]?.double ?? 1,
            steps: steps.enumerated().map { index, step in
                let batch = rows[index * size..<(index + 1) * size]
                return ReferenceTraining.Step(
                    ids: batch.map(\.tokens), labels: batch.map(\.labels),
                    learningRate: step["lr"]?.double ?? .nan,
                    loss: step["loss"]?.double ?? .nan, norm: step["grad_norm"]?.double ?? .nan)
            })
    }

    func run() throws {
        checkFirstBatch()
        let start = try AdapterFolder.read(
            real.folder + "/train/adapter-init", for: real.decoder)
        try checkRounding(start)
        let step = try TrainingStep(
            decoder: real.decoder, adapter: start, compute: real.compute,
            maximumRows: training.maximumRows)
        let (losses, norms) = try training.run(step, compute: real.compute)
        let deviations = zip(losses, training.steps).map { abs($0 - $1.loss) / $1.loss }
        let loss = try mean(step, evaluation)
        let wanted = settings["eval_loss_after"]?.double ?? .nan
        if real.isExact {
            let distance = zip(losses, training.steps).map { abs($0 - $1.loss) }
            report("loss of \(losses.count) steps, largest distance", distance.largest, 1e-3)
            report(
                "gradient norms, largest deviation",
                zip(norms, training.steps).map { abs($0 - $1.norm) / $1.norm }.largest, 1e-2)
            report("evaluation loss \(loss)", abs(loss - wanted) / wanted, 1e-2)
            return
        }
        report("loss of \(losses.count) steps, median deviation", deviations.median, 1e-2)
        report("evaluation loss \(loss)", abs(loss - wanted) / wanted, 3e-2)
        let there = try real.json("train/run-bf16.json")
        let peers = zip(there["step"]?.array ?? [], training.steps).map {
            abs(($0["loss"]?.double ?? .nan) - $1.loss) / $1.loss
        }
        report("median deviation over that of PEFT in bf16", deviations.median / peers.median, 1)
        let peer = abs((there["eval_loss_after"]?.double ?? .nan) - wanted)
        report(
            "evaluation loss's deviation over that of PEFT in bf16", abs(loss - wanted) / peer, 1)
    }

    private func report(_ what: String, _ error: Double, _ tolerance: Double) {
        real.report.record("training: " + what, error, tolerance: tolerance)
    }

    private func checkFirstBatch() {
        let rows = settings["first_batch"]?.array ?? []
        for (index, row) in rows.enumerated() where index < training.steps[0].ids.count {
            let ids = training.steps[0].ids[index]
            let labels = training.steps[0].labels[index]
            real.report.expectEqual(
                "training: row \(index), ids", ids.map(Int64.init),
                VerificationModel.tokens(row["ids"]).map(Int64.init), mustAgree: true)
            real.report.expectEqual(
                "training: row \(index), labels", labels.map { Int64(max(-1, $0)) },
                VerificationModel.tokens(row["labels"]).map { Int64(max(-1, $0)) },
                mustAgree: true)
        }
    }

    /// The same adapter, four float32 steps old: what rounding does to the losses of the next batches.
    private func checkRounding(_ start: Adapter) throws {
        let expected = (try real.json("train/after-4-steps.json")["float32"]?.array ?? [])
            .compactMap(\.double)
        let four = ReferenceTraining(
            betas: training.betas, epsilon: training.epsilon, weightDecay: training.weightDecay,
            maximumNorm: training.maximumNorm, steps: Array(training.steps.prefix(4)))
        let exact = try TrainingStep(
            decoder: real.exact, adapter: start, compute: real.compute,
            maximumRows: training.maximumRows)
        _ = try four.run(exact, compute: real.compute)
        let step = try TrainingStep(
            decoder: real.decoder, adapter: exact.adapter(), compute: real.compute,
            maximumRows: training.maximumRows)
        let distances = try expected.enumerated().map { index, loss in
            let batch = training.steps[4 + index]
            let result = try step.evaluate(
                tokens: batch.ids.flatMap { $0 }, spanLengths: batch.ids.map(\.count),
                labels: batch.labels.flatMap { $0 })
            return abs(result.lossSum / Double(result.labelCount) - loss)
        }
        report(
            "loss of \(expected.count) batches after 4 float32 steps, largest distance",
            distances.largest, real.isExact ? 1e-4 : 5e-3)
    }

    private func mean(_ step: TrainingStep, _ rows: [TrainingExample]) throws -> Double {
        var sum = 0.0
        var count = 0
        for row in rows {
            let result = try step.evaluate(
                tokens: row.tokens, spanLengths: [row.tokens.count], labels: row.labels)
            sum += result.lossSum
            count += result.labelCount
        }
        return sum / Double(count)
    }
}

extension [Double] {
    /// NaN if there is one, or nothing at all.
    fileprivate var largest: Double {
        isEmpty || contains(where: \.isNaN) ? .nan : self.max()!
    }

    fileprivate var median: Double {
        isEmpty || contains(where: \.isNaN) ? .nan : sorted()[count / 2]
    }
}
