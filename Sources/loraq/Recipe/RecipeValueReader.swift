import Foundation
import JSONModel
import Yams

/// Reads one YAML value as its field wants it: by the field's kind, never by YAML's guess, so `2e-4` is a number.
struct RecipeValueReader {
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
