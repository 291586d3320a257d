import JSONModel

/// A text made of a conversation, and the parts of it that the assistant is to learn.
public struct Rendered: Sendable, Equatable {
    public let text: String
    /// The parts inside of `{% generation %}`, as UTF-8 byte ranges of `text`.
    public let generationSpans: [Range<Int>]
}

/// A chat template: a Jinja template as transformers renders it. Immutable; renders on any thread.
///
/// One renderer serves training and inference. What a template may use is bounded (`TemplateLimits`),
/// it cannot change its data, reach files or the clock (which is a parameter).
///
/// `@unchecked Sendable`: the syntax tree is never changed after parsing; the values in it are literals.
public final class ConversationTemplate: @unchecked Sendable {
    public let source: String
    public let limits: TemplateLimits
    private let statements: [Statement]
    private let normalized: [UInt8]

    /// The longest template, in bytes.
    public static let maximumSourceBytes = 4 << 20

    /// - Throws: `TemplateError` of the type `TemplateSyntaxError` with line and column.
    public init(
        source: String, limits: TemplateLimits = TemplateLimits()
    ) throws(TemplateError) {
        guard source.utf8.count <= Self.maximumSourceBytes else {
            throw TemplateError(
                "LimitError", "the template is longer than \(Self.maximumSourceBytes) bytes")
        }
        self.source = source
        self.limits = limits
        normalized = TemplateLexer.normalized(source)
        do {
            statements = try TemplateParser.parse(normalized)
        } catch {
            throw error.located(in: normalized)
        }
    }

    /// Whether the template marks what the assistant says.
    public var marksGeneration: Bool { Self.hasGeneration(statements) }

    /// Renders a conversation as `apply_chat_template` does: members of messages that are null are
    /// dropped, `reasoning_content`, `thinking` and `reasoning` stand for each other.
    ///
    /// - Parameters:
    ///   - messages: an array of objects; an empty one is refused.
    ///   - variables: further template variables (`enable_thinking`, …).
    ///   - specialTokens: `bos_token` and so on, by name.
    ///   - now: what `strftime_now` shows.
    public func render(
        messages: JSONValue, tools: JSONValue? = nil, documents: JSONValue? = nil,
        addGenerationPrompt: Bool = false, variables: JSONObject = JSONObject(),
        specialTokens: [(name: String, text: String)] = [], now: LocalTime
    ) throws(TemplateError) -> Rendered {
        try render(
            messages: Value(messages), tools: Value(tools ?? .null),
            documents: Value(documents ?? .null), addGenerationPrompt: addGenerationPrompt,
            variables: variables.entries.map { ($0.key, Value($0.value)) },
            specialTokens: specialTokens.map { ($0.name, .text($0.text)) }, now: now)
    }

    func render(
        messages: Value, tools: Value, documents: Value, addGenerationPrompt: Bool,
        variables: [(name: String, value: Value)], specialTokens: [(name: String, value: Value)],
        now: LocalTime
    ) throws(TemplateError) -> Rendered {
        guard case .list(let list) = messages else {
            throw TemplateError("TypeError", "messages are \(messages.typeName), not an array")
        }
        guard !list.isEmpty else {
            throw TemplateError(
                "ValueError",
                "Cannot apply chat template to an empty conversation. Provide at least one message."
            )
        }
        var converted: [Value] = []
        for message in list {
            guard case .dictionary(let object) = message else {
                throw TemplateError(
                    "TypeError",
                    "Chat messages should be objects, but one is \(message.typeName).")
            }
            converted.append(Self.message(object))
        }
        var all = specialTokens
        all.append(("messages", .list(ValueItems(converted))))
        all.append(("tools", tools))
        all.append(("documents", documents))
        all.append(("add_generation_prompt", .bool(addGenerationPrompt)))
        all += variables
        return try render(variables: all, now: now)
    }

    /// Renders with these variables only, as a plain template.
    public func render(
        context: JSONObject, now: LocalTime
    ) throws(TemplateError) -> Rendered {
        try render(variables: context.entries.map { ($0.key, Value($0.value)) }, now: now)
    }

    func render(
        variables: [(name: String, value: Value)], now: LocalTime
    ) throws(TemplateError) -> Rendered {
        let interpreter = Interpreter(limits: limits, now: now, variables: variables)
        do {
            let text = try interpreter.render(statements)
            return Rendered(
                text: String(decoding: text, as: UTF8.self),
                generationSpans: interpreter.generationSpans)
        } catch let error as TemplateError {
            throw error.located(in: normalized)
        } catch {
            throw TemplateError("InternalError", "\(error)")
        }
    }

    private static let reasoningNames = ["reasoning_content", "thinking", "reasoning"]

    private static func message(_ object: PythonDict) -> Value {
        let members = object.entries.filter { !Filters.isNone($0.value) }
        let result = PythonDict()
        func value(_ name: String) -> Value? {
            object[Text(name)].flatMap { Filters.isNone($0) ? Value?.none : $0 }
        }
        let reasoning = reasoningNames.lazy.compactMap { value($0) }.first
        func set(_ name: String, _ value: Value) {
            result.set(.text(Text(name)), .text(name), value)
        }
        if let reasoning { set("thinking", reasoning) }
        for (key, value) in members {
            if let hashed = DictionaryKey(key) { result.set(hashed, key, value) }
        }
        if let reasoning { set("reasoning_content", reasoning) }
        return .dictionary(result)
    }

    private static func hasGeneration(_ statements: [Statement]) -> Bool {
        statements.contains { statement in
            switch statement.kind {
            case .generation: true
            case .condition(let branches, let otherwise):
                branches.contains { hasGeneration($0.body) } || hasGeneration(otherwise)
            case .loop(let loop): hasGeneration(loop.body) || hasGeneration(loop.otherwise)
            case .macro(_, _, let body), .callBlock(_, _, let body), .filterBlock(_, let body),
                .with(_, let body), .block(let body), .autoescape(_, let body),
                .setBlock(_, _, let body):
                hasGeneration(body)
            default: false
            }
        }
    }
}

extension Value {
    init(_ json: JSONValue) {
        switch json {
        case .null: self = .none
        case .bool(let flag): self = .bool(flag)
        case .integer(let number): self = .int(Int(number))
        case .number(let number): self = .float(number)
        case .string(let string): self = .string(Text(string))
        case .array(let items): self = .list(ValueItems(items.map { Value($0) }))
        case .object(let object):
            self = .dictionary(
                PythonDict(object.entries.map { (key: Text($0.key), value: Value($0.value)) }))
        }
    }
}
