import Datasets
import Foundation
import Kernels
import LinuxSystem

@testable import FineTuning

/// The smallest language model: the next token depends on this one, `logits = W[token]`.
final class Bigram: GradientStep {
    static let vocabulary = 6
    let parameters: Matrix
    let gradients: Matrix
    let maximumRows: Int
    /// Passes (from 0) whose loss is made NaN, or whose gradient is.
    var poisonedLosses: Set<Int> = []
    var poisonedGradients: Set<Int> = []
    private(set) var passes = 0
    private var changes = 0

    init(maximumRows: Int = 64) throws {
        let count = Self.vocabulary * Self.vocabulary
        parameters = try Matrix(vector: (0..<count).map { Float($0 * 37 % 11 - 5) / 10 })
        gradients = try Matrix.vector(count)
        self.maximumRows = maximumRows
    }

    var trainedTensors: [TrainedTensor] {
        let half = Self.vocabulary * Self.vocabulary / 2
        return [
            TrainedTensor(name: "top", shape: [3, Self.vocabulary], range: 0..<half),
            TrainedTensor(name: "bottom", shape: [3, Self.vocabulary], range: half..<2 * half),
        ]
    }

    func zeroGradients() { gradients.fill(0) }
    func parametersChanged() throws { changes += 1 }

    func accumulate(
        tokens: [Int32], spanLengths: [Int], labels: [Int32], lossWeight: Float
    ) throws -> (lossSum: Double, labelCount: Int) {
        defer { passes += 1 }
        var result = losses(tokens, spanLengths, labels, lossWeight)
        if poisonedLosses.contains(passes) { result.lossSum = .nan }
        if poisonedGradients.contains(passes) { gradients[0, 0] = .infinity }
        return result
    }

    func evaluate(
        tokens: [Int32], spanLengths: [Int], labels: [Int32]
    ) throws -> (lossSum: Double, labelCount: Int) {
        losses(tokens, spanLengths, labels, nil)
    }

    private func losses(
        _ tokens: [Int32], _ spans: [Int], _ labels: [Int32], _ weight: Float?
    ) -> (lossSum: Double, labelCount: Int) {
        var sum = 0.0
        var count = 0
        var start = 0
        let size = Self.vocabulary
        for length in spans {
            for index in (start + 1)..<max(start + 1, start + length) where labels[index] >= 0 {
                let row = Int(tokens[index - 1]) * size
                let logits = (0..<size).map { Double(parameters[0, row + $0]) }
                let top = logits.max() ?? 0
                let total = logits.reduce(0) { $0 + exp($1 - top) }
                sum += log(total) + top - logits[Int(labels[index])]
                count += 1
                guard let weight else { continue }
                for token in 0..<size {
                    let share = exp(logits[token] - top) / total
                    gradients[0, row + token] +=
                        weight * Float(share - (token == Int(labels[index]) ? 1 : 0))
                }
            }
            start += length
        }
        return (sum, count)
    }
}

/// Rows of the reference run in `FineTuneRunTests`.
let bigramRows: [TrainingExample] = [
    TrainingExample(line: 1, tokens: [0, 1, 2, 3], labelled: [2..<4]),
    TrainingExample(line: 2, tokens: [1, 4, 5], labelled: [1..<3]),
    TrainingExample(line: 3, tokens: [5, 0, 5, 2, 1], labelled: [1..<3, 4..<5]),
    TrainingExample(line: 4, tokens: [3, 3], labelled: [1..<2]),
    TrainingExample(line: 5, tokens: [2, 0, 4, 1], labelled: [3..<4]),
]

/// A run over `bigramRows` in a folder of its own.
struct BigramRun {
    var recipe: FineTuneRecipe
    var folder: String
    var model: Bigram
    var evaluation: [TrainingExample] = []
    /// The learning rate by step, if not the recipe's.
    var rates: ((Int) -> Double)?
    var identity = RunIdentity(
        base: "b", recipe: "r", data: "d", start: "s", numerics: "n", threads: 1, passTokens: 64)
    /// A new one each time: tests run beside each other, and one `Compute` serves one caller.
    static var compute: Result<Compute, any Error> {
        Result { try Compute(pool: ThreadPool(threads: 1)) }
    }

    init(folder: String, maximumRows: Int = 64) throws {
        var recipe = FineTuneRecipe()
        recipe.learningRate = 0.3
        recipe.scheduler = .cosine
        recipe.warmupSteps = 2
        recipe.epochs = 2
        recipe.batchSize = 1
        recipe.accumulation = 2
        recipe.maximumGradientNorm = 0.4
        recipe.weightDecay = 0.1
        recipe.beta2 = 0.95
        recipe.epsilon = 1e-6
        recipe.shuffle = false
        self.recipe = recipe
        self.folder = folder
        model = try Bigram(maximumRows: maximumRows)
    }

    func run(_ control: FineTuneControl = FineTuneControl()) throws -> FineTuneEnding {
        try runner(model).run(control)
    }

    func runner<Model: GradientStep>(_ model: Model) throws -> FineTuneRun<Model> {
        try FineTuneRun(
            model: model, recipe: recipe, training: bigramRows, evaluation: evaluation,
            identity: identity, folder: folder, compute: Self.compute.get(), rates: rates)
    }

    /// The lines of `metrics.jsonl`.
    func metrics() throws -> [JSONLine] {
        let bytes = try FilePath.read(folder + "/metrics.jsonl")
        return try bytes.split(separator: 10).map { try JSONLine(Array($0)) }
    }
}

func withTemporaryFolder(_ body: (String) throws -> Void) throws {
    let path = NSTemporaryDirectory() + "loraq-finetuning-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    try body(path)
}
