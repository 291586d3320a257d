import JSONModel
import Testing

@testable import ChatTemplate

@Suite struct GoldenTemplateTests {
    /// Members of a case that are no template variables.
    private static let reserved = [
        "name", "messages", "tools", "documents", "add_generation_prompt", "text", "error",
        "generation",
    ]

    @Test(arguments: GoldenTemplates.folders)
    func rendersAsTransformers(_ folder: String) throws {
        let source = try GoldenTemplates.bytes(folder + "/template.jinja")
        let template = try ConversationTemplate(source: String(decoding: source, as: UTF8.self))
        let file = try JSONValue.parse(try GoldenTemplates.bytes(folder + "/cases.json"))
        let now = try #require(LocalTime(iso8601: file["now"]?.string ?? ""))
        let tokens = (file["special_tokens"]?.object?.entries ?? []).map {
            (name: $0.key, text: $0.value.string ?? "")
        }
        for test in file["cases"]?.array ?? [] {
            let name = Comment(rawValue: test["name"]?.string ?? "")
            let variables = (test.object?.entries ?? []).filter { !Self.reserved.contains($0.key) }
            do {
                let rendered = try template.render(
                    messages: test["messages"] ?? .null, tools: test["tools"],
                    documents: test["documents"],
                    addGenerationPrompt: test["add_generation_prompt"]?.bool ?? false,
                    variables: JSONObject(variables), specialTokens: tokens, now: now)
                #expect(JSONValue.string(rendered.text) == test["text"], name)
                if let spans = test["generation"]?.array {
                    #expect(codePoints(rendered) == spans, name)
                }
            } catch {
                let wanted = test["error"]
                #expect(error.type == wanted?["type"]?.string, "\(name) \(error)")
                if error.type == "TemplateError" {
                    #expect(error.message == wanted?["message"]?.string, name)
                }
            }
        }
    }

    private func codePoints(_ rendered: Rendered) -> [JSONValue] {
        let bytes = Array(rendered.text.utf8)
        func count(_ end: Int) -> Int64 { Int64(bytes[..<end].count { $0 & 0xC0 != 0x80 }) }
        return rendered.generationSpans.map {
            [.integer(count($0.lowerBound)), .integer(count($0.upperBound))]
        }
    }

    @Test func everySnippetRendersAsJinja() throws {
        let bytes = try GoldenTemplates.bytes(GoldenTemplates.root + "/snippets.json")
        let file = try JSONValue.parse(bytes)
        let now = try #require(LocalTime(iso8601: file["now"]?.string ?? ""))
        // Read as values: the context holds a number beyond 64 bits.
        guard case .dictionary(let values) = try ValueReader.read(bytes),
            case .dictionary(let context) = values[Text("context")]
        else {
            Issue.record("snippets.json has no context")
            return
        }
        let variables = context.entries.map { entry in
            (
                name: String(decoding: PythonRepr.string(entry.key), as: UTF8.self),
                value: entry.value
            )
        }
        for test in file["snippets"]?.array ?? [] {
            let source = test["template"]?.string ?? ""
            let place = Comment(rawValue: source)
            do {
                let template = try ConversationTemplate(source: source)
                let rendered = try template.render(variables: variables, now: now)
                #expect(JSONValue.string(rendered.text) == test["text"], place)
            } catch {
                #expect(error.type == test["error"]?["type"]?.string, "\(source): \(error)")
            }
        }
    }
}
