import JSONModel
import Tokenization

/// Writes a request's result in the shape of OpenAI's responses.
public struct ResponseBody: Sendable {
    /// The answer's own id, such as the task's.
    public var id: String
    /// The model as it was pinned, `M` or `M:A@3`.
    public var model: String
    /// Seconds since 1970, for display.
    public var created: Int
    /// The seed in force.
    public var seed: UInt64
    /// Names the exact way in which this was computed.
    public var numerics: String

    public init(id: String, model: String, created: Int, seed: UInt64, numerics: String) {
        self.id = id
        self.model = model
        self.created = created
        self.seed = seed
        self.numerics = numerics
    }

    /// - Parameters:
    ///   - body: The request.
    ///   - promptText: Given out before the answer when the request says `echo`.
    public func json(
        _ result: GenerationResult, for body: InferenceBody, promptText: String,
        tokenizer: Tokenizer
    ) -> JSONValue {
        let isChat = body.endpoint == .chat
        let choices = result.choices.map { choice -> JSONValue in
            var members: [(key: String, value: JSONValue)] = [
                ("index", .integer(Int64(choice.index)))
            ]
            if isChat {
                members.append(("message", ["role": "assistant", "content": .string(choice.text)]))
            } else {
                let text = body.echo ? promptText + choice.text : choice.text
                members.append(("text", .string(text)))
            }
            members.append(("logprobs", logprobs(choice, result, body, tokenizer)))
            members.append(("finish_reason", .string(choice.finishReason.rawValue)))
            return .object(JSONObject(members))
        }
        return [
            "id": .string(id),
            "object": .string(isChat ? "chat.completion" : "text_completion"),
            "created": .integer(Int64(created)),
            "model": .string(model),
            "choices": .array(choices),
            "usage": Self.usage(result),
            "system_fingerprint": .string(numerics),
            "seed": .integer(Int64(bitPattern: seed)),
        ]
    }

    public static func usage(_ result: GenerationResult) -> JSONValue {
        [
            "prompt_tokens": .integer(Int64(result.promptTokens)),
            "completion_tokens": .integer(Int64(result.completionTokens)),
            "total_tokens": .integer(Int64(result.promptTokens + result.completionTokens)),
        ]
    }

    private func logprobs(
        _ choice: GenerationChoice, _ result: GenerationResult, _ body: InferenceBody,
        _ tokenizer: Tokenizer
    ) -> JSONValue {
        guard body.logprobs != nil else { return nil }
        let tokens = (body.echo ? result.promptLogprobs : []) + choice.logprobs
        func text(_ token: Int32) -> String { tokenizer.decode([token], skipSpecialTokens: false) }
        func number(_ value: Float?) -> JSONValue { value.map { .number(Double($0)) } ?? .null }
        if body.endpoint == .chat {
            let content = tokens.map { entry -> JSONValue in
                func described(_ token: Int32, _ logprob: Float?) -> [(
                    key: String, value: JSONValue
                )] {
                    let written = text(token)
                    let bytes = written.utf8.map { JSONValue.integer(Int64($0)) }
                    return [
                        ("token", .string(written)), ("logprob", number(logprob)),
                        ("bytes", .array(bytes)),
                    ]
                }
                let top = entry.top.map {
                    JSONValue.object(JSONObject(described($0.token, $0.logprob)))
                }
                let members = described(entry.token, entry.logprob)
                return .object(JSONObject(members + [("top_logprobs", .array(top))]))
            }
            return ["content": .array(content)]
        }
        var offset = 0
        var offsets: [JSONValue] = []
        for entry in tokens {
            offsets.append(.integer(Int64(offset)))
            offset += text(entry.token).unicodeScalars.count
        }
        let tops = tokens.map { entry -> JSONValue in
            if entry.logprob == nil { return nil }
            // Several tokens may have the same text; the likeliest of them stands for it.
            var members = JSONObject()
            for (token, logprob) in entry.top where members[text(token)] == nil {
                members[text(token)] = .number(Double(logprob))
            }
            return .object(members)
        }
        return [
            "tokens": .array(tokens.map { .string(text($0.token)) }),
            "token_logprobs": .array(tokens.map { number($0.logprob) }),
            "top_logprobs": .array(tops),
            "text_offset": .array(offsets),
        ]
    }
}
