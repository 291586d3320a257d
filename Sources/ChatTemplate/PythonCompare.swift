/// Python's `==`, `<` and `in`.
enum PythonCompare {
    static func equal(_ left: Value, _ right: Value) -> Bool {
        switch (left, right) {
        case (.undefined, .undefined), (.none, .none): return true
        case (.string(let a), .string(let b)): return a == b
        case (.bytes(let a), .bytes(let b)): return a == b
        case (.list(let a), .list(let b)), (.tuple(let a), .tuple(let b)):
            return a.count == b.count && zip(a, b).allSatisfy(equal)
        case (.dictionary(let a), .dictionary(let b)):
            return a.count == b.count
                && a.entries.allSatisfy { entry in
                    DictionaryKey(entry.key).flatMap { b[$0] }.map { equal($0, entry.value) }
                        ?? false
                }
        case (.range(let a, let b, let c), .range(let x, let y, let z)):
            return (a, b, c) == (x, y, z)
        case (.namespace(let a), .namespace(let b)): return a === b
        case (.callable(let a), .callable(let b)): return a === b
        case (.loop(let a), .loop(let b)): return a === b
        default: return PythonNumber.compare(left, right) == 0
        }
    }

    /// Whether left is below right.
    ///
    /// - Throws: `TypeError` for kinds without an order.
    static func less(
        _ left: Value, _ right: Value, operation: String = "<"
    ) throws -> Bool {
        _ = try left.defined()
        _ = try right.defined()
        switch (left, right) {
        case (.string(let a), .string(let b)):
            return a.bytes.lexicographicallyPrecedes(b.bytes)
        case (.list(let a), .list(let b)), (.tuple(let a), .tuple(let b)):
            for (x, y) in zip(a, b) where !equal(x, y) {
                return try less(x, y, operation: operation)
            }
            return a.count < b.count
        default:
            guard PythonNumber.isNumber(left), PythonNumber.isNumber(right) else {
                throw TemplateError(
                    "TypeError",
                    "'\(operation)' not supported between instances of "
                        + "'\(left.typeName)' and '\(right.typeName)'")
            }
            return PythonNumber.compare(left, right).map { $0 < 0 } ?? false
        }
    }

    static func apply(
        _ kind: ComparisonOperator, _ left: Value, _ right: Value
    ) throws -> Bool {
        switch kind {
        case .equal: return equal(left, right)
        case .notEqual: return !equal(left, right)
        case .less: return try less(left, right)
        case .greater: return try less(right, left, operation: ">")
        case .lessOrEqual: return try less(left, right, operation: "<=") || equal(left, right)
        case .greaterOrEqual:
            return try less(right, left, operation: ">=") || equal(left, right)
        case .in: return try contains(right, left)
        case .notIn: return try !contains(right, left)
        }
    }

    static func contains(_ container: Value, _ element: Value) throws -> Bool {
        switch container {
        case .string(let text):
            guard case .string(let part) = element else {
                throw TemplateError(
                    "TypeError",
                    "'in <string>' requires string as left operand, not \(element.typeName)")
            }
            return part.bytes.isEmpty
                || !PythonText.occurrences(of: part.bytes, in: text.bytes[...], limit: 1).isEmpty
        case .dictionary(let dictionary), .view(.keys, let dictionary):
            guard let key = DictionaryKey(element) else {
                throw TemplateError("TypeError", "unhashable type: '\(element.typeName)'")
            }
            return dictionary[key] != nil
        case .undefined, .list, .tuple, .view, .range, .generator:
            return try container.iterated().contains { equal($0, element) }
        default:
            throw TemplateError(
                "TypeError", "argument of type '\(container.typeName)' is not iterable")
        }
    }
}
