/// `str(…)` and `repr(…)` of Python.
enum PythonRepr {
    static func string(_ value: Value) -> [UInt8] {
        switch value {
        case .string(let text): text.bytes
        case .undefined: []
        default: Array(repr(value).utf8)
        }
    }

    static func repr(_ value: Value) -> String { repr(value, depth: 0) }

    private static func repr(_ value: Value, depth: Int) -> String {
        // Values are finite trees made by JSON or literals; deeper ones are cut.
        guard depth < 200 else { return "..." }
        func list(_ items: some Collection<Value>) -> String {
            items.map { repr($0, depth: depth + 1) }.joined(separator: ", ")
        }
        switch value {
        case .undefined: return "Undefined"
        case .none: return "None"
        case .bool(let flag): return flag ? "True" : "False"
        case .int(let number): return String(number)
        case .big(let number): return number.description
        case .float(let number): return text(of: number)
        case .string(let string):
            return string.isSafe ? "Markup(\(text(of: string)))" : text(of: string)
        case .bytes(let bytes): return text(ofBytes: bytes)
        case .list(let items): return "[\(list(items))]"
        case .tuple(let items): return items.count == 1 ? "(\(list(items)),)" : "(\(list(items)))"
        case .dictionary(let dictionary):
            let members = dictionary.entries.map {
                repr($0.key, depth: depth + 1) + ": " + repr($0.value, depth: depth + 1)
            }
            return "{\(members.joined(separator: ", "))}"
        case .view(let kind, _):
            let items = (try? value.iterated()) ?? []
            return "dict_\(kind.rawValue)([\(list(items))])"
        case .range(let start, let stop, let step):
            return step == 1 ? "range(\(start), \(stop))" : "range(\(start), \(stop), \(step))"
        case .namespace(let namespace):
            let members = namespace.attributes.map {
                text(of: $0.name) + ": " + repr($0.value, depth: depth + 1)
            }
            return "<Namespace {\(members.joined(separator: ", "))}>"
        case .loop(let loop):
            let length = (try? loop.attribute("length"))?.index ?? loop.index0 + 1
            return "<LoopContext \(loop.index0 + 1)/\(length)>"
        case .generator: return "<generator object>"
        case .callable(let callable) where callable.typeName == "Macro":
            return "<Macro \(text(of: Text(callable.name)))>"
        case .callable(let callable): return "<\(callable.typeName) \(callable.name)>"
        }
    }

    /// The shortest digits that read back equal, in Python's layout.
    static func text(of number: Double) -> String {
        if number.isNaN { return "nan" }
        if number.isInfinite { return number < 0 ? "-inf" : "inf" }
        if number == 0 { return number.sign == .minus ? "-0.0" : "0.0" }
        var (digits, exponent) = shortestDigits(number.magnitude)
        let sign = number < 0 ? "-" : ""
        if exponent >= -4, exponent < 16 {
            if exponent < 0 {
                return sign + "0." + String(repeating: "0", count: -exponent - 1) + digits
            }
            while digits.count < exponent + 2 { digits += "0" }
            let point = digits.index(digits.startIndex, offsetBy: exponent + 1)
            return sign + digits[..<point] + "." + digits[point...]
        }
        let head = String(digits.removeFirst())
        let magnitude = abs(exponent) < 10 ? "0\(abs(exponent))" : "\(abs(exponent))"
        return sign + head + (digits.isEmpty ? "" : "." + digits)
            + "e" + (exponent < 0 ? "-" : "+") + magnitude
    }

    /// Significant digits without trailing zeros, and the decimal exponent of the first.
    private static func shortestDigits(_ number: Double) -> (digits: String, exponent: Int) {
        // Swift prints the shortest digits too, in its own layout.
        let parts = "\(number)".split(separator: "e")
        let mantissa = parts[0].split(separator: ".", omittingEmptySubsequences: false)
        let whole = String(mantissa[0])
        let fraction = mantissa.count > 1 ? String(mantissa[1]) : ""
        var exponent = (parts.count > 1 ? Int(parts[1]) ?? 0 : 0) + whole.count - 1
        var digits = whole + fraction
        while digits.count > 1, digits.hasPrefix("0") {
            digits.removeFirst()
            exponent -= 1
        }
        while digits.count > 1, digits.hasSuffix("0") { digits.removeLast() }
        return (digits, exponent)
    }

    static func text(of string: Text) -> String {
        let scalars = string.scalars
        let hasSingle = scalars.contains(0x27)
        let quote: UInt32 = hasSingle && !scalars.contains(0x22) ? 0x22 : 0x27
        var result = Text(scalars: [quote]).string
        for scalar in scalars {
            switch scalar {
            case quote, 0x5C: result += "\\" + Text(scalars: [scalar]).string
            case 0x0A: result += "\\n"
            case 0x0D: result += "\\r"
            case 0x09: result += "\\t"
            default:
                if isPrintable(scalar) {
                    result += Text(scalars: [scalar]).string
                } else {
                    result += escape(scalar)
                }
            }
        }
        return result + Text(scalars: [quote]).string
    }

    private static func text(ofBytes bytes: [UInt8]) -> String {
        var result = "b'"
        for byte in bytes {
            switch byte {
            case 0x27, 0x5C: result += "\\" + String(decoding: [byte], as: UTF8.self)
            case 0x0A: result += "\\n"
            case 0x0D: result += "\\r"
            case 0x09: result += "\\t"
            case 0x20..<0x7F: result += String(decoding: [byte], as: UTF8.self)
            default: result += "\\x" + hex(UInt32(byte), 2)
            }
        }
        return result + "'"
    }

    private static func escape(_ scalar: UInt32) -> String {
        if scalar < 0x100 { return "\\x" + hex(scalar, 2) }
        return scalar < 0x10000 ? "\\u" + hex(scalar, 4) : "\\U" + hex(scalar, 8)
    }

    static func hex(_ number: UInt32, _ digits: Int) -> String {
        let text = String(number, radix: 16)
        return String(repeating: "0", count: max(0, digits - text.count)) + text
    }

    /// `str.isprintable` of one character.
    static func isPrintable(_ scalar: UInt32) -> Bool {
        if scalar >= 0x20, scalar < 0x7F { return true }
        guard let unicode = Unicode.Scalar(scalar) else { return false }
        switch unicode.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator,
            .paragraphSeparator, .spaceSeparator:
            return false
        default: return true
        }
    }
}
