/// `'…' % values`, `str.format` and `format(value, spec)`.
enum PythonFormat {
    private static let maximumWidth = 100_000

    // MARK: Percent

    static func percent(_ format: Text, _ value: Value) throws -> Text {
        var positional: [Value]
        if case .tuple(let items) = value { positional = items.array } else { positional = [value] }
        var used = 0
        var usedMapping = false
        func next() throws -> Value {
            guard used < positional.count else {
                throw TemplateError("TypeError", "not enough arguments for format string")
            }
            used += 1
            return positional[used - 1]
        }
        var result: [UInt8] = []
        let bytes = format.bytes
        var index = 0
        while index < bytes.count {
            guard bytes[index] == UInt8(ascii: "%") else {
                result.append(bytes[index])
                index += 1
                continue
            }
            index += 1
            var spec = Spec()
            var argument: Value?
            if index < bytes.count, bytes[index] == UInt8(ascii: "(") {
                guard let close = bytes[index...].firstIndex(of: UInt8(ascii: ")")) else {
                    throw TemplateError("ValueError", "incomplete format key")
                }
                guard case .dictionary(let dictionary) = value else {
                    throw TemplateError("TypeError", "format requires a mapping")
                }
                let key = Text(Array(bytes[(index + 1)..<close]))
                guard let found = dictionary[key] else {
                    throw TemplateError("KeyError", PythonRepr.text(of: key))
                }
                argument = found
                usedMapping = true
                index = close + 1
            }
            while index < bytes.count, "-+ #0".utf8.contains(bytes[index]) {
                switch bytes[index] {
                case UInt8(ascii: "-"): spec.align = UInt8(ascii: "<")
                case UInt8(ascii: "+"): spec.sign = UInt8(ascii: "+")
                case UInt8(ascii: " "): if spec.sign == 0 { spec.sign = UInt8(ascii: " ") }
                case UInt8(ascii: "#"): spec.alternate = true
                default: spec.zeroPadded = true
                }
                index += 1
            }
            spec.width = try number(bytes, &index) { try next().index ?? 0 }
            if index < bytes.count, bytes[index] == UInt8(ascii: ".") {
                index += 1
                spec.precision = try number(bytes, &index) { try next().index ?? 0 } ?? 0
            }
            while index < bytes.count, "hlL".utf8.contains(bytes[index]) { index += 1 }
            guard index < bytes.count else {
                throw TemplateError("ValueError", "incomplete format")
            }
            spec.type = bytes[index]
            index += 1
            if spec.type == UInt8(ascii: "%") {
                result.append(spec.type)
                continue
            }
            result += try percentValue(try argument ?? next(), spec)
        }
        if used < positional.count, !usedMapping {
            // What can be asked for a key passes as a mapping that nothing was taken from.
            switch value {
            case .dictionary, .list, .range, .bytes, .undefined: return Text(result)
            default: break
            }
            throw TemplateError(
                "TypeError", "not all arguments converted during string formatting")
        }
        return Text(result)
    }

    private static func number(
        _ bytes: [UInt8], _ index: inout Int, star: () throws -> Int
    ) throws -> Int? {
        if index < bytes.count, bytes[index] == UInt8(ascii: "*") {
            index += 1
            return try checkedWidth(try star())
        }
        let start = index
        while index < bytes.count, bytes[index] >= 48, bytes[index] <= 57 { index += 1 }
        guard index > start else { return nil }
        return try checkedWidth(Int(String(decoding: bytes[start..<index], as: UTF8.self)) ?? .max)
    }

    private static func checkedWidth(_ width: Int) throws -> Int {
        guard width <= maximumWidth else {
            throw TemplateError("LimitError", "a width or precision above \(maximumWidth)")
        }
        return width
    }

    private static func percentValue(_ value: Value, _ spec: Spec) throws -> [UInt8] {
        var spec = spec
        let letter = String(decoding: [spec.type], as: UTF8.self)
        switch letter {
        case "s", "r", "a":
            spec.zeroPadded = false
            var text = letter == "s" ? PythonRepr.string(value) : Array(PythonRepr.repr(value).utf8)
            if let precision = spec.precision {
                text = Text(scalars: Text(text).scalars.prefix(precision)).bytes
            }
            return pad(text, spec, defaultAlign: UInt8(ascii: ">"))
        case "c":
            if let code = value.index {
                return pad(
                    Text(scalars: [UInt32(code)]).bytes, spec, defaultAlign: UInt8(ascii: ">"))
            }
            return pad(PythonRepr.string(value), spec, defaultAlign: UInt8(ascii: ">"))
        case "d", "i", "u", "x", "X", "o":
            guard PythonNumber.isNumber(value) else {
                throw TemplateError(
                    "TypeError",
                    "%\(letter) format: a real number is required, not \(value.typeName)")
            }
            let whole = try PythonConvert.int(value)
            if "iu".contains(letter) { spec.type = UInt8(ascii: "d") }
            spec.precision = nil
            return try number(whole, spec)
        case "e", "E", "f", "F", "g", "G":
            guard let number = PythonNumber.double(value) else {
                throw TemplateError("TypeError", "must be real number, not \(value.typeName)")
            }
            return try self.number(.float(number), spec)
        default:
            throw TemplateError(
                "ValueError", "unsupported format character '\(letter)'")
        }
    }

    // MARK: Format specifications

    struct Spec {
        var fill: [UInt8] = [0x20]
        /// `<`, `>`, `^` or `=`; 0 for the type's own.
        var align: UInt8 = 0
        var sign: UInt8 = 0
        var alternate = false
        var zeroPadded = false
        var width: Int?
        var grouping: UInt8 = 0
        var precision: Int?
        var type: UInt8 = 0
    }

    static func parse(_ text: [UInt8]) throws -> Spec {
        var spec = Spec()
        var index = 0
        func at(_ place: Int) -> UInt8 { place < text.count ? text[place] : 0 }
        let aligns = Array("<>^=".utf8)
        if !text.isEmpty {
            let length = PythonText.scalar(in: text, at: 0).length
            if aligns.contains(at(length)) {
                spec.fill = Array(text[..<length])
                spec.align = at(length)
                index = length + 1
            } else if aligns.contains(at(0)) {
                spec.align = at(0)
                index = 1
            }
        }
        if "+- ".utf8.contains(at(index)) {
            spec.sign = at(index)
            index += 1
        }
        if at(index) == UInt8(ascii: "#") {
            spec.alternate = true
            index += 1
        }
        if at(index) == UInt8(ascii: "0") {
            spec.zeroPadded = spec.align == 0
            index += 1
        }
        spec.width = try number(text, &index) { 0 }
        if at(index) == UInt8(ascii: ",") || at(index) == UInt8(ascii: "_") {
            spec.grouping = at(index)
            index += 1
        }
        if at(index) == UInt8(ascii: ".") {
            index += 1
            spec.precision = try number(text, &index) { 0 }
        }
        if index < text.count {
            spec.type = text[index]
            index += 1
        }
        guard index == text.count else {
            throw TemplateError("ValueError", "Invalid format specifier")
        }
        return spec
    }

    static func format(_ value: Value, _ text: [UInt8]) throws -> [UInt8] {
        let spec = try parse(text)
        switch value {
        case .int, .big, .float: return try number(value, spec)
        case .bool(let flag) where !text.isEmpty && spec.type != UInt8(ascii: "s"):
            return try number(.int(flag ? 1 : 0), spec)
        case .string, .bool, .none:
            guard spec.type == 0 || spec.type == UInt8(ascii: "s") else {
                throw TemplateError(
                    "ValueError",
                    "Unknown format code '\(String(decoding: [spec.type], as: UTF8.self))' "
                        + "for object of type '\(value.typeName)'")
            }
            var bytes = PythonRepr.string(value)
            if let precision = spec.precision {
                bytes = Text(scalars: Text(bytes).scalars.prefix(precision)).bytes
            }
            return pad(bytes, spec, defaultAlign: UInt8(ascii: "<"))
        default:
            guard text.isEmpty else {
                throw TemplateError(
                    "TypeError",
                    "unsupported format string passed to \(value.typeName).__format__")
            }
            return PythonRepr.string(value)
        }
    }

    private static func number(_ value: Value, _ spec: Spec) throws -> [UInt8] {
        var isNegative = false
        var body: String
        var prefix = ""
        switch value {
        case .float(let number): (isNegative, body) = float(number, spec)
        default:
            if "eEfFgG%".utf8.contains(spec.type) {
                (isNegative, body) = float(PythonNumber.double(value) ?? 0, spec)
                break
            }
            body = PythonRepr.repr(value)
            if body.hasPrefix("-") {
                isNegative = true
                body.removeFirst()
            }
            switch spec.type {
            case 0, UInt8(ascii: "d"), UInt8(ascii: "n"): break
            case UInt8(ascii: "x"), UInt8(ascii: "X"), UInt8(ascii: "o"), UInt8(ascii: "b"):
                let radix = [UInt8(ascii: "o"): 8, UInt8(ascii: "b"): 2][spec.type] ?? 16
                guard let small = UInt(body) else {
                    throw TemplateError("LimitError", "a number beyond 64 bits in a format")
                }
                body = String(
                    small, radix: radix, uppercase: spec.type == UInt8(ascii: "X"))
                if spec.alternate { prefix = "0" + String(decoding: [spec.type], as: UTF8.self) }
            case UInt8(ascii: "c"):
                return pad(
                    Text(scalars: [UInt32(body) ?? 0xFFFD]).bytes, spec,
                    defaultAlign: UInt8(ascii: "<"))
            default:
                throw TemplateError(
                    "ValueError",
                    "Unknown format code '\(String(decoding: [spec.type], as: UTF8.self))' "
                        + "for object of type '\(value.typeName)'")
            }
        }
        if spec.grouping != 0 { body = grouped(body, spec.grouping) }
        var sign = isNegative ? "-" : ""
        if !isNegative, spec.sign == UInt8(ascii: "+") || spec.sign == UInt8(ascii: " ") {
            sign = String(decoding: [spec.sign], as: UTF8.self)
        }
        let head = sign + prefix
        let width = spec.width ?? 0
        if spec.zeroPadded && spec.align != UInt8(ascii: "<") || spec.align == UInt8(ascii: "=") {
            let missing = width - head.count - body.count
            let fill = spec.zeroPadded ? [0x30] : spec.fill
            let padding = missing > 0 ? [[UInt8]](repeating: fill, count: missing) : []
            return Array(head.utf8) + padding.joined() + Array(body.utf8)
        }
        return pad(Array((head + body).utf8), spec, defaultAlign: UInt8(ascii: ">"))
    }

    private static func float(_ number: Double, _ spec: Spec) -> (Bool, String) {
        let isNegative = number.sign == .minus && !number.isNaN
        let magnitude = number.magnitude
        if number.isNaN { return (false, "nan") }
        if number.isInfinite { return (isNegative, "inf") }
        switch spec.type {
        case 0:
            guard let precision = spec.precision else {
                return (isNegative, PythonRepr.text(of: magnitude))
            }
            var text = PythonMath.formatted(
                magnitude, UInt8(ascii: "g"), precision: max(precision, 1))
            if !text.contains("."), !text.contains("e") { text += ".0" }
            return (isNegative, text)
        case UInt8(ascii: "%"):
            return (
                isNegative,
                PythonMath.formatted(
                    magnitude * 100, UInt8(ascii: "f"), precision: spec.precision ?? 6) + "%"
            )
        default:
            let type = spec.type == UInt8(ascii: "n") ? UInt8(ascii: "g") : spec.type
            return (
                isNegative,
                PythonMath.formatted(magnitude, type, precision: spec.precision ?? 6)
            )
        }
    }

    private static func grouped(_ body: String, _ separator: UInt8) -> String {
        let whole = body.prefix { $0.isNumber }
        var result = ""
        for (index, digit) in whole.enumerated() {
            if index > 0, (whole.count - index) % 3 == 0 {
                result += String(decoding: [separator], as: UTF8.self)
            }
            result.append(digit)
        }
        return result + body.dropFirst(whole.count)
    }

    static func pad(_ text: [UInt8], _ spec: Spec, defaultAlign: UInt8) -> [UInt8] {
        let missing = (spec.width ?? 0) - Text(text).count
        guard missing > 0 else { return text }
        func fill(_ count: Int) -> [UInt8] {
            Array([[UInt8]](repeating: spec.fill, count: count).joined())
        }
        switch spec.align == 0 ? defaultAlign : spec.align {
        case UInt8(ascii: "<"): return text + fill(missing)
        case UInt8(ascii: "^"): return fill(missing / 2) + text + fill(missing - missing / 2)
        default: return fill(missing) + text
        }
    }

    // MARK: Braces

    /// `str.format`: fields, indices and attributes, conversions and specifications.
    static func braces(
        _ format: [UInt8], _ arguments: Arguments, _ interpreter: Interpreter, depth: Int = 0
    ) throws -> [UInt8] {
        var result: [UInt8] = []
        var automatic = 0
        var index = 0
        while index < format.count {
            let byte = format[index]
            let next = index + 1 < format.count ? format[index + 1] : 0
            if byte == UInt8(ascii: "{") || byte == UInt8(ascii: "}"), next == byte {
                result.append(byte)
                index += 2
                continue
            }
            guard byte == UInt8(ascii: "{") else {
                guard byte != UInt8(ascii: "}") else {
                    throw TemplateError(
                        "ValueError", "Single '}' encountered in format string")
                }
                result.append(byte)
                index += 1
                continue
            }
            var end = index + 1
            var open = 1
            while end < format.count {
                if format[end] == UInt8(ascii: "{") { open += 1 }
                if format[end] == UInt8(ascii: "}") { open -= 1 }
                if open == 0 { break }
                end += 1
            }
            guard open == 0 else {
                throw TemplateError("ValueError", "expected '}' before end of string")
            }
            let shown = try field(
                Array(format[(index + 1)..<end]), arguments, &automatic, interpreter, depth)
            try interpreter.meter.room(result.count + shown.count)
            result += shown
            index = end + 1
        }
        return result
    }

    private static func field(
        _ text: [UInt8], _ arguments: Arguments, _ automatic: inout Int,
        _ interpreter: Interpreter, _ depth: Int
    ) throws -> [UInt8] {
        guard depth < 3 else { throw TemplateError("ValueError", "Max string recursion exceeded") }
        var name = text[...]
        var spec: [UInt8] = []
        var conversion: UInt8 = 0
        if let colon = text.firstIndex(of: UInt8(ascii: ":")) {
            name = text[..<colon]
            spec = Array(text[(colon + 1)...])
        }
        if let mark = name.firstIndex(of: UInt8(ascii: "!")) {
            guard mark + 2 == name.endIndex else {
                throw TemplateError("ValueError", "expected ':' after conversion specifier")
            }
            conversion = name[mark + 1]
            name = name[..<mark]
        }
        let first = name.prefix { $0 != UInt8(ascii: ".") && $0 != UInt8(ascii: "[") }
        let head = String(decoding: first, as: UTF8.self)
        var value: Value
        if head.isEmpty || Int(head) != nil {
            let place = Int(head) ?? automatic
            if head.isEmpty { automatic += 1 }
            guard arguments.positional.indices.contains(place) else {
                throw TemplateError(
                    "IndexError",
                    "Replacement index \(place) out of range for positional args tuple")
            }
            value = arguments.positional[place]
        } else {
            guard let found = arguments.keyword.first(where: { $0.name == head })?.value else {
                throw TemplateError("KeyError", "'\(head)'")
            }
            value = found
        }
        var rest = name[first.endIndex...]
        while let mark = rest.first {
            if mark == UInt8(ascii: ".") {
                let part = rest.dropFirst().prefix {
                    $0 != UInt8(ascii: ".") && $0 != UInt8(ascii: "[")
                }
                value = try interpreter.attribute(value, String(decoding: part, as: UTF8.self))
                rest = rest[part.endIndex...]
            } else {
                let part = rest.dropFirst().prefix { $0 != UInt8(ascii: "]") }
                let key = String(decoding: part, as: UTF8.self)
                value = try interpreter.item(value, Int(key).map(Value.int) ?? .text(key))
                rest = rest[part.endIndex...].dropFirst()
            }
            _ = try value.defined()
        }
        if spec.contains(UInt8(ascii: "{")) {
            spec = try braces(spec, arguments, interpreter, depth: depth + 1)
        }
        try interpreter.meter.walk(value)
        switch conversion {
        case 0: break
        case UInt8(ascii: "r"), UInt8(ascii: "a"): value = .text(PythonRepr.repr(value))
        case UInt8(ascii: "s"): value = .text(PythonRepr.string(value))
        default: throw TemplateError("ValueError", "Unknown conversion specifier")
        }
        return try self.format(value, spec)
    }
}
