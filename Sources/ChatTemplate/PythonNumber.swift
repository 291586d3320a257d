/// Python's arithmetic.
enum PythonNumber {
    static func integer(ofLiteral text: String) -> Value? {
        let lower = text.lowercased()
        for (prefix, radix) in [("0x", 16), ("0b", 2), ("0o", 8)] where lower.hasPrefix(prefix) {
            return Int(lower.dropFirst(2), radix: radix).map(Value.int)
        }
        if let small = Int(text) { return .int(small) }
        return BigInteger(decimal: text).map(\.value)
    }

    private enum Operand {
        case int(Int)
        case big(BigInteger)
        case float(Double)

        var double: Double {
            switch self {
            case .int(let number): Double(number)
            case .big(let number): number.double
            case .float(let number): number
            }
        }

        var big: BigInteger? {
            switch self {
            case .int(let number): BigInteger(number)
            case .big(let number): number
            case .float: nil
            }
        }
    }

    private static func operand(_ value: Value) -> Operand? {
        switch value {
        case .int(let number): .int(number)
        case .bool(let flag): .int(flag ? 1 : 0)
        case .big(let number): .big(number)
        case .float(let number): .float(number)
        default: nil
        }
    }

    static func isNumber(_ value: Value) -> Bool { operand(value) != nil }
    static func double(_ value: Value) -> Double? { operand(value)?.double }

    /// Negative, zero or positive as left is below, equal to or above right; nil for a NaN.
    static func compare(_ left: Value, _ right: Value) -> Int? {
        guard let a = operand(left), let b = operand(right) else { return nil }
        if let x = a.big, let y = b.big { return x < y ? -1 : y < x ? 1 : 0 }
        let (x, y) = (a.double, b.double)
        return x < y ? -1 : x > y ? 1 : x == y ? 0 : nil
    }

    static func negated(_ value: Value) -> Value? {
        switch operand(value) {
        case .int(let number): BigInteger(number).negated.value
        case .big(let number): number.negated.value
        case .float(let number): .float(-number)
        case nil: nil
        }
    }

    /// Nil if one of the two is no number.
    static func apply(
        _ kind: BinaryOperator, _ left: Value, _ right: Value
    ) throws -> Value? {
        guard let a = operand(left), let b = operand(right) else { return nil }
        if case .int(let x) = a, case .int(let y) = b, let small = try integers(kind, x, y) {
            return small
        }
        if let x = a.big, let y = b.big, let result = try bigs(kind, x, y) { return result }
        return try floats(kind, a.double, b.double)
    }

    /// Nil where the result is no 64-bit integer.
    private static func integers(_ kind: BinaryOperator, _ x: Int, _ y: Int) throws -> Value? {
        func small(_ result: (partialValue: Int, overflow: Bool)) -> Value? {
            result.overflow ? nil : .int(result.partialValue)
        }
        switch kind {
        case .add: return small(x.addingReportingOverflow(y))
        case .subtract: return small(x.subtractingReportingOverflow(y))
        case .multiply: return small(x.multipliedReportingOverflow(by: y))
        case .divide: return nil
        case .floorDivide, .modulo:
            guard y != 0 else {
                throw TemplateError(
                    "ZeroDivisionError", "integer division or modulo by zero")
            }
            guard y != -1 else { return kind == .modulo ? .int(0) : negated(.int(x)) }
            let (quotient, remainder) = x.quotientAndRemainder(dividingBy: y)
            let floors = remainder != 0 && (remainder < 0) != (y < 0)
            return kind == .modulo
                ? .int(floors ? remainder + y : remainder) : .int(floors ? quotient - 1 : quotient)
        case .power:
            guard y >= 0 else { return nil }
            return try power(BigInteger(x), y)
        }
    }

    private static func power(_ base: BigInteger, _ exponent: Int) throws -> Value {
        var result = BigInteger(1)
        var factor = base
        var rest = exponent
        while rest > 0 {
            guard max(result.decimalDigits, factor.decimalDigits) <= BigInteger.maximumDigits else {
                throw TemplateError("LimitError", "a power with too many digits")
            }
            if rest & 1 == 1 { result = result * factor }
            rest >>= 1
            if rest > 0 { factor = factor * factor }
        }
        return result.value
    }

    private static func bigs(
        _ kind: BinaryOperator, _ x: BigInteger, _ y: BigInteger
    ) throws -> Value? {
        guard x.decimalDigits + y.decimalDigits <= 2 * BigInteger.maximumDigits else {
            throw TemplateError("LimitError", "a number with too many digits")
        }
        switch kind {
        case .add: return (x + y).value
        case .subtract: return (x + y.negated).value
        case .multiply: return (x * y).value
        case .divide, .power: return nil
        case .floorDivide, .modulo:
            throw TemplateError("LimitError", "division of numbers beyond 64 bits")
        }
    }

    private static func floats(_ kind: BinaryOperator, _ x: Double, _ y: Double) throws -> Value {
        switch kind {
        case .add: return .float(x + y)
        case .subtract: return .float(x - y)
        case .multiply: return .float(x * y)
        case .divide:
            guard y != 0 else { throw TemplateError("ZeroDivisionError", "division by zero") }
            return .float(x / y)
        case .floorDivide, .modulo:
            guard y != 0 else {
                throw TemplateError(
                    "ZeroDivisionError",
                    kind == .modulo ? "float modulo by zero" : "float floor division by zero")
            }
            var remainder = x.truncatingRemainder(dividingBy: y)
            if remainder != 0, (remainder < 0) != (y < 0) { remainder += y }
            // A zero has the divisor's sign.
            if remainder == 0 { remainder = y < 0 ? -0.0 : 0 }
            return .float(
                kind == .modulo ? remainder : ((x - remainder) / y).rounded(.toNearestOrEven))
        case .power: return .float(PythonMath.power(x, y))
        }
    }
}
