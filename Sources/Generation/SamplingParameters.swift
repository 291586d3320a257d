/// How a token is chosen from the model's logits.
///
/// Applied in this order: repetition, presence and frequency penalties, `logitBias`, temperature, top-k, top-p, min-p
/// (the order of Hugging Face's `generate`).
public struct SamplingParameters: Sendable, Equatable {
    /// 0 (or below 1e-5, where powers of probabilities leave the numbers): always the likeliest token, the lowest id
    /// among equals.
    public var temperature: Double = 1
    /// Only the smallest set of likeliest tokens whose probability reaches this is drawn from; 1: all.
    public var topP: Double = 1
    /// Only the k likeliest tokens are drawn from; 0: all.
    public var topK: Int = 0
    /// Tokens below this share of the likeliest token's probability are left out.
    public var minP: Double = 0
    /// Divides positive logits of tokens that occur in prompt or answer, multiplies negative ones (Keskar et al. 2019).
    public var repetitionPenalty: Double = 1
    /// Subtracted once from logits of tokens that occur in the answer.
    public var presencePenalty: Double = 0
    /// Subtracted per occurrence in the answer.
    public var frequencyPenalty: Double = 0
    /// Added to logits, by token.
    public var logitBias: [Int32: Double] = [:]
    /// Names the random stream; each choice draws from (seed, index).
    public var seed: UInt64 = 0

    public init() {}

    var isGreedy: Bool { temperature < 1e-5 }

    /// Whether the logits must be changed before a choice.
    var changesLogits: Bool {
        repetitionPenalty != 1 || presencePenalty != 0 || frequencyPenalty != 0
            || !logitBias.isEmpty
    }
}
