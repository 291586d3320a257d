/// A row as the model is trained on it.
public struct TrainingExample: Sendable, Equatable {
    /// From 1.
    public var line: Int
    public var tokens: [Int32]
    /// Which tokens are labels, as disjoint ascending ranges of indexes. A label at index 0 is never predicted.
    public var labelled: [Range<Int>]

    public init(line: Int, tokens: [Int32], labelled: [Range<Int>]) {
        self.line = line
        self.tokens = tokens
        self.labelled = labelled
    }

    /// Labels that the loss counts: those with a token before them.
    public var labelCount: Int {
        labelled.reduce(0) { $0 + $1.count - ($1.contains(0) ? 1 : 0) }
    }

    /// The tokens as runs that are trained or not, in order; what a check of the data shows.
    public var runs: [(tokens: Range<Int>, isTrained: Bool)] {
        var result: [(tokens: Range<Int>, isTrained: Bool)] = []
        var position = 0
        for range in labelled {
            let start = max(range.lowerBound, 1)
            guard start < range.upperBound else { continue }
            if position < start { result.append((position..<start, false)) }
            result.append((start..<range.upperBound, true))
            position = range.upperBound
        }
        if position < tokens.count { result.append((position..<tokens.count, false)) }
        return result
    }

    /// One number a token: the token's own id where it is a label, -100 elsewhere (Hugging Face's form).
    public var labels: [Int32] {
        var result = [Int32](repeating: -100, count: tokens.count)
        for range in labelled {
            for index in range { result[index] = tokens[index] }
        }
        return result
    }
}

/// Which tokens of a conversation are labels.
public enum TrainedPart: String, Sendable, Equatable, CaseIterable {
    /// Every assistant message.
    case assistant
    /// Every token.
    case all
    /// The last assistant message.
    case last
}

/// What the making of examples depends on.
public struct ExampleOptions: Sendable, Equatable {
    public var trainedPart: TrainedPart
    /// In `prompt`/`completion` rows of strings, labels only in the completion.
    public var completionOnly: Bool
    /// Longest row, in tokens; a longer one is refused, never cut.
    public var maximumLength: Int
    /// Every id that ends a generation.
    public var endTokens: Set<Int32>
    /// Put after `text` and `completion`.
    public var endOfText: Int32?
    /// Rows of the embedding matrix; no id may reach it.
    public var vocabularySize: Int

    public init(
        trainedPart: TrainedPart = .assistant, completionOnly: Bool = true, maximumLength: Int,
        endTokens: Set<Int32>, endOfText: Int32?, vocabularySize: Int
    ) {
        self.trainedPart = trainedPart
        self.completionOnly = completionOnly
        self.maximumLength = maximumLength
        self.endTokens = endTokens
        self.endOfText = endOfText
        self.vocabularySize = vocabularySize
    }
}
