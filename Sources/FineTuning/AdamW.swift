import Kernels

/// AdamW over the flat parameters of a `GradientStep`, by PyTorch's rules.
struct AdamW {
    let compute: Compute
    /// Running mean of gradients, and of their squares; `[1, count]`.
    let moment1: Matrix
    let moment2: Matrix
    /// Steps taken.
    var step = 0

    init(parameterCount: Int, compute: Compute) throws {
        self.compute = compute
        moment1 = try Matrix.vector(parameterCount)
        moment2 = try Matrix.vector(parameterCount)
    }

    /// - Parameter gradientScale: From clipping.
    mutating func update(
        _ model: some GradientStep, recipe: FineTuneRecipe, learningRate: Double,
        gradientScale: Float
    ) throws {
        try compute.adamW(
            parameter: model.parameters, gradient: model.gradients, moment1: moment1,
            moment2: moment2, step: step + 1, learningRate: learningRate,
            gradientScale: gradientScale, beta1: recipe.beta1, beta2: recipe.beta2,
            epsilon: recipe.epsilon, weightDecay: recipe.weightDecay)
        step += 1
    }

    /// The factor of `torch.nn.utils.clip_grad_norm_`; 1 if `maximum` is 0.
    static func clipping(norm: Double, maximum: Double) -> Float {
        guard maximum > 0 else { return 1 }
        return Float(min(1, maximum / (norm + 1e-6)))
    }
}
