import Foundation
import JSONModel
import Testing
import Tokenization

@testable import Generation

/// Log probabilities in OpenAI's two shapes.
@Suite struct ResponseBodyTests {
    private static let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "TokenizationTests/Fixtures").path
    private let response = ResponseBody(id: "i", model: "m", created: 1, seed: 2, numerics: "n")

    private func tokenizer(_ name: String) throws -> Tokenizer {
        try Tokenizer(contentsOf: Self.fixtures + "/\(name)/tokenizer.json")
    }

    private func result(
        _ prompt: [Int32], _ answer: [Int32], _ text: String
    ) -> GenerationResult {
        func scored(_ tokens: [Int32], _ first: Float?) -> [TokenLogprob] {
            tokens.enumerated().map { index, token in
                TokenLogprob(
                    token: token, logprob: index == 0 ? first : -1, top: [(token, -1), (token, -2)])
            }
        }
        let choice = GenerationChoice(
            index: 0, text: text, tokens: answer, finishReason: .length,
            logprobs: scored(answer, -0.5))
        return GenerationResult(
            choices: [choice], promptLogprobs: scored(prompt, nil), promptTokens: prompt.count,
            cachedTokens: 0, completionTokens: answer.count)
    }

    private func choice(
        _ body: String, _ endpoint: InferenceBody.Endpoint, _ result: GenerationResult,
        prompt: String, _ tokenizer: Tokenizer
    ) throws -> JSONValue? {
        let body = try InferenceBody(JSONValue.parse(body), endpoint: endpoint)
        let json = response.json(result, for: body, promptText: prompt, tokenizer: tokenizer)
        return json["choices"]?.array?.first
    }

    @Test func chatTokensKeepTheirSpacesAndBytes() throws {
        let tokenizer = try tokenizer("llama2")
        let all = try tokenizer.encode("The queue \u{1F408}", addSpecialTokens: false)
        let text = tokenizer.decode(all, skipSpecialTokens: true)
        let content =
            try choice(
                #"{"messages":[{"role":"user","content":"x"}],"logprobs":true,"top_logprobs":2}"#,
                .chat, result([1], all, text), prompt: "x", tokenizer
            )?["logprobs"]?["content"]?.array ?? []
        let bytes = content.flatMap { $0["bytes"]?.array?.compactMap(\.integer) ?? [] }
        #expect(bytes.map { UInt8($0) } == Array(" The queue \u{1F408}".utf8))
        #expect(
            content.suffix(4).map { $0["token"]?.string } == [
                #"\xf0"#, #"\x9f"#, #"\x90"#, #"\x88"#,
            ])
        #expect(content.allSatisfy { $0["top_logprobs"]?.array?.count == 2 })
    }

    @Test(arguments: ["llama2", "gpt2", "gemma"])
    func completionOffsetsPointIntoTheText(_ name: String) throws {
        let tokenizer = try tokenizer(name)
        // Special tokens that the prompt writes itself are part of the text, the one put before it is not.
        let prompt = try tokenizer.encode("One naïve", addSpecialTokens: true)
        let whole = try tokenizer.encode("One naïve queue keeps it", addSpecialTokens: true)
        guard whole.starts(with: prompt) else {
            Issue.record("the prompt is no beginning")
            return
        }
        let answer = Array(whole[prompt.count...])
        let text = tokenizer.decode(answer, skipSpecialTokens: true)
        let choice = try choice(
            #"{"prompt":"One naïve","echo":true,"logprobs":1,"max_tokens":4}"#, .completions,
            result(prompt, answer, text), prompt: "One naïve", tokenizer)
        #expect(choice?["text"] == "One naïve queue keeps it")
        let logprobs = choice?["logprobs"]
        let offsets = logprobs?["text_offset"]?.array?.compactMap(\.integer) ?? []
        let tokens = logprobs?["tokens"]?.array?.compactMap(\.string) ?? []
        let scalars = Array("One naïve queue keeps it".unicodeScalars)
        #expect(offsets.count == whole.count && tokens.count == whole.count)
        for (index, (offset, token)) in zip(offsets, tokens).enumerated()
        where !tokenizer.isSpecial(whole[index]) && !token.hasPrefix("bytes:") {
            let shown = Array(token.unicodeScalars)
            let rest = scalars[min(offset, scalars.count)...]
            #expect(rest.starts(with: shown) || rest.starts(with: shown.dropFirst()), "\(token)")
        }
        #expect(logprobs?["token_logprobs"]?.array?.first == .null)
        #expect(logprobs?["top_logprobs"]?.array?.first == .null)
        // The likelier of two tokens with one text is kept.
        let last = logprobs?["top_logprobs"]?.array?.last?.object
        #expect(last?.count == 1 && last?.entries.first?.value == -1)
    }
}
