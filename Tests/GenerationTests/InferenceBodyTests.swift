import JSONModel
import Testing

@testable import Generation

/// KINDS 15: a line is checked by itself, and its error names the field.
@Suite struct InferenceBodyTests {
    private func body(
        _ text: String, _ endpoint: InferenceBody.Endpoint = .chat
    ) throws -> InferenceBody {
        try InferenceBody(JSONValue.parse(text), endpoint: endpoint)
    }

    @Test func readsEveryField() throws {
        let chat = try body(
            #"""
            {"model":"m","messages":[{"role":"user","content":"hi"}],"max_completion_tokens":5,"temperature":0.5,
            "top_p":0.9,"top_k":7,"min_p":0.1,"repetition_penalty":1.1,"presence_penalty":0.1,"frequency_penalty":0.2,
            "seed":-1,"stop":["a","b"],"n":2,"logprobs":true,"top_logprobs":3,"logit_bias":{"5":-2},"tools":[],
            "chat_template_kwargs":{"enable_thinking":false},"user":"u"}
            """#)
        #expect(chat.maximumTokens == 5)
        #expect(chat.sampling.seed == .max && chat.hasSeed)
        #expect(chat.sampling.topK == 7 && chat.sampling.logitBias == [5: -2])
        #expect(chat.stops == ["a", "b"] && chat.choiceCount == 2 && chat.logprobs == 3)
        guard case .messages(let messages, let tools, let variables) = chat.prompt else {
            Issue.record("no messages")
            return
        }
        #expect(messages.count == 1 && tools != nil && variables["enable_thinking"] == false)
        let completion = try body(
            #"{"prompt":"x","echo":true,"logprobs":0,"max_tokens":0,"stop":"z"}"#, .completions)
        #expect(completion.echo && completion.logprobs == 0 && completion.maximumTokens == 0)
        #expect(!completion.hasSeed && completion.sampling.temperature == 1)
    }

    @Test(
        "KINDS 15: a wrong line names its field",
        arguments: [
            (#"[]"#, "body"),
            (#"{}"#, "body.messages"),
            (#"{"messages":[]}"#, "body.messages"),
            (#"{"messages":"hi"}"#, "body.messages"),
            (#"{"messages":[3]}"#, "body.messages[0]"),
            (#"{"messages":[{"content":"x"}]}"#, "body.messages[0].role"),
            (#"{"messages":[{"role":"user","content":null}]}"#, "body.messages[0].content"),
            (#"{"messages":[{"role":"user","content":"x"}],"temperatur":1}"#, "body.temperatur"),
            (
                #"{"messages":[{"role":"user","content":"x"}],"temperature":"hot"}"#,
                "body.temperature"
            ),
            (#"{"messages":[{"role":"user","content":"x"}],"temperature":-1}"#, "body.temperature"),
            (#"{"messages":[{"role":"user","content":"x"}],"top_p":1.5}"#, "body.top_p"),
            (#"{"messages":[{"role":"user","content":"x"}],"n":0}"#, "body.n"),
            (#"{"messages":[{"role":"user","content":"x"}],"max_tokens":1.5}"#, "body.max_tokens"),
            (#"{"messages":[{"role":"user","content":"x"}],"stop":[""]}"#, "body.stop"),
            (
                #"{"messages":[{"role":"user","content":"x"}],"logit_bias":{"a":1}}"#,
                "body.logit_bias.a"
            ),
            (
                #"{"messages":[{"role":"user","content":"x"}],"top_logprobs":1}"#,
                "body.top_logprobs"
            ),
            (#"{"messages":[{"role":"user","content":"x"}],"stream":true}"#, "body.stream"),
            (#"{"messages":[{"role":"user","content":"x"}],"prompt":"y"}"#, "body.prompt"),
            (#"{"messages":[{"role":"bot","content":"x"}]}"#, "body.messages[0].role"),
            (#"{"messages":[{"role":4,"content":"x"}]}"#, "body.messages[0].role"),
            (#"{"messages":[{"role":"user","content":"x","nmae":"y"}]}"#, "body.messages[0].nmae"),
            (#"{"messages":[{"role":"user","content":"x","name":5}]}"#, "body.messages[0].name"),
            (#"{"messages":[{"role":"user","content":[]}]}"#, "body.messages[0].content"),
            (
                #"{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#,
                "body.messages[0].content[0]"
            ),
            (
                #"{"messages":[{"role":"user","content":"x","tool_calls":[{"name":"f"}]}]}"#,
                "body.messages[0].tool_calls"
            ),
            (
                #"{"messages":[{"role":"assistant","tool_calls":[{"id":"1"}]}]}"#,
                "body.messages[0].tool_calls[0]"
            ),
            (#"{"messages":[{"role":"user","content":"x"}],"tools":[3]}"#, "body.tools[0]"),
            (
                #"{"messages":[{"role":"user","content":"x"}],"chat_template_kwargs":{"messages":[]}}"#,
                "body.chat_template_kwargs.messages"
            ),
            (
                #"{"messages":[{"role":"user","content":"x"}],"chat_template_kwargs":{"add_generation_prompt":false}}"#,
                "body.chat_template_kwargs.add_generation_prompt"
            ),
            (
                #"{"messages":[{"role":"user","content":"x"}],"chat_template_kwargs":{"tools":[]}}"#,
                "body.chat_template_kwargs.tools"
            ),
        ])
    func namesTheField(_ text: String, _ field: String) throws {
        let error = #expect(throws: GenerationError.self) { try body(text) }
        #expect(error?.field == field)
        #expect(error?.code == .badLine)
    }

    @Test func completionsTakeTokensButNoSeveralPrompts() throws {
        guard case .tokens(let tokens) = try body(#"{"prompt":[1,2]}"#, .completions).prompt else {
            Issue.record("no tokens")
            return
        }
        #expect(tokens == [1, 2])
        #expect(throws: GenerationError.self) { try body(#"{"prompt":["a","b"]}"#, .completions) }
        #expect(throws: GenerationError.self) { try body(#"{"prompt":[]}"#, .completions) }
        #expect(throws: GenerationError.self) { try body(#"{"prompt":[-1]}"#, .completions) }
    }
}
