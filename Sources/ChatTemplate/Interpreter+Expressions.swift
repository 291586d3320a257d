extension Interpreter {
    func evaluate(_ expression: Expression, _ scope: Scope) throws -> Value {
        try nested(expression.offset) {
            let value = try value(of: expression, scope)
            try meter.checkDepth(of: value)
            return value
        }
    }

    private func value(of expression: Expression, _ scope: Scope) throws -> Value {
        switch expression.kind {
        case .constant(let value): return value
        case .name(let name): return scope[name] ?? Undefined.name(name)
        case .blockText: return scope[Self.blockTextName] ?? .text("")
        case .concatenation(let parts):
            var texts: [[UInt8]] = []
            for part in parts {
                let value = try evaluate(part, scope)
                try meter.walk(value)
                texts.append(PythonRepr.string(value))
                try account(texts[texts.count - 1].count)
            }
            return .text(Array(texts.joined()))
        case .unary(let kind, let operand):
            let value = try evaluate(operand, scope).defined()
            guard PythonNumber.isNumber(value), let negated = PythonNumber.negated(value) else {
                throw TemplateError(
                    "TypeError",
                    "bad operand type for unary \(kind == .minus ? "-" : "+"): "
                        + "'\(value.typeName)'")
            }
            if kind == .minus { return negated }
            return PythonNumber.negated(negated) ?? value
        case .binary(let kind, let left, let right):
            return try binary(kind, try evaluate(left, scope), try evaluate(right, scope))
        case .comparison(let first, let parts):
            var left = try evaluate(first, scope)
            for (kind, operand) in parts {
                let right = try evaluate(operand, scope)
                try countComparison(kind, left, right)
                guard try PythonCompare.apply(kind, left, right) else { return .bool(false) }
                left = right
            }
            return .bool(true)
        case .and(let left, let right):
            let value = try evaluate(left, scope)
            return value.isTrue ? try evaluate(right, scope) : value
        case .or(let left, let right):
            let value = try evaluate(left, scope)
            return value.isTrue ? value : try evaluate(right, scope)
        case .not(let operand): return .bool(!(try evaluate(operand, scope).isTrue))
        case .conditional(let test, let then, let otherwise):
            if try evaluate(test, scope).isTrue { return try evaluate(then, scope) }
            guard let otherwise else {
                return .undefined(
                    Undefined(
                        "the inline if-expression evaluated to false and no else section was "
                            + "defined."))
            }
            return try evaluate(otherwise, scope)
        case .list(let items): return .list(ValueItems(try items.map { try evaluate($0, scope) }))
        case .tuple(let items): return .tuple(ValueItems(try items.map { try evaluate($0, scope) }))
        case .dictionary(let items):
            let result = PythonDict()
            for (key, value) in items {
                let key = try evaluate(key, scope)
                result.set(try hashed(key), key, try evaluate(value, scope))
            }
            return .dictionary(result)
        case .attribute(let object, let name):
            return try attribute(try evaluate(object, scope), name)
        case .item(let object, let key):
            return try item(try evaluate(object, scope), try evaluate(key, scope))
        case .slice(let object, let bounds):
            return try slice(try evaluate(object, scope), bounds, scope)
        case .call(let function, let arguments):
            let function = try evaluate(function, scope)
            return try call(function, try evaluate(arguments, scope))
        case .filter(let operand, let name, let arguments):
            let value = try evaluate(operand, scope)
            return try Filters.apply(name, value, try evaluate(arguments, scope), self)
        case .test(let operand, let name, let arguments, let negated):
            let value = try evaluate(operand, scope)
            let holds = try ValueTests.apply(name, value, try evaluate(arguments, scope), self)
            return .bool(holds != negated)
        }
    }

    /// A name that no template can write.
    private static let blockTextName = "<block>"

    /// The filters of a block, applied to its text.
    func evaluateFilter(_ filter: Expression, of text: Value, _ scope: Scope) throws -> Value {
        let inner = Scope(scope)
        inner[Self.blockTextName] = text
        return try evaluate(filter, inner)
    }

    func evaluate(_ arguments: CallArguments, _ scope: Scope) throws -> Arguments {
        var result = Arguments()
        result.positional = try arguments.positional.map { try evaluate($0, scope) }
        for (name, expression) in arguments.keyword {
            result.keyword.append((name, try evaluate(expression, scope)))
        }
        if let spread = arguments.spread {
            result.positional += try meter.items(try evaluate(spread, scope))
        }
        if let spread = arguments.keywordSpread {
            guard case .dictionary(let dictionary) = try evaluate(spread, scope).defined() else {
                throw TemplateError("TypeError", "argument after ** must be a mapping")
            }
            for (key, value) in dictionary.entries {
                guard case .string(let name) = key else {
                    throw TemplateError("TypeError", "keywords must be strings")
                }
                result.keyword.append((name.string, value))
            }
        }
        return result
    }

    /// Counts what a comparison goes through: all of one side, for each item that is searched.
    func countComparison(_ kind: ComparisonOperator, _ left: Value, _ right: Value) throws {
        switch kind {
        case .in, .notIn:
            var extent = try meter.walk(left)
            extent.values += 1
            switch right {
            case .string(let text): try meter.read(bytes: text.bytes.count)
            case .list, .tuple, .view, .range, .generator:
                let (work, overflow) = (right.length ?? 1).multipliedReportingOverflow(
                    by: 8 * extent.values + extent.bytes)
                try meter.read(bytes: overflow ? 1 << 40 : work)
            default: break
            }
        default:
            // Both sides are gone through together, so the end of one ends it.
            if left.depth > 0, right.depth > 0 || right.isNamespace { try meter.walk(left) }
            if case .string(let text) = left { try meter.read(bytes: text.bytes.count) }
        }
    }

    func hashed(_ key: Value) throws -> DictionaryKey {
        if case .tuple = key { try meter.walk(key) }
        guard let hashed = DictionaryKey(key) else {
            throw TemplateError("TypeError", "unhashable type: '\(key.typeName)'")
        }
        return hashed
    }

    // MARK: Operators

    func binary(_ kind: BinaryOperator, _ left: Value, _ right: Value) throws -> Value {
        if case .undefined = left { _ = try left.defined() }
        if kind == .modulo, case .string(let format) = left {
            let text = try percent(format, right)
            return .string(text)
        }
        _ = try right.defined()
        if let number = try PythonNumber.apply(kind, left, right) { return number }
        switch (kind, left, right) {
        case (.add, .string(let a), .string(let b)):
            try account(a.bytes.count + b.bytes.count)
            if a.isSafe || b.isSafe {
                let (x, y) = (HTMLText.escape(left), HTMLText.escape(right))
                return .string(Text(x.bytes + y.bytes, isSafe: true))
            }
            return .text(a.bytes + b.bytes)
        case (.add, .list(let a), .list(let b)):
            try account((a.count + b.count) * 32)
            return .list(a + b)
        case (.add, .tuple(let a), .tuple(let b)):
            try account((a.count + b.count) * 32)
            return .tuple(a + b)
        case (.multiply, _, _):
            if let repeated = try repeated(left, right) ?? repeated(right, left) {
                return repeated
            }
        default: break
        }
        if kind == .add {
            switch left {
            case .string, .list, .tuple:
                throw TemplateError(
                    "TypeError",
                    "can only concatenate \(left.typeName) (not \"\(right.typeName)\") to "
                        + left.typeName)
            default: break
            }
        }
        throw TemplateError(
            "TypeError",
            "unsupported operand type(s) for \(kind.rawValue): '\(left.typeName)' and "
                + "'\(right.typeName)'")
    }

    /// `format % value`; each field might show all of the values.
    func percent(_ format: Text, _ value: Value) throws -> Text {
        let extent = try meter.walk(value)
        let fields = format.bytes.count { $0 == UInt8(ascii: "%") }
        try meter.room(fields, times: extent.bytes + 8 * extent.values)
        try meter.read(bytes: format.bytes.count)
        let text = try PythonFormat.percent(format, value)
        try account(text.bytes.count)
        return text
    }

    /// `str.replace`; the size of the result is checked before it is made.
    func replacing(
        _ text: [UInt8], _ old: [UInt8], by new: [UInt8], limit: Int
    ) throws -> [UInt8] {
        if new.count > old.count {
            let places =
                old.isEmpty
                ? text.count + 1
                : PythonText.occurrences(of: old, in: text[...], limit: limit).count
            try meter.room(min(places, limit), times: new.count - old.count)
        }
        return PythonText.replacing(text, old, by: new, limit: limit)
    }

    private func repeated(_ sequence: Value, _ count: Value) throws -> Value? {
        guard let count = count.index.map({ max($0, 0) }) else { return nil }
        func check(_ size: Int) throws {
            let (total, overflow) = size.multipliedReportingOverflow(by: count)
            try account(overflow ? .max : total)
        }
        switch sequence {
        case .string(let text):
            try check(text.bytes.count)
            return .text([[UInt8]](repeating: text.bytes, count: count).joined())
        case .list(let items):
            try check(items.count * 32)
            return .list(ValueItems(Array(repeatElement(items, count: count).joined())))
        case .tuple(let items):
            try check(items.count * 32)
            return .tuple(ValueItems(Array(repeatElement(items, count: count).joined())))
        default: return nil
        }
    }

    // MARK: Access

    /// `object.name`: the attribute first, then the key.
    func attribute(_ object: Value, _ name: String) throws -> Value {
        if object.isUndefined, Methods.commonInternals.contains(name) {
            return unsafe(object, name)
        }
        _ = try object.defined()
        if let found = try ownAttribute(object, name) { return found }
        if case .dictionary(let dictionary) = object, let value = dictionary[Text(name)] {
            return value
        }
        return Undefined.member(object, .text(name))
    }

    /// `object[key]`: the key first, then the attribute.
    func item(_ object: Value, _ key: Value) throws -> Value {
        _ = try object.defined()
        if case .dictionary(let dictionary) = object {
            if case .tuple = key { try meter.walk(key) }
            if let hashed = DictionaryKey(key), let value = dictionary[hashed] { return value }
        } else if let index = key.index, let value = try element(object, index) {
            return value
        }
        if case .string(let name) = key, let found = try ownAttribute(object, name.string) {
            return found
        }
        if key.depth > 0 { try meter.walk(key) }
        return Undefined.member(object, key)
    }

    private func element(_ object: Value, _ index: Int) throws -> Value? {
        func place(_ count: Int) -> Int? {
            let place = index < 0 ? index + count : index
            return place >= 0 && place < count ? place : nil
        }
        switch object {
        case .list(let items), .tuple(let items): return place(items.count).map { items[$0] }
        case .string(let text):
            try meter.read(bytes: text.bytes.count)
            if text.isASCII {
                return place(text.bytes.count).map { .text([text.bytes[$0]]) }
            }
            let scalars = text.scalars
            return place(scalars.count).map { .string(Text(scalars: [scalars[$0]])) }
        case .bytes(let bytes): return place(bytes.count).map { .int(Int(bytes[$0])) }
        case .range(let start, let stop, let step):
            return place(PythonRange.count(start, stop, step)).map { .int(start + $0 * step) }
        default: return nil
        }
    }

    /// An attribute or method; a mark that raises `SecurityError` for what the sandbox refuses.
    private func ownAttribute(_ object: Value, _ name: String) throws -> Value? {
        if name.hasPrefix("__"), name.hasSuffix("__"), Methods.commonInternals.contains(name) {
            return unsafe(object, name)
        }
        switch object {
        case .namespace(let namespace): return namespace[Text(name)]
        case .loop(let loop): return try loop.attribute(name)
        case .callable(let callable): return callable.attributes[name]
        default:
            if Methods.isMutating(object, name) { return unsafe(object, name) }
            return Methods.lookUp(object, name)
        }
    }

    private func unsafe(_ object: Value, _ name: String) -> Value {
        .undefined(
            Undefined(
                "access to attribute '\(name)' of '\(object.typeName)' object is unsafe.",
                type: "SecurityError"))
    }

    private func slice(_ object: Value, _ bounds: SliceBounds, _ scope: Scope) throws -> Value {
        _ = try object.defined()
        func bound(_ expression: Expression?) throws -> Int? {
            guard let expression else { return nil }
            let value = try evaluate(expression, scope).defined()
            if case .none = value { return nil }
            guard let index = value.index else {
                throw TemplateError(
                    "TypeError",
                    "slice indices must be integers or None or have an __index__ method")
            }
            return index
        }
        let (start, stop) = (try bound(bounds.start), try bound(bounds.stop))
        let step = try bound(bounds.step) ?? 1
        guard step != 0 else { throw TemplateError("ValueError", "slice step cannot be zero") }
        guard step != .min else { throw TemplateError("ValueError", "slice step is too small") }
        func pick<Element>(_ items: [Element]) throws -> [Element] {
            try account(items.count * MemoryLayout<Element>.stride)
            return PythonRange.indices(items.count, start, stop, step).map { items[$0] }
        }
        switch object {
        case .list(let items): return .list(ValueItems(try pick(items.array)))
        case .tuple(let items): return .tuple(ValueItems(try pick(items.array)))
        case .string(let text):
            try meter.read(bytes: text.bytes.count)
            if text.isASCII { return .text(try pick(text.bytes)) }
            return .string(Text(scalars: try pick(text.scalars)))
        case .bytes(let bytes): return .bytes(try pick(bytes))
        case .range: return .list(ValueItems(try pick(try meter.items(object))))
        case .dictionary: throw TemplateError("TypeError", "unhashable type: 'slice'")
        default:
            throw TemplateError(
                "TypeError", "'\(object.typeName)' object is not subscriptable")
        }
    }

    // MARK: Calls

    func call(_ function: Value, _ arguments: Arguments) throws -> Value {
        switch function {
        case .undefined(let undefined): throw undefined.error
        case .callable(let callable):
            // What macros do with their arguments is counted when they do it.
            if callable.looksIntoArguments {
                for value in arguments.positional { try meter.walk(value) }
                for (_, value) in arguments.keyword { try meter.walk(value) }
            }
            return try callable.body(self, arguments)
        case .loop(let loop):
            guard let recurse = loop.recurse else {
                throw TemplateError(
                    "TypeError",
                    "The loop must have the 'recursive' marker to be called recursively.")
            }
            let values = try arguments.bind("loop", ["iterable"], required: 1)
            return try recurse(values[0] ?? .none, loop.depth0 + 1)
        default:
            throw TemplateError("TypeError", "'\(function.typeName)' object is not callable")
        }
    }
}
