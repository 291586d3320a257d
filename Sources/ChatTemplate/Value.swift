/// A value of the template language, with Python's meaning.
enum Value {
    case undefined(Undefined)
    case none
    case bool(Bool)
    case int(Int)
    case big(BigInteger)
    case float(Double)
    case string(Text)
    case bytes([UInt8])
    case list(ValueItems)
    case tuple(ValueItems)
    case dictionary(PythonDict)
    case view(DictionaryView, PythonDict)
    case range(start: Int, stop: Int, step: Int)
    case generator(Generator)
    case namespace(Namespace)
    case loop(LoopState)
    case callable(Callable)

    static func text(_ bytes: some Sequence<UInt8>) -> Value { .string(Text(Array(bytes))) }
    static func text(_ string: String) -> Value { .string(Text(string)) }
}

enum DictionaryView: String { case keys, values, items }

/// What Jinja gives for something that is not there; using it raises its error.
final class Undefined {
    let error: TemplateError

    init(_ message: String, type: String = "UndefinedError") {
        error = TemplateError(type, message)
    }

    static func name(_ name: String) -> Value { .undefined(Undefined("'\(name)' is undefined")) }

    /// An object without the attribute or item.
    static func member(_ object: Value, _ name: Value) -> Value {
        guard case .string(let text) = name else {
            return .undefined(
                Undefined("\(object.objectName) has no element \(PythonRepr.repr(name))"))
        }
        return .undefined(Undefined("'\(object.objectName)' has no attribute '\(text.string)'"))
    }
}

/// What a generator will give; like Python's it can be run through once.
final class Generator {
    private var items: ValueItems
    init(_ items: [Value]) { self.items = ValueItems(items) }

    var depth: Int { items.depth }
    var waiting: [Value] { items.array }

    func take() -> [Value] {
        defer { items = [] }
        return items.array
    }
}

/// `namespace(…)`: the only thing a template can change from inside of a loop.
final class Namespace {
    var attributes: [(name: Text, value: Value)] = []

    subscript(name: Text) -> Value? {
        get { attributes.first { $0.name == name }?.value }
        set {
            guard let newValue else { return }
            if let index = attributes.firstIndex(where: { $0.name == name }) {
                attributes[index].value = newValue
            } else {
                attributes.append((name, newValue))
            }
        }
    }
}

/// A Python dict: ordered, and constant once made (the sandbox allows no changes).
final class PythonDict {
    private(set) var entries: [(key: Value, value: Value)] = []
    private var index: [DictionaryKey: Int] = [:]
    /// How deep values nest in it, 1 if they hold none.
    private(set) var depth = 1

    init() {}

    init(_ members: [(key: Text, value: Value)]) {
        entries.reserveCapacity(members.count)
        for (key, value) in members { set(DictionaryKey.text(key), .string(key), value) }
    }

    init(_ other: PythonDict) {
        entries = other.entries
        index = other.index
        depth = other.depth
    }

    var count: Int { entries.count }
    subscript(key: Text) -> Value? { index[.text(key)].map { entries[$0].value } }
    subscript(key: DictionaryKey) -> Value? { index[key].map { entries[$0].value } }

    /// Of equal keys (1, 1.0 and True are) the first one stays, with the last value.
    func set(_ hashed: DictionaryKey, _ key: Value, _ value: Value) {
        depth = max(depth, 1 + max(key.depth, value.depth))
        if let found = index[hashed] {
            entries[found].value = value
        } else {
            index[hashed] = entries.count
            entries.append((key, value))
        }
    }
}

/// A dict's key, equal where Python's keys are.
indirect enum DictionaryKey: Hashable {
    case undefined
    case none
    case number(Double)
    case big(BigInteger)
    case text(Text)
    case tuple([DictionaryKey])

    /// Nil for values that Python cannot hash.
    init?(_ value: Value) {
        switch value {
        case .undefined: self = .undefined
        case .none: self = .none
        case .bool(let flag): self = .number(flag ? 1 : 0)
        case .int(let number):
            self =
                Int(exactly: Double(number)) == number
                ? .number(Double(number)) : .big(BigInteger(number))
        case .big(let number): self = .big(number)
        case .float(let number): self = .number(number)
        case .string(let text): self = .text(text)
        case .tuple(let items):
            var keys: [DictionaryKey] = []
            for item in items {
                guard let key = DictionaryKey(item) else { return nil }
                keys.append(key)
            }
            self = .tuple(keys)
        default: return nil
        }
    }
}

/// Something that can be called: a function, a bound method, a macro.
final class Callable {
    let name: String
    let typeName: String
    /// Attributes that a template may read (`macro.name`).
    let attributes: [String: Value]
    /// How deep values nest in what it holds.
    let depth: Int
    let body: (Interpreter, Arguments) throws -> Value

    init(
        _ name: String, typeName: String = "function", attributes: [String: Value] = [:],
        depth: Int = 0, _ body: @escaping (Interpreter, Arguments) throws -> Value
    ) {
        self.name = name
        self.typeName = typeName
        self.attributes = attributes
        self.depth = depth
        self.body = body
    }

    /// Whether it prints, compares or hashes what it is given, right away.
    var looksIntoArguments: Bool { !["Macro", "type", "TemplateDict"].contains(typeName) }
}

/// What a call is given.
struct Arguments {
    var positional: [Value] = []
    var keyword: [(name: String, value: Value)] = []

    /// The values of named parameters, nil where not given.
    ///
    /// - Throws: `TypeError` for too many, doubled, unknown or missing arguments.
    func bind(
        _ function: String, _ parameters: [String], required: Int = 0
    ) throws -> [Value?] {
        guard positional.count <= parameters.count else {
            throw TemplateError(
                "TypeError",
                "\(function)() takes at most \(parameters.count) arguments "
                    + "(\(positional.count) given)")
        }
        var values: [Value?] = positional
        values += [Value?](repeating: nil, count: parameters.count - positional.count)
        for (name, value) in keyword {
            guard let place = parameters.firstIndex(of: name) else {
                throw TemplateError(
                    "TypeError", "\(function)() got an unexpected keyword argument '\(name)'")
            }
            guard values[place] == nil else {
                throw TemplateError(
                    "TypeError", "\(function)() got multiple values for argument '\(name)'")
            }
            values[place] = value
        }
        for place in 0..<required where values[place] == nil {
            throw TemplateError(
                "TypeError",
                "\(function)() missing required argument: '\(parameters[place])'")
        }
        return values
    }
}

extension Value {
    /// Python's name of the type, as it stands in messages.
    var typeName: String {
        switch self {
        case .undefined: "Undefined"
        case .none: "NoneType"
        case .bool: "bool"
        case .int, .big: "int"
        case .float: "float"
        case .string(let text): text.isSafe ? "Markup" : "str"
        case .bytes: "bytes"
        case .list: "list"
        case .tuple: "tuple"
        case .dictionary: "dict"
        case .view(let kind, _): "dict_\(kind.rawValue)"
        case .range: "range"
        case .generator: "generator"
        case .namespace: "Namespace"
        case .loop: "LoopContext"
        case .callable(let callable): callable.typeName
        }
    }

    /// How Jinja names the object of a failed look-up.
    var objectName: String {
        switch self {
        case .none: "None"
        case .namespace: "jinja2.utils.Namespace object"
        default: "\(typeName) object"
        }
    }

    var isNamespace: Bool { if case .namespace = self { true } else { false } }
    var isUndefined: Bool { if case .undefined = self { true } else { false } }

    /// Python's truth.
    var isTrue: Bool {
        switch self {
        case .undefined, .none: false
        case .bool(let flag): flag
        case .int(let number): number != 0
        case .big: true
        case .float(let number): number != 0
        case .string(let text): !text.bytes.isEmpty
        case .bytes(let bytes): !bytes.isEmpty
        case .list(let items), .tuple(let items): !items.isEmpty
        case .dictionary(let dictionary), .view(_, let dictionary): dictionary.count > 0
        case .range(let start, let stop, let step):
            PythonRange.count(start, stop, step) > 0
        case .generator, .namespace, .loop, .callable: true
        }
    }

    /// `len(…)`, nil where Python has none.
    var length: Int? {
        switch self {
        case .undefined: 0
        case .string(let text): text.count
        case .bytes(let bytes): bytes.count
        case .list(let items), .tuple(let items): items.count
        case .dictionary(let dictionary), .view(_, let dictionary): dictionary.count
        case .range(let start, let stop, let step): PythonRange.count(start, stop, step)
        default: nil
        }
    }

    /// What a loop runs over.
    ///
    /// - Throws: `TypeError` for what cannot be iterated.
    func iterated() throws -> [Value] {
        switch self {
        case .undefined: return []
        case .list(let items), .tuple(let items): return items.array
        case .string(let text):
            return text.scalars.map { .string(Text(scalars: [$0])) }
        case .bytes(let bytes): return bytes.map { .int(Int($0)) }
        case .dictionary(let dictionary): return dictionary.entries.map(\.key)
        case .view(let kind, let dictionary):
            switch kind {
            case .keys: return dictionary.entries.map(\.key)
            case .values: return dictionary.entries.map(\.value)
            case .items: return dictionary.entries.map { .tuple([$0.key, $0.value]) }
            }
        case .range(let start, let stop, let step):
            let count = PythonRange.count(start, stop, step)
            return (0..<count).map { .int(start + $0 * step) }
        case .generator(let generator): return generator.take()
        case .loop(let loop): return try loop.rest()
        default: throw TemplateError("TypeError", "'\(typeName)' object is not iterable")
        }
    }

    /// An integer in Python's sense (bool included), nil otherwise.
    var index: Int? {
        switch self {
        case .int(let number): number
        case .bool(let flag): flag ? 1 : 0
        default: nil
        }
    }

    /// - Throws: `UndefinedError` (or what the value stands for) if it is undefined.
    func defined() throws -> Value {
        if case .undefined(let undefined) = self { throw undefined.error }
        return self
    }
}

enum PythonRange {
    static func count(_ start: Int, _ stop: Int, _ step: Int) -> Int {
        if step > 0 { return start >= stop ? 0 : (stop - start - 1) / step + 1 }
        return start <= stop ? 0 : (start - stop - 1) / -step + 1
    }

    /// The indices that a Python slice picks out of `count` elements.
    static func indices(
        _ count: Int, _ start: Int?, _ stop: Int?, _ step: Int
    ) -> StrideTo<Int> {
        func clamp(_ value: Int, _ low: Int, _ high: Int) -> Int {
            let shifted = value < 0 ? value.addingReportingOverflow(count).partialValue : value
            return min(max(shifted, low), high)
        }
        if step > 0 {
            return stride(
                from: start.map { clamp($0, 0, count) } ?? 0,
                to: stop.map { clamp($0, 0, count) } ?? count, by: step)
        }
        return stride(
            from: start.map { clamp($0, -1, count - 1) } ?? count - 1,
            to: stop.map { clamp($0, -1, count - 1) } ?? -1, by: step)
    }
}
