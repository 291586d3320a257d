import Transformer

/// One request: a prompt, through an adapter or none, and how to go on from it.
public struct GenerationRequest: Sendable {
    /// The prompt's tokens, at least one.
    public var prompt: [Int32]
    /// Kept alive, and so in memory, while the request runs.
    public var adapter: ServedAdapter?
    public var sampling = SamplingParameters()
    /// The most tokens of each choice; 0 only scores the prompt.
    public var maximumTokens: Int
    /// Answers end before the first of these.
    public var stops: [String] = []
    /// Tokens that end an answer.
    public var endTokens: Set<Int32> = []
    /// How many choices are drawn.
    public var choiceCount = 1
    /// Log probabilities of each token and of this many of the likeliest beside it; nil: none.
    public var logprobs: Int?
    /// Also log probabilities of the prompt's tokens.
    public var scoresPrompt = false

    public init(prompt: [Int32], adapter: ServedAdapter? = nil, maximumTokens: Int) {
        self.prompt = prompt
        self.adapter = adapter
        self.maximumTokens = maximumTokens
    }
}

/// The log probability of a token, by the model's own logits (before temperature, penalties and biases).
public struct TokenLogprob: Sendable, Equatable {
    public var token: Int32
    /// Natural logarithm; nil for the first token of a prompt, which nothing predicts.
    public var logprob: Float?
    /// The likeliest tokens at this place, likeliest first.
    public var top: [(token: Int32, logprob: Float)]

    public static func == (left: TokenLogprob, right: TokenLogprob) -> Bool {
        left.token == right.token && left.logprob == right.logprob
            && left.top.elementsEqual(right.top) { $0 == $1 }
    }
}

/// Why an answer ended.
public enum FinishReason: String, Sendable {
    /// An end token or a stop string.
    case stop
    /// `maximumTokens` or the model's last position.
    case length
    /// By `cancel`.
    case cancelled
}

/// One answer.
public struct GenerationChoice: Sendable, Equatable {
    public var index: Int
    /// Without special tokens, cut before the stop string.
    public var text: String
    /// All tokens that were chosen, the end token included.
    public var tokens: [Int32]
    public var finishReason: FinishReason
    /// One for each token of `tokens`, if asked for.
    public var logprobs: [TokenLogprob]
}

/// A request's answers.
public struct GenerationResult: Sendable, Equatable {
    public var choices: [GenerationChoice]
    /// One for each token of the prompt, if asked for.
    public var promptLogprobs: [TokenLogprob]
    public var promptTokens: Int
    /// Prompt tokens that were not computed, since their keys and values were in memory.
    public var cachedTokens: Int
    public var completionTokens: Int
}

/// What the engine says of a request while it runs.
public enum GenerationEvent: Sendable {
    /// A piece of a choice's text; all pieces of a choice joined are its `text`.
    case text(choice: Int, tokenIndex: Int, String)
    case finished(GenerationResult)
    case failed(GenerationError)
}
