import Kernels

/// AdamW over the flat parameters of a `GradientStep`, by PyTorch's rules.
struct AdamW {
    let compute: Compute
    /// Running mean of gradients, and of their squares; `[1, count]`.
    let moment1: Matrix
    let moment2: Matrix
    /// Steps taken.
    var step = 0
    private let groups: ParameterGroups

    init(_ model: some GradientStep, compute: Compute) throws {
        self.compute = compute
        moment1 = try Matrix.vector(model.parameters.columns)
        moment2 = try Matrix.vector(model.parameters.columns)
        groups = ParameterGroups(model.trainedTensors)
    }

    /// - Parameters:
    ///   - learningRate: Of this step.
    ///   - peak: Of the schedule, by which rates of their own follow it.
    ///   - gradientScale: From clipping.
    mutating func update(
        _ model: some GradientStep, recipe: FineTuneRecipe, learningRate: Double, peak: Double,
        gradientScale: Float
    ) throws {
        func apply(_ range: Range<Int>, rate: Double, weightDecay: Double) throws {
            try compute.adamW(
                parameter: model.parameters.columns(range),
                gradient: model.gradients.columns(range), moment1: moment1.columns(range),
                moment2: moment2.columns(range), step: step + 1, learningRate: rate,
                gradientScale: gradientScale, beta1: recipe.beta1, beta2: recipe.beta2,
                epsilon: recipe.epsilon, weightDecay: weightDecay)
        }
        if let ratio = recipe.loraPlusRatio {
            for part in groups.parts {
                let rate =
                    switch part.group {
                    case .base: learningRate
                    case .ratio: learningRate * ratio
                    case .embedding: recipe.loraPlusEmbeddingRate * learningRate / peak
                    }
                try apply(
                    part.range, rate: rate, weightDecay: part.decays ? recipe.weightDecay : 0)
            }
        } else {
            try apply(
                0..<model.parameters.columns, rate: learningRate, weightDecay: recipe.weightDecay)
        }
        step += 1
    }

    /// As if no step had been taken.
    mutating func reset() {
        moment1.fill(0)
        moment2.fill(0)
        step = 0
    }

    /// The factor of `torch.nn.utils.clip_grad_norm_`; 1 if `maximum` is 0.
    static func clipping(norm: Double, maximum: Double) -> Float {
        guard maximum > 0 else { return 1 }
        return Float(min(1, maximum / (norm + 1e-6)))
    }
}
