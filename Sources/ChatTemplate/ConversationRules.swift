import JSONModel

/// What a conversation may hold before any template sees it: one set of rules for requests and training
/// data, so that a row that trains can also be asked.
public enum ConversationRules {
    public static let roles = ["system", "developer", "user", "assistant", "tool"]
    /// Members that templates know. Another one is more likely a typing error than meant for the template.
    public static let members: Set<String> = [
        "role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "thinking",
        "reasoning",
    ]
    /// Template variables that come from the request itself; `chat_template_kwargs` may not name them.
    public static let ownVariables: Set<String> = [
        "messages", "conversation", "tools", "add_generation_prompt", "continue_final_message",
        "chat_template", "tokenize",
    ]

    /// Where something is wrong, and what: `content[1]` and "is …". An empty member is the whole.
    public struct Fault: Error, Sendable, Equatable {
        public let member: String
        public let message: String
    }

    /// - Throws: `Fault` naming the member of the message.
    public static func check(message: JSONValue) throws(Fault) {
        guard let fields = message.object else {
            throw Fault(member: "", message: "is \(message.kindName), not an object")
        }
        guard let role = fields["role"], !role.isNull else {
            throw Fault(member: "role", message: "is missing")
        }
        guard let role = role.string else {
            throw Fault(member: "role", message: "is \(role.kindName), not a string")
        }
        guard roles.contains(role) else {
            throw Fault(
                member: "role",
                message: "is \"\(role.prefix(40))\"; there are \(roles.joined(separator: ", "))")
        }
        for (key, value) in fields.entries where !members.contains(key) && !value.isNull {
            throw Fault(member: String(key.prefix(40)), message: "is not a known member")
        }
        for key in ["name", "tool_call_id", "reasoning_content", "thinking", "reasoning"] {
            if let value = fields[key], !value.isNull, value.string == nil {
                throw Fault(member: key, message: "is \(value.kindName), not a string")
            }
        }
        let hasCalls = try checkCalls(fields["tool_calls"] ?? .null, role: role)
        try checkContent(fields["content"] ?? .null, mayBeMissing: hasCalls)
    }

    /// - Returns: Whether there are any.
    private static func checkCalls(_ value: JSONValue, role: String) throws(Fault) -> Bool {
        if value.isNull { return false }
        guard role == "assistant" else {
            throw Fault(
                member: "tool_calls", message: "belongs to an assistant's message, not a \(role)'s")
        }
        guard let calls = value.array, !calls.isEmpty else {
            throw Fault(member: "tool_calls", message: "must be a list of at least one call")
        }
        for (index, call) in calls.enumerated() {
            let function = call["function"] ?? call
            guard function.object != nil, function["name"]?.string != nil else {
                throw Fault(
                    member: "tool_calls[\(index)]",
                    message:
                        "must be {\"type\": \"function\", \"function\": {\"name\", \"arguments\"}}")
            }
        }
        return true
    }

    private static func checkContent(
        _ content: JSONValue, mayBeMissing: Bool
    ) throws(Fault) {
        switch content {
        case .string: return
        case .null:
            if !mayBeMissing { throw Fault(member: "content", message: "is missing") }
        case .array(let parts):
            guard !parts.isEmpty else {
                throw Fault(member: "content", message: "is an empty list")
            }
            for (index, part) in parts.enumerated()
            where part["type"]?.string != "text" || part["text"]?.string == nil {
                throw Fault(
                    member: "content[\(index)]",
                    message: "is not {\"type\": \"text\", \"text\": …}; only text is understood")
            }
        default:
            throw Fault(
                member: "content",
                message: "is \(content.kindName), not a string or a list of text parts")
        }
    }

    /// - Throws: `Fault` with the member `tools` or `tools[i]`.
    public static func check(tools: JSONValue) throws(Fault) {
        guard let list = tools.array else {
            throw Fault(member: "tools", message: "is \(tools.kindName), not a list")
        }
        for (index, tool) in list.enumerated() where tool.object == nil {
            throw Fault(
                member: "tools[\(index)]", message: "is \(tool.kindName), not an object")
        }
    }

    /// - Throws: `Fault` with the member `chat_template_kwargs` or one of its own.
    public static func check(variables: JSONValue) throws(Fault) {
        guard let object = variables.object else {
            throw Fault(
                member: "chat_template_kwargs", message: "is \(variables.kindName), not an object")
        }
        for key in object.keys where ownVariables.contains(key) {
            throw Fault(
                member: "chat_template_kwargs.\(key)",
                message: "cannot be set this way; it is what the conversation itself says")
        }
    }
}
