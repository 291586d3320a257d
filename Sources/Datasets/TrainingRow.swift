import ChatTemplate
import JSONModel

/// A message of a conversation, as the template gets it.
public struct ConversationMessage: Sendable, Equatable {
    public var role: String
    /// All members but `weight`, in file order.
    public var fields: JSONObject
    /// False for `"weight": 0`.
    public var isTrained: Bool
}

/// One row of a data file, read and checked, in one of the three forms that training knows.
public enum TrainingRow: Sendable, Equatable {
    /// `firstTrained`: messages before it are the prompt and never labelled.
    case conversation(
        [ConversationMessage], tools: JSONValue?, variables: JSONObject, firstTrained: Int)
    case completion(prompt: String, completion: String)
    case text(String)
}

/// Reads rows: chat `messages`, `prompt`/`completion`, `text`, Alpaca, ShareGPT.
enum TrainingRowReader {
    static let knownForms =
        "messages; prompt and completion; text; instruction and output (Alpaca); "
        + "conversations (ShareGPT)"

    /// - Parameter unknownKey: Called with each key of the row that no form has, so that it can be reported.
    static func read(_ value: JSONValue, unknownKey: (String) -> Void) throws(RefusedRow)
        -> TrainingRow
    {
        guard let row = value.object else {
            throw RefusedRow(.badLine, "is \(value.kindName), not an object")
        }
        let found = forms(in: row)
        guard found.count == 1, let form = found.first else {
            throw RefusedRow(
                .badLine,
                found.isEmpty
                    ? "has none of the known forms (\(knownForms)); its keys are "
                        + row.keys.prefix(8).joined(separator: ", ")
                    : "has \(found.joined(separator: " and ")) at once; one form must be left")
        }
        var known: Set<String> = ["tools", "chat_template_kwargs"]
        let result: TrainingRow
        switch form {
        case "messages":
            known.insert("messages")
            result = try conversation(row, row["messages"] ?? .null, firstTrained: 0)
        case "completion":
            known.formUnion(["prompt", "completion"])
            result = try completion(row)
        case "text":
            known = ["text"]
            result = .text(try text(row, "text"))
        case "instruction":
            known.formUnion(["instruction", "input", "output", "system", "history"])
            result = try conversation(row, AlpacaForm.messages(row), firstTrained: 0)
        default:
            known.formUnion(["conversations", "system"])
            result = try conversation(row, ShareGPTForm.messages(row), firstTrained: 0)
        }
        for key in row.keys where !known.contains(key) { unknownKey(key) }
        return result
    }

    /// The keys of a row that name its form; exactly one in a good row.
    private static func forms(in row: JSONObject) -> [String] {
        ["messages", "completion", "text", "instruction", "conversations"]
            .filter { row[$0].map { !$0.isNull } ?? false }
    }

    static func form(of value: JSONValue) -> String? {
        value.object.flatMap { forms(in: $0).first }
    }

    static func text(_ row: JSONObject, _ key: String) throws(RefusedRow) -> String {
        guard let value = row[key] else { throw RefusedRow(.badLine, "\(key) is missing") }
        guard let text = value.string else {
            throw RefusedRow(.badLine, "\(key) is \(value.kindName), not a string")
        }
        return text
    }

    private static func completion(_ row: JSONObject) throws(RefusedRow) -> TrainingRow {
        let prompt = row["prompt"] ?? .null
        let completion = row["completion"] ?? .null
        switch (prompt, completion) {
        case (.string(let prompt), .string(let completion)):
            return .completion(prompt: prompt, completion: completion)
        case (.array(let before), .array(let after)):
            guard !before.isEmpty, !after.isEmpty else {
                throw RefusedRow(.badLine, "prompt and completion must not be empty lists")
            }
            return try conversation(row, .array(before + after), firstTrained: before.count)
        default:
            throw RefusedRow(
                .badLine,
                "prompt is \(prompt.kindName) and completion \(completion.kindName); "
                    + "both must be strings or both lists of messages")
        }
    }

    private static func conversation(
        _ row: JSONObject, _ messages: JSONValue, firstTrained: Int
    ) throws(RefusedRow) -> TrainingRow {
        guard let items = messages.array else {
            throw RefusedRow(.badLine, "messages is \(messages.kindName), not a list")
        }
        guard !items.isEmpty else { throw RefusedRow(.badLine, "messages is empty") }
        var result: [ConversationMessage] = []
        for (index, item) in items.enumerated() {
            result.append(try MessageReader.read(item, at: "messages[\(index)]"))
        }
        var tools = row["tools"]
        if tools?.isNull == true { tools = .none }
        var variables = row["chat_template_kwargs"]
        if variables?.isNull == true { variables = .none }
        do throws(ConversationRules.Fault) {
            if let tools { try ConversationRules.check(tools: tools) }
            if let variables { try ConversationRules.check(variables: variables) }
        } catch {
            throw RefusedRow(.badLine, "\(error.member) \(error.message)")
        }
        return .conversation(
            result, tools: tools, variables: variables?.object ?? JSONObject(),
            firstTrained: firstTrained)
    }
}

/// Reads one message of a conversation.
enum MessageReader {
    static func read(_ value: JSONValue, at place: String) throws(RefusedRow) -> ConversationMessage
    {
        var fields = value.object ?? JSONObject()
        let weight = fields["weight"]
        fields["weight"] = .none
        do throws(ConversationRules.Fault) {
            try ConversationRules.check(message: value.object == nil ? value : .object(fields))
        } catch {
            let member = error.member.isEmpty ? place : "\(place).\(error.member)"
            throw RefusedRow(.badLine, "\(member) \(error.message)")
        }
        let role = fields["role"]?.string ?? ""
        return ConversationMessage(
            role: role, fields: fields,
            isTrained: try Self.weight(weight, role: role, at: place))
    }

    private static func weight(
        _ value: JSONValue?, role: String, at place: String
    ) throws(RefusedRow) -> Bool {
        guard let value, !value.isNull else { return true }
        guard let number = value.double, number == 0 || number == 1 else {
            throw RefusedRow(.badLine, "\(place).weight is \(value.text()); it may be 0 or 1")
        }
        guard number == 0 || role == "assistant" else {
            throw RefusedRow(
                .badLine, "\(place).weight is 1, but only assistant messages are trained")
        }
        return number == 1
    }
}

/// Alpaca rows: `instruction`, `input`, `output`, and LLaMA-Factory's `system` and `history`.
enum AlpacaForm {
    static func messages(_ row: JSONObject) throws(RefusedRow) -> JSONValue {
        let instruction = try TrainingRowReader.text(row, "instruction")
        let output = try TrainingRowReader.text(row, "output")
        var messages: [JSONValue] = []
        func message(_ role: String, _ text: String) {
            messages.append(["role": .string(role), "content": .string(text)])
        }
        if let system = row["system"], !system.isNull {
            let text = try TrainingRowReader.text(row, "system")
            if !text.isEmpty { message("system", text) }
        }
        if let history = row["history"], !history.isNull {
            guard let turns = history.array else {
                throw RefusedRow(.badLine, "history is \(history.kindName), not a list")
            }
            for turn in turns {
                guard let pair = turn.array, pair.count == 2, let question = pair[0].string,
                    let answer = pair[1].string
                else { throw RefusedRow(.badLine, "history is not a list of pairs of strings") }
                message("user", question)
                message("assistant", answer)
            }
        }
        var input = ""
        if let value = row["input"], !value.isNull {
            input = try TrainingRowReader.text(row, "input")
        }
        message("user", input.isEmpty ? instruction : instruction + "\n\n" + input)
        message("assistant", output)
        return .array(messages)
    }
}

/// ShareGPT rows: `conversations` of `{"from", "value"}`, also with `role` and `content`.
enum ShareGPTForm {
    static let roles = [
        "system": "system", "human": "user", "user": "user", "gpt": "assistant",
        "assistant": "assistant", "chatgpt": "assistant", "tool": "tool", "observation": "tool",
    ]

    static func messages(_ row: JSONObject) throws(RefusedRow) -> JSONValue {
        guard let turns = row["conversations"]?.array else {
            throw RefusedRow(.badLine, "conversations is not a list")
        }
        var messages: [JSONValue] = []
        if let system = row["system"], !system.isNull {
            let text = try TrainingRowReader.text(row, "system")
            messages.append(["role": "system", "content": .string(text)])
        }
        for (index, turn) in turns.enumerated() {
            let place = "conversations[\(index)]"
            guard let object = turn.object else {
                throw RefusedRow(.badLine, "\(place) is \(turn.kindName), not an object")
            }
            guard object["from"] != nil else {
                messages.append(turn)
                continue
            }
            if let unknown = object.keys.first(where: { !["from", "value", "weight"].contains($0) })
            {
                throw RefusedRow(.badLine, "\(place).\(unknown.prefix(40)) is not a known member")
            }
            guard let from = object["from"]?.string, let role = roles[from] else {
                throw RefusedRow(
                    .badLine,
                    "\(place).from is \(object["from"]?.text().prefix(40) ?? ""); there are "
                        + roles.keys.sorted().joined(separator: ", "))
            }
            var message = JSONObject([
                ("role", .string(role)), ("content", object["value"] ?? .null),
            ])
            if let weight = object["weight"] { message["weight"] = weight }
            messages.append(.object(message))
        }
        return .array(messages)
    }
}
