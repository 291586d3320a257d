/// Filters that make text of text.
enum TextFilters {
    /// Nil for names that are not of this kind.
    static func apply(
        _ name: String, _ value: Value, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value? {
        let isSafe: Bool
        if case .string(let text) = value { isSafe = text.isSafe } else { isSafe = false }
        var bytes: [UInt8] { PythonRepr.string(value) }
        func result(_ bytes: [UInt8]) -> Value {
            .string(Text(bytes, isSafe: isSafe))
        }
        func noArguments() throws { _ = try arguments.bind("do_\(name)", []) }
        switch name {
        case "upper":
            try noArguments()
            return result(PythonText.uppercased(bytes))
        case "lower":
            try noArguments()
            return result(PythonText.lowercased(bytes))
        case "capitalize":
            try noArguments()
            return result(PythonText.capitalized(bytes))
        case "title":
            try noArguments()
            return result(title(bytes))
        case "trim":
            let chars = try arguments.bind("do_trim", ["chars"])[0]
            return result(Array(try Methods.stripped(bytes, chars, left: true, right: true)))
        case "string":
            try noArguments()
            return isSafe ? value : .text(bytes)
        case "replace":
            let values = try arguments.bind("do_replace", ["old", "new", "count"], required: 2)
            let limit = values[2]?.index ?? -1
            return .text(
                try interpreter.replacing(
                    bytes, PythonRepr.string(values[0] ?? .none),
                    by: PythonRepr.string(values[1] ?? .none), limit: limit < 0 ? .max : limit))
        case "center":
            let width = try arguments.bind("do_center", ["width"])[0]?.index ?? 80
            return result(try Methods.centered(bytes, width, [0x20], interpreter))
        case "indent": return try indent(value, arguments, interpreter)
        case "truncate": return try truncate(value, arguments)
        case "wordwrap":
            guard case .string = try value.defined() else {
                throw TemplateError(
                    "AttributeError", "'\(value.typeName)' object has no attribute 'splitlines'")
            }
            return try wordwrap(bytes, arguments, interpreter)
        case "wordcount":
            try noArguments()
            return .int(wordCount(bytes))
        case "format":
            guard arguments.keyword.isEmpty || arguments.positional.isEmpty else {
                throw TemplateError(
                    "FilterArgumentError",
                    "can't handle positional and keyword arguments at the same time")
            }
            let given: Value =
                arguments.keyword.isEmpty
                ? .tuple(ValueItems(arguments.positional))
                : .dictionary(
                    PythonDict(arguments.keyword.map { (key: Text($0.name), value: $0.value) }))
            return .string(try interpreter.percent(Text(bytes), given))
        case "e", "escape":
            try noArguments()
            return .string(HTMLText.escape(value))
        case "forceescape":
            try noArguments()
            return .string(Text(HTMLText.escaped(bytes), isSafe: true))
        case "safe":
            try noArguments()
            return .string(Text(bytes, isSafe: true))
        case "striptags":
            try noArguments()
            return .text(HTMLText.withoutTags(bytes))
        case "urlencode":
            try noArguments()
            return .text(try urlencode(value))
        case "xmlattr": return try attributes(value, arguments)
        default: return nil
        }
    }

    private static func title(_ bytes: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        var word: [UInt8] = []
        func finish() {
            guard !word.isEmpty else { return }
            let length = PythonText.scalar(in: word, at: 0).length
            result += PythonText.uppercased(Array(word[..<length]))
            result += PythonText.lowercased(Array(word[length...]))
            word = []
        }
        for scalar in Text(bytes).scalars {
            let separates =
                PythonText.isSpace(scalar) || "-({[<".unicodeScalars.contains { $0.value == scalar }
            if separates {
                finish()
                PythonText.append(scalar, to: &result)
            } else {
                PythonText.append(scalar, to: &word)
            }
        }
        finish()
        return result
    }

    private static func indent(
        _ value: Value, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value {
        let values = try arguments.bind("do_indent", ["width", "first", "blank"])
        guard case .string(let text) = try value.defined() else {
            // Python's `list += str` goes well.
            if case .list = value {
                throw TemplateError(
                    "AttributeError", "'list' object has no attribute 'splitlines'")
            }
            throw TemplateError(
                "TypeError",
                "unsupported operand type(s) for +=: '\(value.typeName)' and 'str'")
        }
        var indention: [UInt8]
        if case .string(let given) = values[0] {
            indention = given.bytes
        } else {
            let width = values[0]?.index ?? 4
            guard width <= 100_000 else {
                throw TemplateError("LimitError", "indent: a width above 100000")
            }
            indention = [UInt8](repeating: 0x20, count: max(width, 0))
        }
        let lines = PythonText.lines(text.bytes + [0x0A])
        try interpreter.meter.room(lines.count, times: indention.count)
        var result: [UInt8] = values[1]?.isTrue ?? false ? indention : []
        for (index, line) in lines.enumerated() {
            if index > 0 {
                result.append(0x0A)
                if values[2]?.isTrue ?? false || !line.isEmpty { result += indention }
            }
            result += line
        }
        indention = []
        return .string(Text(result, isSafe: text.isSafe))
    }

    private static func truncate(_ value: Value, _ arguments: Arguments) throws -> Value {
        let values = try arguments.bind("do_truncate", ["length", "killwords", "end", "leeway"])
        let length = values[0]?.index ?? 255
        let end = values[2].map(PythonRepr.string) ?? Array("...".utf8)
        let leeway = values[3]?.index ?? 5
        let endCount = Text(end).count
        guard length >= endCount else {
            throw TemplateError(
                "AssertionError", "expected length >= \(endCount), got \(length)")
        }
        guard let count = value.length else {
            throw TemplateError("TypeError", "object of type '\(value.typeName)' has no len()")
        }
        if count <= length + leeway { return value }
        guard case .string(let text) = value else {
            throw TemplateError(
                "AttributeError", "'\(value.typeName)' object has no attribute 'rsplit'")
        }
        let scalars = text.scalars
        let cut = Text(scalars: scalars.prefix(length - endCount)).bytes
        if values[1]?.isTrue ?? false { return .text(cut + end) }
        let head = PythonText.splitFromEnd(cut, by: [0x20], limit: 1)[0]
        return .text(Array(head) + end)
    }

    /// Greedy lines of whole words; longer words are broken.
    private static func wordwrap(
        _ bytes: [UInt8], _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value {
        let values = try arguments.bind(
            "do_wordwrap", ["width", "break_long_words", "wrapstring", "break_on_hyphens"])
        let width = values[0]?.index ?? 79
        guard width > 0 else {
            throw TemplateError("ValueError", "invalid width \(width) (must be > 0)")
        }
        let breaks = values[1]?.isTrue ?? true
        let wrap = values[2].map(PythonRepr.string) ?? [0x0A]
        var lines: [[UInt8]] = []
        for paragraph in PythonText.lines(bytes) {
            var line: [UInt32] = []
            for word in PythonText.splitAtSpace(Array(paragraph)) {
                var rest = Text(Array(word)).scalars[...]
                if !line.isEmpty, line.count + 1 + rest.count <= width {
                    line += [0x20] + rest
                    continue
                }
                if !line.isEmpty { lines.append(Text(scalars: line).bytes) }
                while breaks, rest.count > width {
                    lines.append(Text(scalars: rest.prefix(width)).bytes)
                    rest = rest.dropFirst(width)
                }
                line = Array(rest)
            }
            lines.append(Text(scalars: line).bytes)
        }
        try interpreter.meter.room(lines.count, times: wrap.count)
        return .text(Array(lines.joined(separator: wrap)))
    }

    private static func wordCount(_ bytes: [UInt8]) -> Int {
        var count = 0
        var insideWord = false
        for scalar in Text(bytes).scalars {
            let isWord = scalar == 0x5F || Methods.isAlphanumeric(scalar)
            if isWord, !insideWord { count += 1 }
            insideWord = isWord
        }
        return count
    }

    private static func urlencode(_ value: Value) throws -> [UInt8] {
        func quote(_ bytes: [UInt8], forQuery: Bool) -> [UInt8] {
            var result: [UInt8] = []
            for byte in bytes {
                let isPlain =
                    PythonText.isASCIIAlphanumeric(UInt32(byte)) || "-._~".utf8.contains(byte)
                    || (byte == UInt8(ascii: "/") && !forQuery)
                if isPlain {
                    result.append(byte)
                } else if byte == 0x20, forQuery {
                    result.append(UInt8(ascii: "+"))
                } else {
                    result += ("%" + PythonRepr.hex(UInt32(byte), 2).uppercased()).utf8
                }
            }
            return result
        }
        let pairs: [Value]
        switch value {
        case .dictionary(let dictionary):
            pairs = dictionary.entries.map { .tuple([$0.key, $0.value]) }
        case .list(let items), .tuple(let items): pairs = items.array
        default: return quote(PythonRepr.string(value), forQuery: false)
        }
        var parts: [[UInt8]] = []
        for pair in pairs {
            let members = try pair.iterated()
            guard members.count == 2 else {
                throw TemplateError("ValueError", "urlencode: an item is not a pair")
            }
            parts.append(
                quote(PythonRepr.string(members[0]), forQuery: true) + [UInt8(ascii: "=")]
                    + quote(PythonRepr.string(members[1]), forQuery: true))
        }
        return Array(parts.joined(separator: [UInt8(ascii: "&")]))
    }

    private static func attributes(_ value: Value, _ arguments: Arguments) throws -> Value {
        let autospace = try arguments.bind("do_xmlattr", ["autospace"])[0]?.isTrue ?? true
        guard case .dictionary(let dictionary) = try value.defined() else {
            throw TemplateError(
                "AttributeError", "'\(value.typeName)' object has no attribute 'items'")
        }
        var result: [UInt8] = []
        for (key, value) in dictionary.entries {
            if value.isUndefined || Filters.isNone(value) { continue }
            let name = PythonRepr.string(key)
            if name.contains(where: { " \t\n\r\u{B}\u{C}/>=".utf8.contains($0) }) {
                throw TemplateError(
                    "ValueError", "Invalid character in attribute name: \(PythonRepr.repr(key))")
            }
            if !result.isEmpty || autospace { result.append(0x20) }
            result += HTMLText.escaped(name) + Array("=\"".utf8)
            result += HTMLText.escape(value).bytes + [UInt8(ascii: "\"")]
        }
        return .text(result)
    }
}
