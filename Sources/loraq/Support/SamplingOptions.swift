import ArgumentParser
import JSONModel

/// How answers are chosen; the names and defaults are OpenAI's.
struct SamplingOptions: ParsableArguments {
    @Option(
        parsing: .unconditional, help: "The most tokens to answer with.",
        transform: Quantity.whole(0...1 << 24))
    var maxTokens: Int?
    @Option(
        parsing: .unconditional, help: "0 takes the likeliest token each time.",
        transform: Quantity.number(0...100))
    var temperature: Double?
    @Option(
        parsing: .unconditional,
        help: "Sample from the likeliest tokens that together have this probability.",
        transform: Quantity.number(0...1))
    var topP: Double?
    @Option(
        parsing: .unconditional, help: "Sample from so many likeliest tokens.",
        transform: Quantity.whole(-1...1 << 30))
    var topK: Int?
    @Option(
        parsing: .unconditional,
        help: "Leave out tokens less likely than this share of the likeliest.",
        transform: Quantity.number(0...1))
    var minP: Double?
    @Option(
        parsing: .unconditional, help: "Above 1: repeat less.",
        transform: Quantity.number(0.01...100))
    var repetitionPenalty: Double?
    @Option(parsing: .unconditional, help: "From -2 to 2.", transform: Quantity.number(-2...2))
    var presencePenalty: Double?
    @Option(parsing: .unconditional, help: "From -2 to 2.", transform: Quantity.number(-2...2))
    var frequencyPenalty: Double?
    @Option(parsing: .unconditional, help: "The same seed, the same answer.") var seed: Int?
    @Option(parsing: .unconditionalSingleValue, help: "Stop before this text (repeatable).")
    var stop: [String] = []

    func apply(to body: inout JSONObject) {
        body["max_tokens"] = maxTokens.map { .integer(Int64($0)) }
        body["temperature"] = temperature.map { .number($0) }
        body["top_p"] = topP.map { .number($0) }
        body["top_k"] = topK.map { .integer(Int64($0)) }
        body["min_p"] = minP.map { .number($0) }
        body["repetition_penalty"] = repetitionPenalty.map { .number($0) }
        body["presence_penalty"] = presencePenalty.map { .number($0) }
        body["frequency_penalty"] = frequencyPenalty.map { .number($0) }
        body["seed"] = seed.map { .integer(Int64($0)) }
        if !stop.isEmpty { body["stop"] = .array(stop.map { .string($0) }) }
    }
}
