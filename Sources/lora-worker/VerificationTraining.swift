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
            maximumRows: inputIDs.count * length)
        let labels = Self.rows(try expected.integers("labels"), columns: length)
        let loss = try gradients(step, inputIDs, labels)
        report.compare(
            "loss", [Float(loss)], try expected.floats("loss"), tolerance: tolerances.loss)
        report.compareGroup(
            "gradients",
            try step.tensors.map {
                ($0.name, numbers(step.gradients, $0), try expected.floats("grad." + $0.name))
            }, tolerance: tolerances.gradients)
    }

    /// The AdamW steps of train.json from adapter/plain, each with its own rate.
    func checkTraining() throws {
        let path = folder + "/train.json"
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
        let adapter = try AdapterFolder.read(folder + "/adapter/plain", for: decoder)
        let rows = try steps.reduce(0) {
            max($0, try ids($1["input_ids"], "input_ids").reduce(0) { $0 + $1.count })
        }
        let step = try TrainingStep(
            decoder: decoder, adapter: adapter, compute: compute, maximumRows: rows)
        let first = try Matrix.vector(step.parameters.columns)
        let second = try Matrix.vector(step.parameters.columns)
        var losses: [[Float]] = [[], []]
        var norms: [[Float]] = [[], []]
        for (index, entry) in steps.enumerated() {
            step.zeroGradients()
            let loss = try gradients(
                step, ids(entry["input_ids"], "input_ids"), ids(entry["labels"], "labels"))
            let norm = try compute.squaredNorm(step.gradients).squareRoot()
            losses[0].append(Float(loss))
            losses[1].append(Float(try number(entry["loss"], "loss")))
            norms[0].append(Float(norm))
            norms[1].append(Float(try number(entry["grad_norm"], "grad_norm")))
            // torch.nn.utils.clip_grad_norm_
            let limit = try number(optimizer?["max_grad_norm"], "max_grad_norm")
            try compute.adamW(
                parameter: step.parameters, gradient: step.gradients, moment1: first,
                moment2: second, step: index + 1,
                learningRate: number(entry["learning_rate"], "learning_rate"),
                gradientScale: Float(min(1, limit / (norm + 1e-6))), beta1: betas[0],
                beta2: betas[1], epsilon: number(optimizer?["eps"], "eps"),
                weightDecay: number(optimizer?["weight_decay"], "weight_decay"))
            try step.parametersChanged()
        }
        report.compare(
            "losses of \(steps.count) steps", losses[0], losses[1],
            tolerance: tolerances.trainingLosses)
        report.compare(
            "gradient norms of \(steps.count) steps", norms[0], norms[1],
            tolerance: tolerances.gradients)
        let trained = try AdapterFolder.read(folder + "/trained", for: decoder)
        var byName: [String: [Float]] = [:]
        for tensor in trained.tensors { byName[tensor.name] = tensor.values }
        report.compareGroup(
            "trained adapter",
            step.tensors.map { ($0.name, numbers(step.parameters, $0), byName[$0.name] ?? []) },
            tolerance: tolerances.trained)
    }

    /// Adds the gradients of the mean loss over the labels of all rows; returns that loss.
    private func gradients(
        _ step: TrainingStep, _ ids: [[Int32]], _ labels: [[Int32]]
    ) throws -> Double {
        let count = labels.reduce(0) { $0 + $1.dropFirst().filter { $0 >= 0 }.count }
        let result = try step.accumulate(
            tokens: ids.flatMap { $0 }, spanLengths: ids.map(\.count),
            labels: labels.flatMap { $0 }, lossWeight: 1 / Float(max(count, 1)))
        return result.lossSum / Double(result.labelCount)
    }

    private func numbers(_ vector: Matrix, _ tensor: TrainingStep.Tensor) -> [Float] {
        tensor.range.map { vector[0, $0] }
    }
}
