import Foundation
import JSONModel
import WireProtocol
import Yams

/// A fine-tune's hyperparameters: a YAML file, then `--set` on top, each value checked by its field.
///
/// Every fault names the file (or `--set`), the line and the key, before anything is sent.
struct RecipeDraft {
    private(set) var values: [(name: String, value: JSONValue)] = []

    static let maximumBytes = 1 << 20

    /// Reads `file` if there is one, then applies `settings` (`name=value`) in order.
    init(file: String?, settings: [String]) throws(ToolError) {
        if let file { try read(file: file) }
        for setting in settings { try apply(setting: setting) }
    }

    /// Bare adapter names become references to adapters of the model; then the wire's own rules decide.
    func checked(model: String) throws(ToolError) -> JSONValue {
        var draft = self
        let base = model.prefix { $0 != "@" && $0 != "#" }
        if let index = draft.values.firstIndex(where: { $0.name == "adapter" }),
            let name = draft.values[index].value.string, !name.contains(":")
        {
            draft.values[index].value = .string("\(base):\(name)")
        }
        do throws(WireError) {
            _ = try Recipe(draft.json)
        } catch {
            throw ToolError.usage("recipe: \(error.message)")
        }
        return draft.json
    }

    /// As the `recipe` object of a submission, in the order given.
    var json: JSONValue { .object(JSONObject(values.map { (key: $0.name, value: $0.value) })) }

    // MARK: Sources

    private mutating func read(file: String) throws(ToolError) {
        let text = try InputFile.smallText(file, limit: RecipeDraft.maximumBytes, what: "recipe")
        try read(yaml: text, named: file)
    }

    mutating func read(yaml text: String, named file: String) throws(ToolError) {
        let root: Node?
        do {
            root = try Yams.compose(yaml: text)
        } catch {
            throw ToolError.usage(
                "\(file): \(RecipeDraft.describe(error))",
                hint: "a recipe is YAML, one `name: value` a line")
        }
        guard let root, root.null == nil || root.mapping != nil else { return }
        guard let mapping = root.mapping else {
            throw ToolError.usage(
                "\(file): a recipe is a mapping of names to values, this is "
                    + RecipeDraft.shape(root), hint: "write one `name: value` a line")
        }
        var seen: [String: Int] = [:]
        for (keyNode, node) in mapping {
            let line = keyNode.mark?.line ?? 0
            let place = "\(file):\(line)"
            guard let key = keyNode.scalar?.string else {
                throw ToolError.usage(
                    "\(place): a key must be a word, not \(RecipeDraft.shape(keyNode))")
            }
            if let earlier = seen[key] {
                throw ToolError.usage("\(place): \(key) was already given in line \(earlier)")
            }
            seen[key] = line
            try set(key, node, place: place)
        }
    }

    private mutating func apply(setting: String) throws(ToolError) {
        guard let equals = setting.firstIndex(of: "="), equals != setting.startIndex else {
            throw ToolError.usage(
                "--set \(setting): expected name=value",
                hint: "for example --set learning_rate=2e-4")
        }
        let key = String(setting[..<equals])
        let text = String(setting[setting.index(after: equals)...])
        let place = "--set \(setting)"
        guard let field = try RecipeDraft.knownField(key, place: place) else { return }
        if case .modules = field.kind, RecipeDraft.isPlainList(text) {
            let names = text.split(separator: ",").map { JSONValue.string(String($0)) }
            return store(key, .array(names))
        }
        let node: Node?
        do {
            node = try Yams.compose(yaml: text)
        } catch {
            throw ToolError.usage("\(place): \(RecipeDraft.describe(error))")
        }
        try set(key, node ?? Node("", Tag(.null)), place: place)
    }

    /// `q_proj,v_proj`: names with commas between and nothing that only a pattern has.
    private static func isPlainList(_ text: String) -> Bool {
        text.contains(",")
            && text.unicodeScalars.allSatisfy {
                $0 == "," || $0 == "_" || $0 == "." || $0 == "-" || ("a"..."z").contains($0)
                    || ("A"..."Z").contains($0) || ("0"..."9").contains($0)
            }
    }

    // MARK: One field

    private mutating func set(_ key: String, _ node: Node, place: String) throws(ToolError) {
        guard let field = try RecipeDraft.knownField(key, place: place) else { return }
        let value = try RecipeValueReader(field: field, place: place).read(node)
        store(key, value)
    }

    private mutating func store(_ key: String, _ value: JSONValue) {
        if let index = values.firstIndex(where: { $0.name == key }) {
            values[index].value = value
        } else {
            values.append((name: key, value: value))
        }
    }

    private static func knownField(_ key: String, place: String) throws(ToolError) -> RecipeField? {
        if let field = RecipeFields.field(named: key) { return field }
        let shown = TextTable.oneLine(String(key.prefix(80)))
        if let reason = RecipeFields.elsewhere[key] {
            throw ToolError.usage("\(place): `\(shown)` is not a recipe field here: \(reason)")
        }
        let known = RecipeFields.all.map(\.name)
        let likely =
            RecipeFields.otherNames[key] ?? RecipeFields.otherNames[key.lowercased()]
            ?? Suggestion.nearest(to: key, among: known)
        throw ToolError.usage(
            "\(place): unknown recipe field `\(shown)`"
                + (likely.map { "; did you mean `\($0)`?" } ?? ""),
            hint: "the fields are: " + known.joined(separator: ", "))
    }

    // MARK: Words for errors

    static func shape(_ node: Node) -> String {
        switch node {
        case .scalar(let scalar): "`\(TextTable.oneLine(String(scalar.string.prefix(60))))`"
        case .mapping: "a mapping"
        case .sequence: "a list"
        case .alias: "an alias"
        }
    }

    private static func describe(_ error: any Error) -> String {
        guard let error = error as? YamlError else { return "not readable as YAML" }
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            return "line \(mark.line), column \(mark.column): not YAML: \(problem)"
        case .reader(let problem, _, _, _): return "not YAML: \(problem)"
        case .duplicatedKeysInMapping(let duplicates, let context):
            let names = duplicates.map { "`\($0)`" }.joined(separator: ", ")
            return "line \(context.mark.line): given twice: \(names)"
        default: return "not readable as YAML"
        }
    }
}

/// Reads one YAML value as its field wants it: by the field's kind, never by YAML's guess, so `2e-4` is a number.
private struct RecipeValueReader {
    let field: RecipeField
    let place: String

    func read(_ node: Node) throws(ToolError) -> JSONValue {
        switch field.kind {
        case .integer(let range): return .integer(Int64(try integer(node, in: range)))
        case .number: return try number(node)
        case .numberOrWord(let words):
            if let text = node.scalar?.string, words.contains(text) { return .string(text) }
            guard let text = plain(node), let value = Double(text), value.isFinite, value > 0 else {
                throw wrong("a number above 0 or \(words.joined(separator: ", "))", node)
            }
            return Int64(text).map { .integer($0) } ?? .number(value)
        case .booleanOrWord(let words):
            if let text = node.scalar?.string, words.contains(text) { return .string(text) }
            return .bool(try boolean(node))
        case .boolean: return .bool(try boolean(node))
        case .text: return .string(try text(node, "a text"))
        case .word(let words): return .string(try word(node, words))
        case .modules: return try modules(node)
        case .layers: return try layers(node)
        case .pattern(let whole): return try pattern(node, whole: whole)
        }
    }

    private func wrong(_ expected: String, _ node: Node) -> ToolError {
        let got = node.scalar?.string.isEmpty == true ? "nothing" : RecipeDraft.shape(node)
        return .usage("\(place): `\(field.name)` must be \(expected), not \(got)")
    }

    /// The text of an unquoted scalar; a quoted number is a text, and texts are no numbers.
    private func plain(_ node: Node) -> String? {
        guard let scalar = node.scalar, scalar.style != .singleQuoted, scalar.style != .doubleQuoted
        else { return nil }
        return scalar.string.replacingOccurrences(of: "_", with: "")
    }

    private func integer(_ node: Node, in range: ClosedRange<Int>) throws(ToolError) -> Int {
        let bounds =
            range.upperBound == .max
            ? "of at least \(range.lowerBound)"
            : "from \(range.lowerBound) to \(HumanText.count(range.upperBound))"
        let expected = "a whole number \(bounds)"
        guard let text = plain(node), let value = Int(text) ?? wholeNumber(text),
            range.contains(value)
        else { throw wrong(expected, node) }
        return value
    }

    /// `1e3` is a whole number too.
    private func wholeNumber(_ text: String) -> Int? {
        guard let value = Double(text), abs(value) < 9e15 else { return nil }
        return Int(exactly: value)
    }

    private func number(_ node: Node) throws(ToolError) -> JSONValue {
        guard case .number(let least, let inclusive, let most) = field.kind else { return .null }
        let lower = inclusive ? "of at least" : "above"
        let upper = most < 1e9 ? " and at most \(HumanText.significant(most))" : ""
        let expected = "a number \(lower) \(HumanText.significant(least))\(upper)"
        guard let text = plain(node), let value = Double(text), value.isFinite,
            inclusive ? value >= least : value > least, value <= most
        else { throw wrong(expected, node) }
        if field.name == "lora_dropout", value != 0 {
            throw ToolError.usage(
                "\(place): `lora_dropout` must be 0: dropout is not available in training yet")
        }
        if let whole = Int64(text) { return .integer(whole) }
        return .number(value)
    }

    private func boolean(_ node: Node) throws(ToolError) -> Bool {
        switch plain(node)?.lowercased() {
        case "true", "yes", "on": return true
        case "false", "no", "off": return false
        default: throw wrong("true or false", node)
        }
    }

    private func text(_ node: Node, _ expected: String) throws(ToolError) -> String {
        guard let text = node.scalar?.string, !text.isEmpty else { throw wrong(expected, node) }
        return text
    }

    private func word(_ node: Node, _ words: [String]) throws(ToolError) -> String {
        let expected =
            words.count == 1 ? "`\(words[0])`" : "one of " + words.joined(separator: ", ")
        guard let text = node.scalar?.string else { throw wrong(expected, node) }
        guard words.contains(text) else {
            let likely = Suggestion.nearest(to: text, among: words)
            throw ToolError.usage(
                "\(place): `\(field.name)` must be \(expected), not \(RecipeDraft.shape(node))"
                    + (likely.map { "; did you mean `\($0)`?" } ?? ""))
        }
        return text
    }

    private func modules(_ node: Node) throws(ToolError) -> JSONValue {
        guard let sequence = node.sequence else {
            return .string(try text(node, "a list of module names, a pattern or `all-linear`"))
        }
        guard !sequence.isEmpty else { throw wrong("a list with at least one module", node) }
        var names: [JSONValue] = []
        for element in sequence { names.append(.string(try text(element, "a list of names"))) }
        return .array(names)
    }

    private func layers(_ node: Node) throws(ToolError) -> JSONValue {
        guard let sequence = node.sequence else {
            return .integer(Int64(try integer(node, in: 0...100_000)))
        }
        guard !sequence.isEmpty else { throw wrong("a list with at least one layer", node) }
        var numbers: [JSONValue] = []
        for element in sequence {
            numbers.append(.integer(Int64(try integer(element, in: 0...100_000))))
        }
        return .array(numbers)
    }

    private func pattern(_ node: Node, whole: Bool) throws(ToolError) -> JSONValue {
        let kind = whole ? "ranks" : "numbers"
        guard let mapping = node.mapping else {
            throw wrong("a mapping of module patterns to \(kind)", node)
        }
        var object = JSONObject()
        for (key, value) in mapping {
            let name = try text(key, "a mapping of module patterns to \(kind)")
            if whole {
                object[name] = .integer(Int64(try integer(value, in: 1...4096)))
            } else {
                guard let text = plain(value), let number = Double(text), number.isFinite,
                    number > 0
                else { throw wrong("a mapping of module patterns to numbers above 0", value) }
                object[name] = Int64(text).map { .integer($0) } ?? .number(number)
            }
        }
        return .object(object)
    }
}
