/// The tests of Jinja (`x is defined`).
enum ValueTests {
    static let names: Set<String> = [
        "odd", "even", "divisibleby", "defined", "undefined", "filter", "test", "none", "boolean",
        "false", "true", "integer", "float", "lower", "upper", "string", "mapping", "number",
        "sequence", "iterable", "callable", "sameas", "escaped", "in", "==", "eq", "equalto", "!=",
        "ne", ">", "gt", "greaterthan", "ge", ">=", "<", "lt", "lessthan", "<=", "le",
    ]

    private static let comparisons: [String: ComparisonOperator] = [
        "==": .equal, "eq": .equal, "equalto": .equal, "!=": .notEqual, "ne": .notEqual,
        ">": .greater, "gt": .greater, "greaterthan": .greater, ">=": .greaterOrEqual,
        "ge": .greaterOrEqual, "<": .less, "lt": .less, "lessthan": .less, "<=": .lessOrEqual,
        "le": .lessOrEqual, "in": .in,
    ]

    static func apply(
        _ name: String, _ value: Value, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Bool {
        try interpreter.meter.step()
        if let comparison = comparisons[name] {
            let other = try arguments.bind(name, ["other"], required: 1)[0] ?? .none
            try interpreter.countComparison(comparison, value, other)
            return try PythonCompare.apply(comparison, value, other)
        }
        switch name {
        case "divisibleby":
            let number = try arguments.bind(name, ["num"], required: 1)[0] ?? .none
            return try remainder(value, number) == 0
        case "sameas":
            return isSame(value, try arguments.bind(name, ["other"], required: 1)[0] ?? .none)
        default: break
        }
        _ = try arguments.bind(name, [])
        switch name {
        case "odd": return try remainder(value, .int(2)) == 1
        case "even": return try remainder(value, .int(2)) == 0
        case "defined": return !value.isUndefined
        case "undefined": return value.isUndefined
        case "filter": return isName(value, in: Filters.names)
        case "test": return isName(value, in: names)
        case "none": if case .none = value { return true }
        case "boolean": if case .bool = value { return true }
        case "true": if case .bool(true) = value { return true }
        case "false": if case .bool(false) = value { return true }
        case "integer":
            switch value {
            case .int, .big: return true
            default: break
            }
        case "float": if case .float = value { return true }
        case "lower", "upper":
            try interpreter.meter.walk(value)
            return isAll(value, lower: name == "lower")
        case "string": if case .string = value { return true }
        case "mapping": if case .dictionary = value { return true }
        case "number": return PythonNumber.isNumber(value)
        case "sequence":
            switch value {
            case .undefined, .string, .bytes, .list, .tuple, .dictionary, .range: return true
            default: break
            }
        case "iterable":
            switch value {
            case .none, .bool, .int, .big, .float, .callable, .namespace: return false
            default: return true
            }
        case "callable":
            switch value {
            case .callable, .undefined, .loop: return true
            default: break
            }
        case "escaped": if case .string(let text) = value { return text.isSafe }
        default:
            throw TemplateError("TemplateRuntimeError", "No test named '\(name)'.")
        }
        return false
    }

    private static func remainder(_ value: Value, _ divisor: Value) throws -> Int? {
        guard PythonNumber.isNumber(try value.defined()), PythonNumber.isNumber(divisor) else {
            throw TemplateError(
                "TypeError",
                "unsupported operand type(s) for %: '\(value.typeName)' and "
                    + "'\(divisor.typeName)'")
        }
        guard let result = try PythonNumber.apply(.modulo, value, divisor) else { return nil }
        return PythonNumber.double(result).flatMap { Int(exactly: $0) }
    }

    private static func isName(_ value: Value, in names: Set<String>) -> Bool {
        if case .string(let text) = value { return names.contains(text.string) }
        return false
    }

    private static func isAll(_ value: Value, lower: Bool) -> Bool {
        Methods.isCased(Text(PythonRepr.string(value)), lower: lower)
    }

    private static func isSame(_ left: Value, _ right: Value) -> Bool {
        switch (left, right) {
        case (.none, .none): true
        case (.bool(let a), .bool(let b)): a == b
        case (.int(let a), .int(let b)): a == b
        case (.string(let a), .string(let b)): a == b
        case (.namespace(let a), .namespace(let b)): a === b
        case (.callable(let a), .callable(let b)): a === b
        case (.dictionary(let a), .dictionary(let b)): a === b
        case (.undefined(let a), .undefined(let b)): a === b
        default: false
        }
    }
}
