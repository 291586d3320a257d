import JSONModel
import Testing

@testable import ChatTemplate

@Suite struct RenderCommandTests {
    private func answer(_ command: RenderCommand, _ line: String) throws -> JSONValue {
        try JSONValue.parse(command.answer(Array(line.utf8)))
    }

    @Test func answersConversationsAndSnippets() throws {
        let template = try ConversationTemplate(
            source: "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}"
                + "{{ m.content }}{% endgeneration %}{% else %}é{{ m.content }}{{ eos_token }}"
                + "{% endif %}{% endfor %}")
        let command = RenderCommand(template: template)
        let line =
            #"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"bc"}],"#
            + #""special_tokens":{"eos_token":"</s>"}}"#
        #expect(try answer(command, line) == ["text": "éa</s>bc", "generation": [[6, 8]]])
        let snippet = #"{"template":"{{ big + 1 }}","context":{"big":12345678901234567890123}}"#
        #expect(try answer(command, snippet) == ["text": "12345678901234567890124"])
    }

    @Test func everyFaultIsAnAnswer() throws {
        let command = RenderCommand(template: nil)
        #expect(try answer(command, "{")["error"]?["type"] == "ValueError")
        #expect(try answer(command, "[]")["error"]?["type"] == "TypeError")
        #expect(try answer(command, #"{"messages":[]}"#)["error"]?["type"] == "ValueError")
        let broken = try answer(command, #"{"template":"{{ 1","context":{}}"#)["error"]
        #expect(broken?["type"] == "TemplateSyntaxError")
        #expect(broken?["line"] == 1)
    }
}
