/// `int(…)` and `float(…)`.
enum PythonConvert {
    /// - Throws: `TypeError` or `ValueError` as Python does.
    static func int(_ value: Value, base: Int = 10) throws -> Value {
        switch value {
        case .int, .big: return value
        case .bool(let flag): return .int(flag ? 1 : 0)
        case .float(let number):
            guard number.isFinite else {
                throw TemplateError(
                    number.isNaN ? "ValueError" : "OverflowError",
                    "cannot convert float \(PythonRepr.text(of: number)) to integer")
            }
            let whole = number.rounded(.towardZero)
            if let small = Int(exactly: whole) { return .int(small) }
            return BigInteger(decimal: PythonMath.formatted(whole, UInt8(ascii: "f"), precision: 0))
                .map(\.value) ?? .int(0)
        case .string(let text):
            var body = String(
                decoding: PythonText.trimmedEnd(PythonText.trimmedStart(text.bytes[...])),
                as: UTF8.self
            ).lowercased()
            var isNegative = false
            if body.hasPrefix("-") || body.hasPrefix("+") {
                isNegative = body.removeFirst() == "-"
            }
            for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)]
            where base == radix || base == 0 {
                if body.hasPrefix(prefix) {
                    body.removeFirst(2)
                    if let number = Int(body, radix: radix) {
                        return .int(isNegative ? -number : number)
                    }
                }
            }
            body = body.replacing("_", with: "")
            if (2...36).contains(base), base != 10, let number = Int(body, radix: base) {
                return .int(isNegative ? -number : number)
            }
            if base == 10 || base == 0, !body.hasPrefix("-"), !body.hasPrefix("+"),
                let number = BigInteger(decimal: body)
            {
                return (isNegative ? number.negated : number).value
            }
            throw TemplateError(
                "ValueError",
                "invalid literal for int() with base \(base): \(PythonRepr.text(of: text))")
        default:
            throw TemplateError(
                "TypeError",
                "int() argument must be a string, a bytes-like object or a real number, "
                    + "not '\(value.typeName)'")
        }
    }

    static func float(_ value: Value) throws -> Double {
        if let number = PythonNumber.double(value) { return number }
        guard case .string(let text) = value else {
            throw TemplateError(
                "TypeError",
                "float() argument must be a string or a real number, not '\(value.typeName)'")
        }
        let body = String(
            decoding: PythonText.trimmedEnd(PythonText.trimmedStart(text.bytes[...])),
            as: UTF8.self
        ).lowercased().replacing("_", with: "")
        if let number = Double(body), !body.contains("x"), !body.contains("(") { return number }
        throw TemplateError(
            "ValueError", "could not convert string to float: \(PythonRepr.text(of: text))")
    }
}
