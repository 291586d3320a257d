import JSONModel

/// The questions and answers of `lora-worker render --jsonl`: one JSON object a line, both ways.
///
/// A line is a conversation (`messages`, and any of `tools`, `documents`, `add_generation_prompt`,
/// `special_tokens`, `now`, and further template variables), or a snippet with its own `template` and
/// `context`. The answer is `{"text", "generation"?}`, the latter the spans `[from, to)` inside of
/// `{% generation %}` in code points, or `{"error": {"type", "message", "line"?, "column"?}}`.
public struct RenderCommand: Sendable {
    public let template: ConversationTemplate?
    private let specialTokens: [(name: String, text: String)]

    /// - Parameters:
    ///   - template: for lines without a template of their own.
    ///   - specialTokens: for lines that name none.
    public init(
        template: ConversationTemplate?, specialTokens: [(name: String, text: String)] = []
    ) {
        self.template = template
        self.specialTokens = specialTokens
    }

    /// Members of a line that are no template variables.
    private static let reserved: Set<String> = [
        "name", "group", "messages", "tools", "documents", "add_generation_prompt",
        "special_tokens", "now", "template", "context", "text", "error", "generation",
    ]

    /// The answer to one line, without a line break.
    public func answer(_ line: [UInt8]) -> [UInt8] {
        let result: JSONValue
        do {
            let (rendered, marks) = try render(line)
            var members: [(key: String, value: JSONValue)] = [("text", .string(rendered.text))]
            if marks { members.append(("generation", Self.codePointSpans(rendered))) }
            result = .object(JSONObject(members))
        } catch {
            var members: [(key: String, value: JSONValue)] = [
                ("type", .string(error.type)), ("message", .string(error.message)),
            ]
            if let line = error.line, let column = error.column {
                members.append(("line", .integer(Int64(line))))
                members.append(("column", .integer(Int64(column))))
            }
            result = .object(JSONObject([("error", .object(JSONObject(members)))]))
        }
        return result.serialized()
    }

    private func render(
        _ line: [UInt8]
    ) throws(TemplateError) -> (rendered: Rendered, marksGeneration: Bool) {
        let value: Value
        do {
            value = try ValueReader.read(line)
        } catch {
            throw TemplateError("ValueError", "the line is no JSON: \(error)")
        }
        guard case .dictionary(let question) = value else {
            throw TemplateError("TypeError", "the line is no object")
        }
        var chosen = template
        if case .string(let source) = question[Text("template")] {
            chosen = try ConversationTemplate(source: source.string)
        }
        guard let chosen else {
            throw TemplateError(
                "ValueError", "there is no template: give --template or \"template\"")
        }
        var now = LocalTime.now()
        if case .string(let text) = question[Text("now")] {
            guard let given = LocalTime(iso8601: text.string) else {
                throw TemplateError("ValueError", "\"now\" is no time like 2026-03-05T14:07:09")
            }
            now = given
        }
        if case .dictionary(let context) = question[Text("context")] {
            let variables = context.entries.map { (name: Self.name($0.key), value: $0.value) }
            return (try chosen.render(variables: variables, now: now), chosen.marksGeneration)
        }
        var tokens = specialTokens.map { (name: $0.name, value: Value.text($0.text)) }
        if case .dictionary(let given) = question[Text("special_tokens")] {
            tokens = given.entries.map { (name: Self.name($0.key), value: $0.value) }
        }
        let variables = question.entries.map { (name: Self.name($0.key), value: $0.value) }
            .filter { !Self.reserved.contains($0.name) }
        let rendered = try chosen.render(
            messages: question[Text("messages")] ?? .none, tools: question[Text("tools")] ?? .none,
            documents: question[Text("documents")] ?? .none,
            addGenerationPrompt: question[Text("add_generation_prompt")]?.isTrue ?? false,
            variables: variables, specialTokens: tokens, now: now)
        return (rendered, chosen.marksGeneration)
    }

    private static func name(_ key: Value) -> String {
        String(decoding: PythonRepr.string(key), as: UTF8.self)
    }

    private static func codePointSpans(_ rendered: Rendered) -> JSONValue {
        let bytes = Array(rendered.text.utf8)
        func count(_ end: Int) -> Int64 { Int64(bytes[..<end].count { $0 & 0xC0 != 0x80 }) }
        return .array(
            rendered.generationSpans.map {
                .array([.integer(count($0.lowerBound)), .integer(count($0.upperBound))])
            })
    }
}
