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
            var text = choice.text
            if isChat {
                members.append(("message", ["role": "assistant", "content": .string(choice.text)]))
            } else {
                text =
                    body.echo
                    ? Self.echoed(choice, prompt: promptText, tokenizer) : choice.text
                members.append(("text", .string(text)))
            }
            members.append(("logprobs", logprobs(choice, result, body, tokenizer, text: text)))
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

    /// Log probabilities are of the tokens that `text` is made of.
    private func logprobs(
        _ choice: GenerationChoice, _ result: GenerationResult, _ body: InferenceBody,
        _ tokenizer: Tokenizer, text: String
    ) -> JSONValue {
        guard body.logprobs != nil else { return nil }
        let tokens = (body.echo ? result.promptLogprobs : []) + choice.logprobs
        if body.endpoint == .chat {
            return ["content": .array(tokens.map { Self.chatEntry($0, tokenizer) })]
        }
        let texts = tokens.map { TokenText($0.token, tokenizer) }
        let tops = tokens.map { entry -> JSONValue in
            if entry.logprob == nil { return nil }
            // Several tokens may have the same text; the likeliest of them stands for it.
            var members = JSONObject()
            for (token, logprob) in entry.top {
                let shown = TokenText(token, tokenizer).completionText
                if members[shown] == nil { members[shown] = .number(Double(logprob)) }
            }
            return .object(members)
        }
        return [
            "tokens": .array(texts.map { .string($0.completionText) }),
            "token_logprobs": .array(tokens.map { Self.number($0.logprob) }),
            "top_logprobs": .array(tops),
            "text_offset": .array(
                Self.offsets(tokens.map(\.token), texts, in: text, tokenizer).map {
                    .integer(Int64($0))
                }),
        ]
    }

    private static func number(_ value: Float?) -> JSONValue {
        value.map { .number(Double($0)) } ?? .null
    }

    private static func chatEntry(_ entry: TokenLogprob, _ tokenizer: Tokenizer) -> JSONValue {
        func described(_ token: Int32, _ logprob: Float?) -> [(key: String, value: JSONValue)] {
            let shown = TokenText(token, tokenizer)
            return [
                ("token", .string(shown.text)), ("logprob", number(logprob)),
                ("bytes", .array(shown.bytes.map { .integer(Int64($0)) })),
            ]
        }
        let top = entry.top.map { JSONValue.object(JSONObject(described($0.token, $0.logprob))) }
        return .object(
            JSONObject(described(entry.token, entry.logprob) + [("top_logprobs", .array(top))]))
    }

    /// Where each token begins in the text, in code points (a part of a character: where that begins). Special tokens
    /// that the text does not show take no place in it.
    static func offsets(
        _ tokens: [Int32], _ texts: [TokenText], in text: String, _ tokenizer: Tokenizer
    ) -> [Int] {
        let all = Array(text.utf8)
        var position = 0
        var started = 0
        return zip(tokens, texts).map { token, shown in
            let isInside = position < all.count && all[position] & 0xC0 == 0x80
            let offset = isInside ? started - 1 : started
            let rest = all[position...]
            let length =
                if rest.starts(with: shown.bytes) {
                    shown.bytes.count
                } else if position == 0, shown.bytes.first == 0x20,
                    rest.starts(with: shown.bytes.dropFirst())
                {
                    // The decoder has taken the space before the first word.
                    shown.bytes.count - 1
                } else {
                    tokenizer.isSpecial(token) ? 0 : min(shown.bytes.count, rest.count)
                }
            started += rest.prefix(length).count { $0 & 0xC0 != 0x80 }
            position += length
            return offset
        }
    }

    /// The prompt with the answer after it: the space before the answer's first word, which decoding the answer alone
    /// takes away on some tokenizers, is there again.
    private static func echoed(
        _ choice: GenerationChoice, prompt: String, _ tokenizer: Tokenizer
    ) -> String {
        guard let first = choice.tokens.first(where: { !tokenizer.isSpecial($0) }),
            tokenizer.bytes(ofToken: first).first == 0x20, !choice.text.isEmpty,
            tokenizer.decode([first], skipSpecialTokens: true).utf8.first != 0x20
        else { return prompt + choice.text }
        return prompt + " " + choice.text
    }
}
