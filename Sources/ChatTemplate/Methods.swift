/// The methods and attributes of Python's types that a template may use.
enum Methods {
    /// Internals that every object has; the sandbox lets none of them through.
    static let commonInternals: Set<String> = [
        "__class__", "__init__", "__dict__", "__doc__", "__module__", "__subclasshook__",
        "__reduce__", "__reduce_ex__", "__new__", "__getattribute__", "__setattr__", "__delattr__",
        "__dir__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__",
        "__repr__", "__str__", "__format__", "__sizeof__", "__init_subclass__",
    ]

    static func isMutating(_ object: Value, _ name: String) -> Bool {
        switch object {
        case .list:
            ["append", "extend", "insert", "pop", "remove", "reverse", "sort", "clear"]
                .contains(name)
        case .dictionary:
            ["clear", "pop", "popitem", "setdefault", "update"].contains(name)
        default: false
        }
    }

    /// Nil if the type has no such attribute.
    static func lookUp(_ object: Value, _ name: String) -> Value? {
        let names: Set<String>
        switch object {
        case .string: names = TextMethods.names
        case .dictionary: names = ["items", "keys", "values", "get", "copy", "fromkeys"]
        case .list: names = ["index", "count", "copy"]
        case .tuple(let items):
            // The named tuples of `groupby`.
            if items.count == 2, name == "grouper" { return items[0] }
            if items.count == 2, name == "list" { return items[1] }
            names = ["index", "count"]
        case .range(let start, let stop, let step):
            if let value = ["start": start, "stop": stop, "step": step][name] {
                return .int(value)
            }
            names = ["index", "count"]
        case .int, .bool, .big, .float:
            if name == "real" || name == "numerator" { return object }
            if name == "imag" { return .int(0) }
            if name == "denominator" { return .int(1) }
            names = ["bit_length", "is_integer", "conjugate"]
        case .bytes: names = ["decode"]
        default: return nil
        }
        guard names.contains(name) else { return nil }
        return .callable(
            Callable(
                name, typeName: "builtin_function_or_method", depth: object.depth + 1
            ) { interpreter, arguments in
                if case .string(let text) = object {
                    try interpreter.meter.read(bytes: text.bytes.count)
                    try interpreter.meter.room(text.bytes.count)
                }
                let result = try call(object, name, arguments, interpreter)
                if case .string(let text) = result { try interpreter.account(text.bytes.count) }
                return result
            })
    }

    private static func call(
        _ object: Value, _ name: String, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value {
        switch object {
        case .string(let text):
            return try TextMethods.call(text, name, arguments, interpreter)
        case .dictionary(let dictionary):
            return try call(dictionary, name, arguments, interpreter)
        case .bytes(let bytes): return .text(Array(String(decoding: bytes, as: UTF8.self).utf8))
        case .list, .tuple, .range: return try callSequence(object, name, arguments, interpreter)
        default: return try callNumber(object, name)
        }
    }

    private static func call(
        _ dictionary: PythonDict, _ name: String, _ arguments: Arguments,
        _ interpreter: Interpreter
    ) throws -> Value {
        switch name {
        case "get":
            guard arguments.keyword.isEmpty else {
                throw TemplateError("TypeError", "dict.get() takes no keyword arguments")
            }
            let values = try arguments.bind("get", ["key", "default"], required: 1)
            return dictionary[try interpreter.hashed(values[0] ?? .none)] ?? values[1] ?? .none
        case "fromkeys":
            let values = try arguments.bind("fromkeys", ["iterable", "value"], required: 1)
            let result = PythonDict()
            for key in try interpreter.meter.items(values[0] ?? .none) {
                result.set(try interpreter.hashed(key), key, values[1] ?? .none)
            }
            return .dictionary(result)
        default:
            _ = try arguments.bind(name, [])
            if let view = DictionaryView(rawValue: name) { return .view(view, dictionary) }
            return .dictionary(PythonDict(dictionary))
        }
    }

    private static func callSequence(
        _ object: Value, _ name: String, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value {
        if let wanted = arguments.positional.first {
            try interpreter.countComparison(.in, wanted, object)
        }
        let items = try interpreter.meter.items(object)
        switch name {
        case "index":
            let wanted = try arguments.bind(name, ["value"], required: 1)[0] ?? .none
            guard let place = items.firstIndex(where: { PythonCompare.equal($0, wanted) }) else {
                throw TemplateError(
                    "ValueError", "\(PythonRepr.repr(wanted)) is not in \(object.typeName)")
            }
            return .int(place)
        case "count":
            let wanted = try arguments.bind(name, ["value"], required: 1)[0] ?? .none
            return .int(items.count { PythonCompare.equal($0, wanted) })
        default:
            _ = try arguments.bind(name, [])
            return .list(ValueItems(items))
        }
    }

    private static func callNumber(_ object: Value, _ name: String) throws -> Value {
        switch (name, object) {
        case ("is_integer", .float(let number)): return .bool(number == number.rounded())
        case ("is_integer", _): return .bool(true)
        case ("bit_length", .int(let number)):
            return .int(Int.bitWidth - Int(number.magnitude.leadingZeroBitCount))
        case ("bit_length", .bool(let flag)): return .int(flag ? 1 : 0)
        case ("conjugate", _): return object
        default:
            throw TemplateError(
                "NotSupportedError", "\(object.typeName).\(name) is not supported")
        }
    }

    // MARK: Shared with filters

    /// `str.strip` and its halves, by white space or by a set of characters.
    static func stripped(
        _ bytes: [UInt8], _ characters: Value?, left: Bool, right: Bool
    ) throws -> ArraySlice<UInt8> {
        let drops: (UInt32) -> Bool
        switch characters {
        case nil, .some(.none): drops = PythonText.isSpace
        case .string(let text):
            let set = Set(text.scalars)
            drops = { set.contains($0) }
        case let other?:
            throw TemplateError(
                "TypeError", "strip arg must be None or str, not \(other.typeName)")
        }
        var rest = bytes[...]
        if left { rest = PythonText.trimmedStart(rest, drops) }
        if right { rest = PythonText.trimmedEnd(rest, drops) }
        return rest
    }

    /// `str.center`: of an odd rest the extra one goes left where Python puts it.
    static func centered(
        _ bytes: [UInt8], _ width: Int, _ fill: [UInt8], _ interpreter: Interpreter
    ) throws -> [UInt8] {
        let missing = width - Text(bytes).count
        guard missing > 0 else { return bytes }
        try interpreter.account(missing * fill.count)
        let left = missing / 2 + (missing & width & 1)
        func fills(_ count: Int) -> [UInt8] {
            Array([[UInt8]](repeating: fill, count: count).joined())
        }
        return fills(left) + bytes + fills(missing - left)
    }

    static func isAlphanumeric(_ scalar: UInt32) -> Bool {
        isAlphabetic(scalar) || isNumeric(scalar)
    }

    static func isAlphabetic(_ scalar: UInt32) -> Bool {
        switch Unicode.Scalar(scalar)?.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
            true
        default: false
        }
    }

    static func isNumeric(_ scalar: UInt32) -> Bool {
        Unicode.Scalar(scalar)?.properties.numericType != nil
    }

    static func isDigit(_ scalar: UInt32) -> Bool {
        switch Unicode.Scalar(scalar)?.properties.numericType {
        case .decimal, .digit: true
        default: false
        }
    }

    /// `str.islower` or `str.isupper`.
    static func isCased(_ text: Text, lower: Bool) -> Bool {
        var found = false
        for scalar in text.scalars {
            guard let properties = Unicode.Scalar(scalar)?.properties else { continue }
            if lower ? properties.isUppercase : properties.isLowercase { return false }
            if properties.generalCategory == .titlecaseLetter { return false }
            if properties.isCased { found = true }
        }
        return found
    }
}
