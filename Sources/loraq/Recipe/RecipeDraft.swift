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

    /// - Parameter option: The option that it was given by, for errors.
    mutating func apply(setting: String, option: String = "--set") throws(ToolError) {
        guard let equals = setting.firstIndex(of: "="), equals != setting.startIndex else {
            throw ToolError.usage(
                "\(option) \(setting): expected name=value",
                hint: "for example --set learning_rate=2e-4")
        }
        let key = String(setting[..<equals])
        let text = String(setting[setting.index(after: equals)...])
        let place = "\(option) \(setting)"
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
