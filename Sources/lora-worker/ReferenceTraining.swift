import Kernels
import Transformer

/// Some AdamW steps with their batches and rates, and the losses and gradient norms that PyTorch found.
struct ReferenceTraining {
    struct Step {
        /// Rows of one batch, each a document of its own; lengths may differ.
        let ids: [[Int32]]
        let labels: [[Int32]]
        let learningRate: Double
        let loss: Double
        /// Before clipping.
        let norm: Double
    }

    let betas: (Double, Double)
    let epsilon: Double
    let weightDecay: Double
    let maximumNorm: Double
    let steps: [Step]

    /// The most tokens of a batch.
    var maximumRows: Int { steps.reduce(0) { max($0, $1.ids.reduce(0) { $0 + $1.count }) } }

    /// Runs all steps; the step object holds the trained adapter afterwards.
    func run(
        _ step: TrainingStep, compute: Compute
    ) throws -> (losses: [Double], norms: [Double]) {
        let first = try Matrix.vector(step.parameters.columns)
        let second = try Matrix.vector(step.parameters.columns)
        var losses: [Double] = []
        var norms: [Double] = []
        for (index, entry) in steps.enumerated() {
            step.beginStep(index)
            losses.append(try Self.accumulate(step, entry.ids, entry.labels))
            let norm = try compute.squaredNorm(step.gradients).squareRoot()
            norms.append(norm)
            // As torch.nn.utils.clip_grad_norm_ does it.
            try compute.adamW(
                parameter: step.parameters, gradient: step.gradients, moment1: first,
                moment2: second, step: index + 1, learningRate: entry.learningRate,
                gradientScale: Float(min(1, maximumNorm / (norm + 1e-6))), beta1: betas.0,
                beta2: betas.1, epsilon: epsilon, weightDecay: weightDecay)
            try step.parametersChanged()
        }
        return (losses, norms)
    }

    /// Adds the gradients of the mean loss over the labels of all rows; returns that loss.
    static func accumulate(
        _ step: TrainingStep, _ ids: [[Int32]], _ labels: [[Int32]]
    ) throws -> Double {
        let count = labels.reduce(0) { $0 + $1.dropFirst().filter { $0 >= 0 }.count }
        let result = try step.accumulate(
            tokens: ids.flatMap { $0 }, spanLengths: ids.map(\.count),
            labels: labels.flatMap { $0 }, lossWeight: 1 / Float(max(count, 1)))
        return result.lossSum / Double(result.labelCount)
    }
}
