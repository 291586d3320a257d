import JSONModel
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import Transformer

/// Loss, gradients and a short training run of a reference case.
extension VerificationCase {
    /// The plain variant's loss and the gradient of every adapter tensor.
    func checkGradients() throws {
        let adapter = try AdapterFolder.read(folder + "/adapter/plain", for: decoder)
        let length = inputIDs[0].count
        let step = try TrainingStep(
            decoder: decoder, adapter: adapter, compute: compute,
            maximumRows: inputIDs.count * length, dropoutSeed: try dropoutSeed())
        let labels = Self.rows(try expected.integers("labels"), columns: length)
        let loss = try ReferenceTraining.accumulate(step, inputIDs, labels)
        report.compare(
            "loss", [Float(loss)], try expected.floats("loss"), tolerance: tolerances.loss)
        report.compareGroup(
            "gradients",
            try step.tensors.map {
                ($0.name, numbers(step.gradients, $0), try expected.floats("grad." + $0.name))
            }, tolerance: tolerances.gradients)
    }

    private var trainingPath: String { folder + "/train.json" }

    /// `dropout_seed` of train.json: the masks of a case with `lora_dropout` are this engine's (`InputDropout.key`), given
    /// to PyTorch in place of its own. Without it nothing is dropped.
    private func dropoutSeed() throws -> UInt64? {
        try JSONValue.parse(FilePath.read(trainingPath))["dropout_seed"]?.integer
            .flatMap { UInt64(exactly: $0) }
    }

    /// The AdamW steps of train.json from adapter/plain, each with its own rate.
    func checkTraining() throws {
        let path = trainingPath
        let file = try JSONValue.parse(FilePath.read(path))
        func number(_ value: JSONValue?, _ key: String) throws -> Double {
            guard let number = value?.double else {
                throw ModelFileError(.malformed, file: path, item: key, "is no number")
            }
            return number
        }
        func ids(_ value: JSONValue?, _ key: String) throws -> [[Int32]] {
            guard let rows = value?.array else {
                throw ModelFileError(.malformed, file: path, item: key, "is no list")
            }
            return rows.map { ($0.array ?? []).map { Int32(clamping: $0.integer ?? Int.min) } }
        }
        let optimizer = file["optimizer"]
        let betas = try (optimizer?["betas"]?.array ?? []).map { try number($0, "betas") }
        guard betas.count == 2, let steps = file["steps"]?.array, !steps.isEmpty else {
            throw ModelFileError(.malformed, file: path, "has no two betas or no steps")
        }
        let training = ReferenceTraining(
            betas: (betas[0], betas[1]), epsilon: try number(optimizer?["eps"], "eps"),
            weightDecay: try number(optimizer?["weight_decay"], "weight_decay"),
            maximumNorm: try number(optimizer?["max_grad_norm"], "max_grad_norm"),
            steps: try steps.map {
                ReferenceTraining.Step(
                    ids: try ids($0["input_ids"], "input_ids"),
                    labels: try ids($0["labels"], "labels"),
                    learningRate: try number($0["learning_rate"], "learning_rate"),
                    loss: try number($0["loss"], "loss"),
                    norm: try number($0["grad_norm"], "grad_norm"))
            })
        let adapter = try AdapterFolder.read(folder + "/adapter/plain", for: decoder)
        let step = try TrainingStep(
            decoder: decoder, adapter: adapter, compute: compute,
            maximumRows: training.maximumRows, dropoutSeed: try dropoutSeed())
        let (losses, norms) = try training.run(step, compute: compute)
        report.compare(
            "losses of \(steps.count) steps", losses.map { Float($0) },
            training.steps.map { Float($0.loss) }, tolerance: tolerances.trainingLosses)
        report.compare(
            "gradient norms of \(steps.count) steps", norms.map { Float($0) },
            training.steps.map { Float($0.norm) }, tolerance: tolerances.gradients)
        let trained = try AdapterFolder.read(folder + "/trained", for: decoder)
        var byName: [String: [Float]] = [:]
        for tensor in trained.tensors { byName[tensor.name] = tensor.values }
        report.compareGroup(
            "trained adapter",
            step.tensors.map { ($0.name, numbers(step.parameters, $0), byName[$0.name] ?? []) },
            tolerance: tolerances.trained)
    }

    private func numbers(_ vector: Matrix, _ tensor: TrainingStep.Tensor) -> [Float] {
        tensor.range.map { vector[0, $0] }
    }
}
