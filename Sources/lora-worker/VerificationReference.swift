import Datasets
import JSONModel
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import Transformer

/// A folder with reference.json: real fine-tunes of a small chat model, from text to every step's loss.
///
/// `model/`, `adapters/initial/` and `tasks/<task>/train.jsonl`; reference.json holds, for each task, the
/// row numbers of every step's batch, the learning rates, and the losses and gradient norms that PEFT had.
///
/// At these rates (4e-3, B from zero) AdamW divides differences of rounding by second moments near zero, and they grow:
/// PyTorch against itself, on another machine in float32, is 1e-6 apart at the first step, 4e-4 at the tenth,
/// 4e-3 at the sixteenth and 1.5e-1 at worst (task iso-date), and so is this engine. Hence the first steps are judged.
struct VerificationReference {
    let folder: String
    let elementType: Kernels.ElementType
    let compute: Compute
    let report: VerificationReport
    /// Steps of each task that are run.
    let maximumSteps: Int

    static func isReference(_ folder: String) -> Bool {
        FilePath.exists(folder + "/reference.json")
    }

    func run() throws {
        let model = folder + "/model"
        let config = try ModelConfigReader.read(folder: model)
        let decoder = try Decoder(
            config: config, source: CheckpointSource.open(folder: model, config: config),
            elementType: elementType, compute: compute)
        let adapter = try AdapterFolder.read(folder + "/adapters/initial", for: decoder)
        let path = folder + "/reference.json"
        let tasks = try JSONValue.parse(FilePath.read(path))["tasks"]?.object
        guard let tasks, !tasks.isEmpty else {
            throw ModelFileError(.malformed, file: path, item: "tasks", "is missing or empty")
        }
        let builder = try ReferenceText(model: model).builder(config)
        for (name, task) in tasks.entries {
            let training = try training(task, name: name, path: path, builder: builder)
            let step = try TrainingStep(
                decoder: decoder, adapter: adapter, compute: compute,
                maximumRows: training.maximumRows)
            let (losses, norms) = try training.run(step, compute: compute)
            // Losses fall by four orders of magnitude: the distance of each step counts, not a ratio.
            let distance = zip(losses, training.steps).reduce(0.0) {
                // max() would pass over NaN.
                let one = abs($1.0 - $1.1.loss)
                return one <= $0 ? $0 : one
            }
            report.record(
                "\(name): largest distance of a loss in \(losses.count) steps", distance,
                tolerance: elementType == .float32 ? 1e-3 : 1e-1)
            report.compare(
                "\(name): gradient norms", norms.map { Float($0) },
                training.steps.map { Float($0.norm) },
                tolerance: elementType == .float32 ? 1e-2 : 5e-1)
        }
    }

    private func training(
        _ task: JSONValue, name: String, path: String, builder: ExampleBuilder
    ) throws -> ReferenceTraining {
        let data = "\(folder)/tasks/\(name)/train.jsonl"
        let dataset = try TrainingDataset.read(path: data, builder: builder)
        var byLine: [Int: TrainingExample] = [:]
        for example in dataset.examples { byLine[example.line] = example }
        func numbers(_ key: String) throws -> [Double] {
            let values = (task[key]?.array ?? []).compactMap(\.double)
            guard !values.isEmpty, values.count == task[key]?.array?.count else {
                throw ModelFileError(
                    .malformed, file: path, item: "tasks.\(name).\(key)", "is no list of numbers")
            }
            return values
        }
        let rates = try numbers("learning_rates")
        let losses = try numbers("losses")
        let norms = try numbers("grad_norms")
        let batches = task["batches"]?.array ?? []
        guard batches.count == rates.count, losses.count == rates.count, norms.count == rates.count
        else {
            throw ModelFileError(
                .malformed, file: path, item: "tasks.\(name)", "its lists differ in length")
        }
        let settings = task["hyperparameters"]
        let steps = try batches.indices.prefix(maximumSteps).map { index in
            let examples = try (batches[index].array ?? []).map { row in
                // Rows count from 0, lines from 1.
                guard let number = row.integer, let example = byLine[number + 1] else {
                    throw ModelFileError(
                        .malformed, file: data, item: "row \(row.text())",
                        "is not among the rows that could be read")
                }
                return example
            }
            return ReferenceTraining.Step(
                ids: examples.map(\.tokens), labels: examples.map(\.labels),
                learningRate: rates[index], loss: losses[index], norm: norms[index])
        }
        return ReferenceTraining(
            betas: (0.9, 0.999), epsilon: settings?["eps"]?.double ?? 1e-8,
            weightDecay: settings?["weight_decay"]?.double ?? 0,
            maximumNorm: settings?["max_grad_norm"]?.double ?? 1, steps: steps)
    }
}
