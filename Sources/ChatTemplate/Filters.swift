/// The filters of Jinja, with transformers' `tojson`.
enum Filters {
    static let names: Set<String> = [
        "abs", "attr", "batch", "capitalize", "center", "count", "d", "default", "dictsort", "e",
        "escape", "filesizeformat", "first", "float", "forceescape", "format", "groupby", "indent",
        "int", "items", "join", "last", "length", "list", "lower", "map", "max", "min", "pprint",
        "random", "reject", "rejectattr", "replace", "reverse", "round", "safe", "select",
        "selectattr", "slice", "sort", "string", "striptags", "sum", "title", "tojson", "trim",
        "truncate", "unique", "upper", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr",
    ]

    static func apply(
        _ name: String, _ value: Value, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value {
        guard names.contains(name) else {
            throw TemplateError("TemplateRuntimeError", "No filter named '\(name)' found.")
        }
        try interpreter.meter.step()
        if !shallow.contains(name) { try count(name, value, arguments, interpreter) }
        let result = try result(name, value, arguments, interpreter)
        if case .string(let text) = result { try interpreter.account(text.bytes.count) }
        return result
    }

    /// Filters that look at no more than the outermost items, or apply others that are counted.
    private static let shallow: Set<String> = [
        "attr", "batch", "count", "d", "default", "first", "items", "last", "length", "list", "map",
        "reject", "rejectattr", "reverse", "select", "selectattr", "slice", "join", "sum",
    ]

    /// Counts what a filter goes through, and asks for the room that its result may need.
    private static func count(
        _ name: String, _ value: Value, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws {
        let meter = interpreter.meter
        var extent = try meter.walk(value)
        for argument in arguments.positional + arguments.keyword.map(\.value) {
            extent.bytes += try meter.walk(argument).bytes
        }
        switch name {
        case "sort", "dictsort", "groupby", "unique", "min", "max":
            // Each item is compared about as often as the number has binary digits.
            let rounds = Int.bitWidth - (value.length ?? 1).leadingZeroBitCount
            try meter.read(bytes: rounds * (extent.bytes + 8 * extent.values))
        case "e", "escape", "forceescape", "xmlattr", "urlencode", "tojson":
            try meter.room(extent.bytes, times: 6)
        default: try meter.room(extent.bytes)
        }
    }

    private static func result(
        _ name: String, _ value: Value, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value {
        if let result = try TextFilters.apply(name, value, arguments, interpreter)
            ?? SequenceFilters.apply(name, value, arguments, interpreter)
        {
            return result
        }
        switch name {
        case "default", "d":
            // `value` is the parameter that the operand takes.
            if arguments.keyword.contains(where: { $0.name == "value" }) {
                throw TemplateError(
                    "TypeError", "do_default() got multiple values for argument 'value'")
            }
            let values = try arguments.bind("do_default", ["default_value", "boolean"])
            let usesDefault = value.isUndefined || (values[1]?.isTrue ?? false && !value.isTrue)
            return usesDefault ? values[0] ?? .text("") : value
        case "abs":
            guard PythonNumber.isNumber(value) else {
                throw TemplateError("TypeError", "bad operand type for abs(): '\(value.typeName)'")
            }
            let isNegative = PythonNumber.compare(value, .int(0)).map { $0 < 0 } ?? false
            return isNegative ? PythonNumber.negated(value) ?? value : value
        case "int": return try int(value, arguments)
        case "float":
            let fallback = try arguments.bind("do_float", ["default"])[0] ?? .float(0)
            let value = try value.defined()
            return (try? PythonConvert.float(value)).map(Value.float) ?? fallback
        case "round": return try round(value, arguments)
        case "attr":
            let attribute = try arguments.bind("do_attr", ["name"], required: 1)[0] ?? .none
            guard case .string(let text) = attribute else {
                return Undefined.member(value, attribute)
            }
            if case .dictionary = value, Methods.lookUp(value, text.string) == nil {
                return Undefined.member(value, attribute)
            }
            return try interpreter.attribute(value, text.string)
        case "tojson": return try tojson(value, arguments, interpreter)
        case "filesizeformat": return try fileSize(value, arguments)
        case "pprint": return .text(PythonRepr.repr(value))
        default:
            throw TemplateError("NotSupportedError", "the filter '\(name)' is not supported")
        }
    }

    private static func int(_ value: Value, _ arguments: Arguments) throws -> Value {
        let values = try arguments.bind("do_int", ["default", "base"])
        let base = values[1]?.index ?? 10
        let value = try value.defined()
        if let whole = try? PythonConvert.int(value, base: base) { return whole }
        if let number = try? PythonConvert.float(value),
            let whole = try? PythonConvert.int(.float(number))
        {
            return whole
        }
        return values[0] ?? .int(0)
    }

    private static func round(_ value: Value, _ arguments: Arguments) throws -> Value {
        let values = try arguments.bind("do_round", ["precision", "method"])
        let precision = values[0]?.index ?? 0
        let method = values[1].map { String(decoding: PythonRepr.string($0), as: UTF8.self) }
        if let method, method != "common" { _ = try value.defined() }
        if case .bool(let flag) = value {
            return try round(.int(flag ? 1 : 0), arguments)
        }
        guard let number = PythonNumber.double(value) else {
            throw TemplateError(
                "TypeError", "type \(value.typeName) doesn't define __round__ method")
        }
        guard abs(precision) <= 300 else {
            throw TemplateError("LimitError", "round: a precision beyond 300")
        }
        let scale = PythonMath.power(10, Double(precision))
        switch method ?? "common" {
        case "ceil": return .float((number * scale).rounded(.up) / scale)
        case "floor": return .float((number * scale).rounded(.down) / scale)
        case "common":
            if case .float = value {
                guard precision >= 0 else {
                    return .float((number * scale).rounded(.toNearestOrEven) / scale)
                }
                // Correct to the last digit, as Python: by the decimal text.
                let text = PythonMath.formatted(number, UInt8(ascii: "f"), precision: precision)
                return .float(Double(text) ?? number)
            }
            if precision >= 0 { return value }
            return .int(Int((number * scale).rounded(.toNearestOrEven) / scale))
        default:
            throw TemplateError("FilterArgumentError", "method must be common, ceil or floor")
        }
    }

    private static func tojson(
        _ value: Value, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value {
        let values = try arguments.bind(
            "tojson", ["ensure_ascii", "indent", "separators", "sort_keys"])
        var dump = JSONDump()
        dump.ensuresASCII = values[0]?.isTrue ?? false
        switch values[1] {
        case nil, .some(.none): break
        case .string(let text): dump.indent = text.bytes
        case let indent?:
            guard let count = indent.index, count <= 1000 else {
                throw TemplateError("TypeError", "tojson: indent is not a number up to 1000")
            }
            dump.indent = [UInt8](repeating: 0x20, count: max(count, 0))
        }
        if dump.indent != nil { dump.itemSeparator = Array(",".utf8) }
        if let separators = values[2], !isNone(separators) {
            let parts = try interpreter.meter.items(separators)
            guard parts.count == 2, case .string(let item) = parts[0],
                case .string(let key) = parts[1]
            else { throw TemplateError("TypeError", "tojson: separators are not two strings") }
            dump.itemSeparator = item.bytes
            dump.keySeparator = key.bytes
        }
        dump.sortsKeys = values[3]?.isTrue ?? false
        let extent = try interpreter.meter.walk(value)
        let separators = dump.itemSeparator.count + dump.keySeparator.count
        try interpreter.meter.room(
            extent.values, times: extent.depth * (dump.indent?.count ?? 0) + separators)
        return .text(try dump.dump(value))
    }

    static func isNone(_ value: Value) -> Bool { if case .none = value { true } else { false } }

    private static func fileSize(_ value: Value, _ arguments: Arguments) throws -> Value {
        let isBinary = try arguments.bind("do_filesizeformat", ["binary"])[0]?.isTrue ?? false
        let bytes = try PythonConvert.float(try value.defined())
        let base: Double = isBinary ? 1024 : 1000
        if bytes == 1 { return .text("1 Byte") }
        if bytes < base { return .text("\(Int(bytes)) Bytes") }
        let prefixes = ["k", "M", "G", "T", "P", "E", "Z", "Y"]
        for (index, prefix) in prefixes.enumerated() {
            let unit = PythonMath.power(base, Double(index + 2))
            if bytes < unit || index == prefixes.count - 1 {
                let number = PythonMath.formatted(
                    base * bytes / unit, UInt8(ascii: "f"), precision: 1)
                let name = isBinary ? "\(prefix.uppercased())iB" : "\(prefix)B"
                return .text("\(number) \(name)")
            }
        }
        return .text("")
    }
}
