/// Filters over sequences and mappings.
enum SequenceFilters {
    /// Nil for names that are not of this kind.
    static func apply(
        _ name: String, _ value: Value, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value? {
        func noArguments() throws { _ = try arguments.bind("do_\(name)", []) }
        switch name {
        case "length", "count":
            try noArguments()
            if case .string(let text) = value {
                try interpreter.meter.read(bytes: text.bytes.count)
            }
            guard let length = value.length else {
                throw TemplateError(
                    "TypeError", "object of type '\(value.typeName)' has no len()")
            }
            return .int(length)
        case "list":
            try noArguments()
            return .list(ValueItems(try interpreter.meter.items(value)))
        case "first":
            try noArguments()
            return try interpreter.meter.items(value).first
                ?? .undefined(Undefined("No first item, sequence was empty."))
        case "last":
            try noArguments()
            if case .generator = value {
                throw TemplateError("TypeError", "'generator' object is not reversible")
            }
            return try interpreter.meter.items(value).last
                ?? .undefined(Undefined("No last item, sequence was empty."))
        case "items":
            try noArguments()
            if value.isUndefined { return .generator(Generator([])) }
            guard case .dictionary(let dictionary) = value else {
                throw TemplateError("TypeError", "Can only get item pairs from a mapping.")
            }
            return .generator(
                Generator(dictionary.entries.map { .tuple([$0.key, $0.value]) }))
        case "reverse":
            try noArguments()
            if case .string(let text) = value {
                return .string(Text(scalars: text.scalars.reversed()))
            }
            if value.length == nil, value.depth == 0 {
                throw TemplateError("FilterArgumentError", "argument must be iterable")
            }
            return .generator(Generator(try interpreter.meter.items(value).reversed()))
        case "join": return try join(value, arguments, interpreter)
        case "map": return try map(value, arguments, interpreter)
        case "select", "reject", "selectattr", "rejectattr":
            return try select(name, value, arguments, interpreter)
        case "sort":
            let values = try arguments.bind("do_sort", ["reverse", "case_sensitive", "attribute"])
            let keys = AttributeKeys(
                values[2], ignoresCase: !(values[1]?.isTrue ?? false), interpreter)
            return .list(
                ValueItems(
                    try sorted(
                        try interpreter.meter.items(value), reverse: values[0]?.isTrue ?? false
                    ) { try keys.key($0) }))
        case "dictsort": return try dictsort(value, arguments)
        case "unique":
            let values = try arguments.bind("do_unique", ["case_sensitive", "attribute"])
            let keys = AttributeKeys(
                values[1], ignoresCase: !(values[0]?.isTrue ?? false), interpreter)
            var seen: Set<DictionaryKey> = []
            var result: [Value] = []
            for item in try interpreter.meter.items(value) {
                let key = try keys.single(item)
                if seen.insert(try interpreter.hashed(key)).inserted { result.append(item) }
            }
            return .generator(Generator(result))
        case "min", "max":
            let values = try arguments.bind("do_\(name)", ["case_sensitive", "attribute"])
            let keys = AttributeKeys(
                values[1], ignoresCase: !(values[0]?.isTrue ?? false), interpreter)
            return try extreme(try interpreter.meter.items(value), isMaximum: name == "max", keys)
        case "sum":
            let values = try arguments.bind("do_sum", ["attribute", "start"])
            let keys = AttributeKeys(values[0], ignoresCase: false, interpreter)
            return try interpreter.meter.items(value).reduce(values[1] ?? .int(0)) {
                try interpreter.binary(.add, $0, try keys.single($1))
            }
        case "batch": return try batch(value, arguments, interpreter)
        case "slice": return try slice(value, arguments, interpreter)
        case "groupby": return try groupby(value, arguments, interpreter)
        default: return nil
        }
    }

    private static func join(
        _ value: Value, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value {
        let values = try arguments.bind("do_join", ["d", "attribute"])
        let separator = values[0].map(PythonRepr.string) ?? []
        let keys = AttributeKeys(values[1], ignoresCase: false, interpreter)
        var result: [UInt8] = []
        for (index, item) in try interpreter.meter.items(value).enumerated() {
            if index > 0 { result += separator }
            let part = try keys.single(item)
            let shown = try interpreter.outputBytes(part)
            try interpreter.meter.room(result.count + separator.count + shown.count)
            result += shown
        }
        return .text(result)
    }

    private static func map(
        _ value: Value, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value {
        guard value.isTrue else { return .generator(Generator([])) }
        let transform: (Value) throws -> Value
        if arguments.positional.isEmpty,
            let attribute = arguments.keyword.first(where: { $0.name == "attribute" })?.value
        {
            let fallback = arguments.keyword.first { $0.name == "default" }?.value
            if let other = arguments.keyword.first(where: {
                $0.name != "attribute" && $0.name != "default"
            }) {
                throw TemplateError(
                    "FilterArgumentError", "Unexpected keyword argument '\(other.name)'")
            }
            let keys = AttributeKeys(attribute, ignoresCase: false, interpreter, fallback: fallback)
            transform = { try keys.single($0) }
        } else {
            guard case .string(let filter) = arguments.positional.first else {
                throw TemplateError(
                    "FilterArgumentError", "map requires a filter argument")
            }
            guard Filters.names.contains(filter.string) else {
                throw TemplateError(
                    "TemplateRuntimeError", "No filter named '\(filter.string)'.")
            }
            let rest = Arguments(
                positional: Array(arguments.positional.dropFirst()), keyword: arguments.keyword)
            transform = { try Filters.apply(filter.string, $0, rest, interpreter) }
        }
        return .generator(Generator(try interpreter.meter.items(value).map(transform)))
    }

    private static func select(
        _ name: String, _ value: Value, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value {
        guard value.isTrue else { return .generator(Generator([])) }
        var positional = arguments.positional[...]
        var keys: AttributeKeys?
        if name.hasSuffix("attr") {
            guard let attribute = positional.popFirst() else {
                throw TemplateError(
                    "FilterArgumentError", "Missing parameter for attribute name")
            }
            keys = AttributeKeys(attribute, ignoresCase: false, interpreter)
        }
        var test: ((Value) throws -> Bool)?
        if let testName = positional.popFirst() {
            guard case .string(let text) = testName, ValueTests.names.contains(text.string) else {
                throw TemplateError(
                    "TemplateRuntimeError", "No test named \(PythonRepr.repr(testName)).")
            }
            let rest = Arguments(positional: Array(positional), keyword: arguments.keyword)
            test = { try ValueTests.apply(text.string, $0, rest, interpreter) }
        }
        let wanted = name.hasPrefix("select")
        let items = try interpreter.meter.items(value).filter { item in
            let tested = try keys?.single(item) ?? item
            return try (test?(tested) ?? tested.isTrue) == wanted
        }
        return .generator(Generator(items))
    }

    /// Stable, also when reversed (equal items keep their order), as Python's `sorted`.
    private static func sorted(
        _ items: [Value], reverse: Bool, key: (Value) throws -> Value
    ) throws -> [Value] {
        let keyed = try items.enumerated().map { (place: $0.offset, key: try key($0.element)) }
        return try keyed.sorted { left, right in
            let (first, second) = reverse ? (right, left) : (left, right)
            if try PythonCompare.less(first.key, second.key) { return true }
            if try PythonCompare.less(second.key, first.key) { return false }
            return left.place < right.place
        }.map { items[$0.place] }
    }

    private static func dictsort(_ value: Value, _ arguments: Arguments) throws -> Value {
        let values = try arguments.bind("do_dictsort", ["case_sensitive", "by", "reverse"])
        guard case .dictionary(let dictionary) = try value.defined() else {
            throw TemplateError(
                "AttributeError", "'\(value.typeName)' object has no attribute 'items'")
        }
        let by = values[1].map(PythonRepr.string) ?? Array("key".utf8)
        guard by == Array("key".utf8) || by == Array("value".utf8) else {
            throw TemplateError(
                "FilterArgumentError", "You can only sort by either \"key\" or \"value\"")
        }
        let ignoresCase = !(values[0]?.isTrue ?? false)
        let pairs = dictionary.entries.map { Value.tuple([$0.key, $0.value]) }
        return .list(
            ValueItems(
                try sorted(pairs, reverse: values[2]?.isTrue ?? false) { pair in
                    guard case .tuple(let members) = pair else { return pair }
                    let member = by == Array("key".utf8) ? members[0] : members[1]
                    return ignoresCase ? AttributeKeys.lowercased(member) : member
                }))
    }

    private static func extreme(
        _ items: [Value], isMaximum: Bool, _ keys: AttributeKeys
    ) throws -> Value {
        guard var best = items.first else {
            return .undefined(Undefined("No aggregated item, sequence was empty."))
        }
        var bestKey = try keys.single(best)
        for item in items.dropFirst() {
            let key = try keys.single(item)
            let isBetter =
                isMaximum
                ? try PythonCompare.less(bestKey, key) : try PythonCompare.less(key, bestKey)
            if isBetter { (best, bestKey) = (item, key) }
        }
        return best
    }

    private static func batch(
        _ value: Value, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value {
        let values = try arguments.bind("do_batch", ["linecount", "fill_with"], required: 1)
        guard let count = values[0]?.index, count > 0, count <= 1_000_000 else {
            throw TemplateError("ValueError", "batch: the number of items is not positive")
        }
        var result: [Value] = []
        var row: [Value] = []
        for item in try interpreter.meter.items(value) {
            if row.count == count {
                result.append(.list(ValueItems(row)))
                row = []
            }
            row.append(item)
        }
        if !row.isEmpty {
            if let fill = values[1], !Filters.isNone(fill) {
                try interpreter.account((count - row.count) * 32)
                row += [Value](repeating: fill, count: count - row.count)
            }
            result.append(.list(ValueItems(row)))
        }
        return .generator(Generator(result))
    }

    private static func slice(
        _ value: Value, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value {
        let values = try arguments.bind("do_slice", ["slices", "fill_with"], required: 1)
        guard let slices = values[0]?.index, slices > 0, slices <= 1_000_000 else {
            throw TemplateError("ZeroDivisionError", "slice: the number of slices is not positive")
        }
        let items = try interpreter.meter.items(value)
        try interpreter.account(slices * 64)
        let (size, extra) = items.count.quotientAndRemainder(dividingBy: slices)
        var result: [Value] = []
        var start = 0
        for slice in 0..<slices {
            let end = start + size + (slice < extra ? 1 : 0)
            var part = Array(items[start..<end])
            if slice >= extra, let fill = values[1], !Filters.isNone(fill) { part.append(fill) }
            result.append(.list(ValueItems(part)))
            start = end
        }
        return .generator(Generator(result))
    }

    private static func groupby(
        _ value: Value, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value {
        let values = try arguments.bind(
            "do_groupby", ["attribute", "default", "case_sensitive"], required: 1)
        let ignoresCase = !(values[2]?.isTrue ?? false)
        let keys = AttributeKeys(
            values[0], ignoresCase: ignoresCase, interpreter, fallback: values[1])
        let plain = AttributeKeys(values[0], ignoresCase: false, interpreter, fallback: values[1])
        let items = try sorted(try interpreter.meter.items(value), reverse: false) {
            try keys.single($0)
        }
        var groups: [(key: Value, items: [Value])] = []
        for item in items {
            let key = try keys.single(item)
            if let last = groups.last, PythonCompare.equal(last.key, key) {
                groups[groups.count - 1].items.append(item)
            } else {
                groups.append((key, [item]))
            }
        }
        return .list(
            ValueItems(
                try groups.map { group in
                    let grouper = ignoresCase ? try plain.single(group.items[0]) : group.key
                    return .tuple([grouper, .list(ValueItems(group.items))])
                }))
    }
}

/// Jinja's `make_attrgetter`: a dotted path of attributes or indices.
struct AttributeKeys {
    private let paths: [[Value]]
    private let ignoresCase: Bool
    private let fallback: Value?
    private let interpreter: Interpreter

    init(
        _ attribute: Value?, ignoresCase: Bool, _ interpreter: Interpreter, fallback: Value? = nil
    ) {
        self.ignoresCase = ignoresCase
        self.interpreter = interpreter
        self.fallback = fallback.flatMap { Filters.isNone($0) ? nil : $0 }
        switch attribute {
        case .string(let text):
            paths = PythonText.split(text.bytes, by: [UInt8(ascii: ",")]).map { path in
                PythonText.split(Array(path), by: [UInt8(ascii: ".")]).map { part in
                    let name = String(decoding: part, as: UTF8.self)
                    let isIndex = !name.isEmpty && name.utf8.allSatisfy { $0 >= 48 && $0 <= 57 }
                    return isIndex ? Int(name).map(Value.int) ?? .text(name) : .text(name)
                }
            }
        case nil, .some(.none): paths = [[]]
        case let index?: paths = [[index]]
        }
    }

    func single(_ item: Value) throws -> Value { try follow(paths.first ?? [], item) }

    /// A list of keys, one for each comma-separated path, as sorting takes it.
    func key(_ item: Value) throws -> Value {
        .list(ValueItems(try paths.map { try follow($0, item) }))
    }

    private func follow(_ path: [Value], _ item: Value) throws -> Value {
        var value = item
        for part in path {
            try interpreter.meter.step()
            value = try interpreter.item(value, part)
            if value.isUndefined, let fallback { value = fallback }
        }
        return ignoresCase ? Self.lowercased(value) : value
    }

    static func lowercased(_ value: Value) -> Value {
        guard case .string(let text) = value else { return value }
        return .text(PythonText.lowercased(text.bytes))
    }
}
