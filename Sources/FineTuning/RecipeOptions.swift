import Datasets
import ModelFiles

extension FineTuneRecipe {
    /// How rows become examples for this model.
    ///
    /// - Parameters:
    ///   - tokenizerEnd: The id of the tokenizer's own end token, where it names one.
    /// - Throws: `FineTuneError.recipe` if `max_length` is more than the model was made for.
    public func exampleOptions(
        config: ModelConfig, tokenizerEnd: Int32?
    ) throws(FineTuneError) -> ExampleOptions {
        if let maximumLength, maximumLength > config.maximumPositions {
            throw FineTuneError(
                .recipe,
                "is \(maximumLength), more than the \(config.maximumPositions) positions of the model",
                field: "max_length")
        }
        var end = Set(config.specialTokens.end.map { Int32($0) })
        if let tokenizerEnd { end.insert(tokenizerEnd) }
        return ExampleOptions(
            trainedPart: trainedPart, completionOnly: completionOnly,
            maximumLength: maximumLength ?? config.maximumPositions, endTokens: end,
            endOfText: tokenizerEnd ?? config.specialTokens.end.first.map { Int32($0) },
            vocabularySize: config.vocabularySize)
    }
}
