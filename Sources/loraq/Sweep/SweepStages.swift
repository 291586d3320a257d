import JSONModel

/// The stages of `--progressive`: attention, then embeddings, then the feed-forward blocks, then higher ranks
/// ('A Note on LoRA', arXiv 2404.05086). Each takes all that the one before has, and adds to it.
enum SweepStages {
    /// A stage, or why it is not tried.
    struct Stage {
        var candidate: SweepCandidate
        var leftOut: String?
    }

    /// Why there is no stage of the embeddings; nil: there is one.
    static let embeddingsLeftOut: String? = nil
    /// Rank and alpha where the recipe names none: those of `finetune`.
    static let defaultRank = 16
    static let defaultAlpha = 32.0
    /// How often the rank is doubled after every matrix is adapted.
    static let doublings = 2

    /// - Throws: A usage error when the recipe says what the stages decide.
    static func make(
        _ base: RecipeDraft, embeddingsLeftOut: String? = embeddingsLeftOut
    ) throws(ToolError) -> [Stage] {
        for name in ["target_modules", "exclude_modules", "rank_pattern", "alpha_pattern"]
        where base.value(of: name) != nil {
            throw ToolError.usage(
                "--progressive decides \(name) itself: leave it out of the recipe")
        }
        let rank = base.value(of: "r")?.integer ?? defaultRank
        let alpha = base.value(of: "lora_alpha")?.double ?? defaultAlpha
        guard rank << doublings <= 4096 else {
            throw ToolError.usage(
                "--progressive goes on to rank \(rank << doublings), and 4096 is the most: begin with a smaller r"
            )
        }
        let everything = embeddingsLeftOut == nil ? "all-linear,embeddings" : "all-linear"
        var stages = [
            Stage(candidate: try stage("attention", "attention", rank, alpha, base)),
            Stage(
                candidate: try stage("embeddings", "attention,embeddings", rank, alpha, base),
                leftOut: embeddingsLeftOut),
            Stage(candidate: try stage("mlp", everything, rank, alpha, base)),
        ]
        for doubling in 1...doublings {
            let factor = 1 << doubling
            stages.append(
                Stage(
                    candidate: try stage(
                        "rank \(rank * factor)", everything, rank * factor,
                        alpha * Double(factor), base)))
        }
        return stages
    }

    private static func stage(
        _ title: String, _ targets: String, _ rank: Int, _ alpha: Double, _ base: RecipeDraft
    ) throws(ToolError) -> SweepCandidate {
        var recipe = base
        var settings = ["target_modules=\(targets)", "r=\(rank)", "lora_alpha=\(alpha)"]
        // A smaller part wants a higher rate.
        if base.value(of: "learning_rate") == nil { settings.append("learning_rate=auto") }
        for setting in settings { try recipe.apply(setting: setting, option: "--progressive") }
        var chosen = JSONObject()
        for name in ["target_modules", "r", "lora_alpha"] {
            chosen[name] = recipe.value(of: name)
        }
        return SweepCandidate(title: title, settings: chosen, recipe: recipe)
    }
}
