/// The methods of Python's `str`.
enum TextMethods {
    static let names: Set<String> = [
        "capitalize", "casefold", "center", "count", "encode", "endswith", "expandtabs", "find",
        "format", "format_map", "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit",
        "isidentifier", "islower", "isnumeric", "isprintable", "isspace", "istitle", "isupper",
        "join", "ljust", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace",
        "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines",
        "startswith", "strip", "swapcase", "title", "upper", "zfill",
    ]

    static func call(
        _ text: Text, _ name: String, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value {
        let bytes = text.bytes
        if let result = try caseOrClass(text, name, arguments)
            ?? search(bytes, name, arguments) ?? split(bytes, name, arguments, interpreter)
        {
            return result
        }
        func string(_ value: Value?, _ what: String) throws -> [UInt8] {
            guard case .string(let text) = try (value ?? .none).defined() else {
                throw TemplateError(
                    "TypeError", "\(name)() \(what) must be str, not \((value ?? .none).typeName)")
            }
            return text.bytes
        }
        switch name {
        case "strip", "lstrip", "rstrip":
            let characters = try arguments.bind(name, ["chars"])[0]
            return .text(
                try Methods.stripped(
                    bytes, characters, left: name != "rstrip", right: name != "lstrip"))
        case "replace":
            let values = try arguments.bind(name, ["old", "new", "count"], required: 2)
            let limit = values[2]?.index ?? -1
            let new = try string(values[1], "argument 2")
            let old = try string(values[0], "argument 1")
            return .text(
                try interpreter.replacing(bytes, old, by: new, limit: limit < 0 ? .max : limit))
        case "join":
            let items = try interpreter.meter.items(
                try arguments.bind(name, ["iterable"], required: 1)[0] ?? .none)
            var result: [UInt8] = []
            for (index, item) in items.enumerated() {
                guard case .string(let part) = item else {
                    throw TemplateError(
                        "TypeError",
                        "sequence item \(index): expected str instance, \(item.typeName) found")
                }
                try interpreter.meter.room(result.count + bytes.count + part.bytes.count)
                if index > 0 { result += bytes }
                result += part.bytes
            }
            return .text(result)
        case "removeprefix", "removesuffix":
            let part = try string(try arguments.bind(name, ["affix"], required: 1)[0], "argument")
            if name == "removeprefix" {
                return .text(bytes.starts(with: part) ? bytes.dropFirst(part.count) : bytes[...])
            }
            let ends =
                !part.isEmpty && bytes.count >= part.count
                && bytes.suffix(part.count).elementsEqual(part)
            return .text(ends ? bytes.dropLast(part.count) : bytes[...])
        case "center", "ljust", "rjust":
            let values = try arguments.bind(name, ["width", "fillchar"], required: 1)
            let width = values[0]?.index ?? 0
            let fill = try values[1].map { try string($0, "argument 2") } ?? [0x20]
            if name == "center" {
                return .text(try Methods.centered(bytes, width, fill, interpreter))
            }
            let missing = max(0, width - text.count)
            try interpreter.account(missing * fill.count)
            let padding = Array([[UInt8]](repeating: fill, count: missing).joined())
            return .text(name == "ljust" ? bytes + padding : padding + bytes)
        case "zfill":
            let width = try arguments.bind(name, ["width"], required: 1)[0]?.index ?? 0
            let missing = max(0, width - text.count)
            try interpreter.account(missing)
            let isSigned = bytes.first == UInt8(ascii: "-") || bytes.first == UInt8(ascii: "+")
            let sign = isSigned ? Array(bytes.prefix(1)) : []
            return .text(
                sign + [UInt8](repeating: 0x30, count: missing) + bytes.dropFirst(sign.count))
        case "expandtabs":
            let size = try arguments.bind(name, ["tabsize"])[0]?.index ?? 8
            return .text(try expandTabs(text, size, interpreter))
        case "encode":
            _ = try arguments.bind(name, ["encoding", "errors"])
            return .bytes(bytes)
        case "format":
            let result = try PythonFormat.braces(bytes, arguments, interpreter)
            try interpreter.account(result.count)
            return .text(result)
        default:  // format_map
            let mapping = try arguments.bind(name, ["mapping"], required: 1)[0] ?? .none
            var inner = Arguments()
            if case .dictionary(let dictionary) = mapping {
                for (key, value) in dictionary.entries {
                    if case .string(let key) = key { inner.keyword.append((key.string, value)) }
                }
            }
            return .text(try PythonFormat.braces(bytes, inner, interpreter))
        }
    }

    private static func expandTabs(
        _ text: Text, _ size: Int, _ interpreter: Interpreter
    ) throws -> [UInt8] {
        var result: [UInt8] = []
        var column = 0
        for scalar in text.scalars {
            if scalar == 0x09 {
                let count = size > 0 ? size - column % size : 0
                try interpreter.account(count)
                result += [UInt8](repeating: 0x20, count: count)
                column += count
            } else {
                PythonText.append(scalar, to: &result)
                column = scalar == 0x0A || scalar == 0x0D ? 0 : column + 1
            }
        }
        return result
    }

    // MARK: Case and classes

    private static func caseOrClass(
        _ text: Text, _ name: String, _ arguments: Arguments
    ) throws -> Value? {
        func all(_ test: (UInt32) -> Bool) -> Value {
            let scalars = text.scalars
            return .bool(!scalars.isEmpty && scalars.allSatisfy(test))
        }
        let result: Value?
        switch name {
        case "upper": result = .text(PythonText.uppercased(text.bytes))
        case "lower": result = .text(PythonText.lowercased(text.bytes))
        case "casefold":
            result = .text(PythonText.lowercased(PythonText.uppercased(text.bytes)))
        case "capitalize": result = .text(PythonText.capitalized(text.bytes))
        case "title": result = .text(PythonText.titlecased(text.bytes))
        case "swapcase":
            result = .text(
                PythonText.mapped(text.bytes) { scalar in
                    let properties = scalar.properties
                    return properties.isUppercase
                        ? properties.lowercaseMapping
                        : properties.isLowercase
                            ? properties.uppercaseMapping : String(scalar)
                })
        case "isdigit": result = all(Methods.isDigit)
        case "isnumeric": result = all(Methods.isNumeric)
        case "isdecimal":
            result = all { Unicode.Scalar($0)?.properties.numericType == .decimal }
        case "isalpha": result = all(Methods.isAlphabetic)
        case "isalnum": result = all(Methods.isAlphanumeric)
        case "isspace": result = all(PythonText.isSpace)
        case "isascii": result = .bool(text.isASCII)
        case "isprintable": result = .bool(text.scalars.allSatisfy(PythonRepr.isPrintable))
        case "islower": result = .bool(Methods.isCased(text, lower: true))
        case "isupper": result = .bool(Methods.isCased(text, lower: false))
        case "istitle":
            result = .bool(
                text.scalars.contains(where: PythonText.isCased)
                    && PythonText.titlecased(text.bytes) == text.bytes)
        case "isidentifier":
            let scalars = text.scalars
            let starts = scalars.first.map { first in
                first == 0x5F || (Unicode.Scalar(first)?.properties.isXIDStart ?? false)
            }
            result = .bool((starts ?? false) && scalars.allSatisfy(PythonText.isIdentifier))
        default: result = nil
        }
        if result != nil { _ = try arguments.bind(name, []) }
        return result
    }

    // MARK: Searching

    private static func search(
        _ bytes: [UInt8], _ name: String, _ arguments: Arguments
    ) throws -> Value? {
        guard
            ["startswith", "endswith", "find", "rfind", "index", "rindex", "count"].contains(name)
        else { return nil }
        let values = try arguments.bind(name, ["sub", "start", "end"], required: 1)
        let text = Text(bytes)
        // Offsets count code points; cut the part that is searched.
        let indices = PythonRange.indices(text.count, values[1]?.index, values[2]?.index, 1)
        let selected = Array(indices)
        let isWhole = values[1] == nil && values[2] == nil
        let start = selected.first ?? values[1]?.index ?? 0
        let part =
            isWhole
            ? bytes
            : Text(
                scalars: selected.isEmpty
                    ? [] : Array(text.scalars[start..<(start + selected.count)])
            ).bytes
        if name == "startswith" || name == "endswith" {
            var candidates: [Value] = [values[0] ?? .none]
            if case .tuple(let items) = candidates[0] { candidates = items.array }
            for candidate in candidates {
                guard case .string(let affix) = try candidate.defined() else {
                    throw TemplateError(
                        "TypeError",
                        "\(name) first arg must be str or a tuple of str, not "
                            + candidate.typeName)
                }
                let matches =
                    name == "startswith"
                    ? part.starts(with: affix.bytes)
                    : part.count >= affix.bytes.count
                        && part.suffix(affix.bytes.count).elementsEqual(affix.bytes)
                if matches { return .bool(true) }
            }
            return .bool(false)
        }
        guard case .string(let needle) = try (values[0] ?? .none).defined() else {
            throw TemplateError(
                "TypeError", "must be str, not \((values[0] ?? .none).typeName)")
        }
        if name == "count" {
            if needle.bytes.isEmpty { return .int(Text(part).count + 1) }
            return .int(PythonText.occurrences(of: needle.bytes, in: part[...]).count)
        }
        let fromEnd = name.hasPrefix("r")
        let found: Int? =
            if needle.bytes.isEmpty {
                fromEnd ? part.count : 0
            } else if fromEnd {
                PythonText.lastOccurrence(of: needle.bytes, in: part[...])
            } else {
                PythonText.occurrences(of: needle.bytes, in: part[...], limit: 1).first
            }
        guard let found else {
            if name.hasSuffix("index") {
                throw TemplateError("ValueError", "substring not found")
            }
            return .int(-1)
        }
        return .int((isWhole ? 0 : start) + Text(Array(part[..<found])).count)
    }

    // MARK: Splitting

    private static func split(
        _ bytes: [UInt8], _ name: String, _ arguments: Arguments, _ interpreter: Interpreter
    ) throws -> Value? {
        let parts: [ArraySlice<UInt8>]
        switch name {
        case "split", "rsplit":
            let values = try arguments.bind(name, ["sep", "maxsplit"])
            let given = values[1]?.index ?? -1
            let limit = given < 0 ? Int.max : given
            switch values[0] {
            case nil, .some(.none):
                parts =
                    name == "split"
                    ? PythonText.splitAtSpace(bytes, limit: limit)
                    : PythonText.splitAtSpaceFromEnd(bytes, limit: limit)
            case .string(let separator):
                guard !separator.bytes.isEmpty else {
                    throw TemplateError("ValueError", "empty separator")
                }
                parts =
                    name == "split"
                    ? PythonText.split(bytes, by: separator.bytes, limit: limit)
                    : PythonText.splitFromEnd(bytes, by: separator.bytes, limit: limit)
            case let other?:
                throw TemplateError(
                    "TypeError", "must be str or None, not \(other.typeName)")
            }
        case "splitlines":
            let keeps = try arguments.bind(name, ["keepends"])[0]?.isTrue ?? false
            parts = PythonText.lines(bytes, keepEnds: keeps)
        case "partition", "rpartition":
            guard case .string(let separator) = try arguments.bind(name, ["sep"], required: 1)[0],
                !separator.bytes.isEmpty
            else { throw TemplateError("ValueError", "empty separator") }
            let fromEnd = name == "rpartition"
            let place =
                fromEnd
                ? PythonText.lastOccurrence(of: separator.bytes, in: bytes[...])
                : PythonText.occurrences(of: separator.bytes, in: bytes[...], limit: 1).first
            guard let place else {
                let whole = Value.text(bytes)
                return .tuple(
                    fromEnd ? [.text(""), .text(""), whole] : [whole, .text(""), .text("")])
            }
            return .tuple([
                .text(bytes[..<place]), .string(separator),
                .text(bytes[(place + separator.bytes.count)...]),
            ])
        default: return nil
        }
        try interpreter.account(bytes.count + parts.count * 32)
        return .list(ValueItems(parts.map { .text($0) }))
    }
}
