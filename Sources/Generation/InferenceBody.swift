import ChatTemplate
import JSONModel

/// The `body` of a request line of OpenAI's batch format, checked field by field.
///
/// A field that is not understood is an error with its name: an answer that ignores half of a question is worse than none.
public struct InferenceBody: Sendable {
    public enum Prompt: Sendable {
        /// For the chat template.
        case messages(messages: [JSONValue], tools: JSONValue?, templateVariables: JSONObject)
        /// As it stands, with the tokenizer's own special tokens.
        case text(String)
        /// Token ids.
        case tokens([Int32])
    }

    /// Which endpoint's shape the answer takes.
    public enum Endpoint: String, Sendable {
        case chat = "/v1/chat/completions"
        case completions = "/v1/completions"
    }

    public let endpoint: Endpoint
    public let prompt: Prompt
    public let sampling: SamplingParameters
    /// The request named a seed; otherwise one is derived by the caller.
    public let hasSeed: Bool
    /// Nil: as many as fit (chat), 16 (completions), as OpenAI has it.
    public let maximumTokens: Int?
    public let stops: [String]
    public let choiceCount: Int
    /// Likeliest tokens beside each; nil: no log probabilities.
    public let logprobs: Int?
    /// Completions: the prompt's text (and log probabilities) come before the answer's.
    public let echo: Bool

    public static let maximumChoices = 128
    public static let maximumStops = 16
    public static let maximumLogprobs = 20

    /// - Throws: `GenerationError` with code `badLine` that names the field.
    public init(_ body: JSONValue, endpoint: Endpoint) throws(GenerationError) {
        guard let object = body.object else {
            throw GenerationError(
                .badLine, "must be an object, not \(body.kindName)", field: "body")
        }
        try Self.refuseUnknown(object, endpoint)
        let fields = FieldReader(object)
        self.endpoint = endpoint
        prompt =
            endpoint == .chat ? try Self.chatPrompt(fields) : try Self.textPrompt(fields)
        (sampling, hasSeed) = try Self.sampling(fields)
        maximumTokens = try Self.maximumTokens(fields)
        stops = try Self.stops(fields)
        choiceCount = try fields.integer("n", 1...Self.maximumChoices) ?? 1
        logprobs = try Self.logprobs(fields, endpoint)
        echo = try fields.bool("echo") ?? false
    }

    private static let common: Set<String> = [
        "model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
        "presence_penalty", "frequency_penalty", "seed", "stop", "n", "logprobs", "logit_bias",
        "user", "stream",
    ]
    private static let chatOnly: Set<String> = [
        "messages", "tools", "chat_template_kwargs", "max_completion_tokens", "top_logprobs",
    ]
    private static let completionsOnly: Set<String> = ["prompt", "echo"]

    private static func refuseUnknown(
        _ object: JSONObject, _ endpoint: Endpoint
    ) throws(GenerationError) {
        let known = common.union(endpoint == .chat ? chatOnly : completionsOnly)
        for key in object.keys where !known.contains(key) {
            let elsewhere = endpoint == .chat ? completionsOnly : chatOnly
            throw GenerationError(
                .badLine,
                elsewhere.contains(key)
                    ? "is no field of \(endpoint.rawValue)" : "is not understood here",
                field: "body.\(key)")
        }
        if object["stream"]?.bool == true {
            throw GenerationError(
                .badLine, "a batch line has no stream; leave it out", field: "body.stream")
        }
    }

    private static func chatPrompt(_ fields: FieldReader) throws(GenerationError) -> Prompt {
        guard let value = fields["messages"] else { throw fields.fault("messages", "is missing") }
        guard let messages = value.array, !messages.isEmpty else {
            throw fields.fault("messages", "must be a list of at least one message")
        }
        for (index, message) in messages.enumerated() {
            do throws(ConversationRules.Fault) {
                try ConversationRules.check(message: message)
            } catch {
                let place = "messages[\(index)]" + (error.member.isEmpty ? "" : ".")
                throw fields.fault(place + error.member, error.message)
            }
        }
        let tools = fields["tools"]
        let variables = fields["chat_template_kwargs"]
        do throws(ConversationRules.Fault) {
            if let tools { try ConversationRules.check(tools: tools) }
            if let variables { try ConversationRules.check(variables: variables) }
        } catch {
            throw fields.fault(error.member, error.message)
        }
        return .messages(
            messages: messages, tools: tools, templateVariables: variables?.object ?? JSONObject())
    }

    private static func textPrompt(_ fields: FieldReader) throws(GenerationError) -> Prompt {
        guard let value = fields["prompt"] else { throw fields.fault("prompt", "is missing") }
        if let text = value.string { return .text(text) }
        guard let elements = value.array, !elements.isEmpty else {
            throw fields.fault("prompt", "must be a string or a list of token ids")
        }
        if elements.count == 1, let text = elements[0].string { return .text(text) }
        var tokens: [Int32] = []
        for element in elements {
            guard let token = element.integer.flatMap({ Int32(exactly: $0) }), token >= 0 else {
                throw fields.fault(
                    "prompt",
                    "must be one string or a list of token ids; give each prompt its own line")
            }
            tokens.append(token)
        }
        return .tokens(tokens)
    }

    private static func sampling(
        _ fields: FieldReader
    ) throws(GenerationError) -> (SamplingParameters, hasSeed: Bool) {
        var result = SamplingParameters()
        result.temperature = try fields.number("temperature", 0...100) ?? 1
        result.topP = try fields.number("top_p", 0...1) ?? 1
        result.topK = max(0, try fields.integer("top_k", -1...(1 << 30)) ?? 0)
        result.minP = try fields.number("min_p", 0...1) ?? 0
        result.repetitionPenalty = try fields.number("repetition_penalty", 0.01...100) ?? 1
        result.presencePenalty = try fields.number("presence_penalty", -2...2) ?? 0
        result.frequencyPenalty = try fields.number("frequency_penalty", -2...2) ?? 0
        if let value = fields["logit_bias"] {
            guard let object = value.object, object.count <= 1024 else {
                throw fields.fault("logit_bias", "must be an object of at most 1024 token ids")
            }
            for (key, bias) in object.entries {
                guard let token = Int32(key), token >= 0, let number = bias.double,
                    (-100...100).contains(number)
                else {
                    throw fields.fault(
                        "logit_bias.\(key)", "must be a number from -100 to 100, by token id")
                }
                result.logitBias[token] = number
            }
        }
        guard let seed = try fields.integer("seed", Int.min...Int.max) else {
            return (result, false)
        }
        result.seed = UInt64(bitPattern: Int64(seed))
        return (result, true)
    }

    private static func maximumTokens(_ fields: FieldReader) throws(GenerationError) -> Int? {
        let old = try fields.integer("max_tokens", 0...(1 << 24))
        let new = try fields.integer("max_completion_tokens", 0...(1 << 24))
        if let old, let new, old != new {
            throw fields.fault("max_completion_tokens", "differs from max_tokens; give one of them")
        }
        return new ?? old
    }

    private static func stops(_ fields: FieldReader) throws(GenerationError) -> [String] {
        guard let value = fields["stop"] else { return [] }
        let elements = value.string.map { [JSONValue.string($0)] } ?? value.array
        guard let elements, elements.count <= maximumStops else {
            throw fields.fault("stop", "must be a string or a list of at most \(maximumStops)")
        }
        var result: [String] = []
        for element in elements {
            guard let text = element.string, !text.isEmpty else {
                throw fields.fault("stop", "must hold strings that are not empty")
            }
            result.append(text)
        }
        return result
    }

    private static func logprobs(
        _ fields: FieldReader, _ endpoint: Endpoint
    ) throws(GenerationError) -> Int? {
        guard endpoint == .chat else { return try fields.integer("logprobs", 0...maximumLogprobs) }
        let wanted = try fields.bool("logprobs") ?? false
        let top = try fields.integer("top_logprobs", 0...maximumLogprobs)
        if top != nil, !wanted { throw fields.fault("top_logprobs", "needs logprobs: true") }
        return wanted ? top ?? 0 : nil
    }
}

/// Typed reading of the members of a body; null counts as absent.
private struct FieldReader {
    private let object: JSONObject

    init(_ object: JSONObject) { self.object = object }

    subscript(_ key: String) -> JSONValue? {
        guard let value = object[key], !value.isNull else { return nil }
        return value
    }

    func fault(_ key: String, _ message: String) -> GenerationError {
        GenerationError(.badLine, message, field: "body.\(key)")
    }

    func number(
        _ key: String, _ range: ClosedRange<Double>
    ) throws(GenerationError) -> Double? {
        guard let value = self[key] else { return nil }
        guard let number = value.double, range.contains(number) else {
            throw fault(key, "must be a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    func integer(_ key: String, _ range: ClosedRange<Int>) throws(GenerationError) -> Int? {
        guard let value = self[key] else { return nil }
        guard let number = value.integer, range.contains(number) else {
            throw fault(
                key, "must be a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    func bool(_ key: String) throws(GenerationError) -> Bool? {
        guard let value = self[key] else { return nil }
        guard let flag = value.bool else { throw fault(key, "must be true or false") }
        return flag
    }
}
