/// A whole number beyond 64 bits: enough to carry, add, multiply, compare and print it.
struct BigInteger: Hashable, Sendable {
    /// Base 10^9 digits, lowest first, without leading zeros.
    private var digits: [UInt32]
    private(set) var isNegative: Bool

    private static let base: UInt64 = 1_000_000_000
    /// The most decimal digits that are carried (as Python's own limit for texts).
    static let maximumDigits = 4_300

    init(_ value: Int) {
        isNegative = value < 0
        digits = []
        var rest = UInt64(value.magnitude)
        while rest > 0 {
            digits.append(UInt32(rest % Self.base))
            rest /= Self.base
        }
    }

    /// From decimal digits; nil if it is none or too long.
    init?(decimal text: String) {
        var body = Substring(text)
        let negative = body.hasPrefix("-")
        if negative || body.hasPrefix("+") { body = body.dropFirst() }
        guard !body.isEmpty, body.utf8.count <= Self.maximumDigits,
            body.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 })
        else { return nil }
        var digits: [UInt32] = []
        while !body.isEmpty {
            guard let digit = UInt32(body.suffix(9)) else { return nil }
            digits.append(digit)
            body = body.dropLast(9)
        }
        self.init(digits, negative)
    }

    private init(_ digits: [UInt32], _ isNegative: Bool) {
        self.digits = digits
        while self.digits.last == 0 { self.digits.removeLast() }
        self.isNegative = isNegative && !self.digits.isEmpty
    }

    /// The smallest value that holds it.
    var value: Value {
        if digits.count <= 3, let small = Int(description) { return .int(small) }
        return .big(self)
    }

    var description: String {
        guard let last = digits.last else { return "0" }
        var text = isNegative ? "-\(last)" : "\(last)"
        for digit in digits.dropLast().reversed() {
            let part = String(digit)
            text += String(repeating: "0", count: 9 - part.count) + part
        }
        return text
    }

    var double: Double { Double(description) ?? .nan }
    var negated: BigInteger { BigInteger(digits, !isNegative) }

    static func + (left: BigInteger, right: BigInteger) -> BigInteger {
        if left.isNegative != right.isNegative {
            let order = compareMagnitudes(left.digits, right.digits)
            if order == 0 { return BigInteger(0) }
            return order > 0
                ? BigInteger(difference(left.digits, right.digits), left.isNegative)
                : BigInteger(difference(right.digits, left.digits), right.isNegative)
        }
        var result: [UInt32] = []
        var carry: UInt64 = 0
        for index in 0..<max(left.digits.count, right.digits.count) {
            let a = index < left.digits.count ? UInt64(left.digits[index]) : 0
            let b = index < right.digits.count ? UInt64(right.digits[index]) : 0
            let sum = a + b + carry
            result.append(UInt32(sum % base))
            carry = sum / base
        }
        if carry > 0 { result.append(UInt32(carry)) }
        return BigInteger(result, left.isNegative)
    }

    private static func difference(_ left: [UInt32], _ right: [UInt32]) -> [UInt32] {
        var result: [UInt32] = []
        var borrow: Int64 = 0
        for index in left.indices {
            let right = index < right.count ? Int64(right[index]) : 0
            var digit = Int64(left[index]) - right - borrow
            borrow = digit < 0 ? 1 : 0
            if digit < 0 { digit += Int64(base) }
            result.append(UInt32(digit))
        }
        return result
    }

    static func * (left: BigInteger, right: BigInteger) -> BigInteger {
        var result = [UInt64](repeating: 0, count: left.digits.count + right.digits.count + 1)
        for (i, a) in left.digits.enumerated() {
            var carry: UInt64 = 0
            for (j, b) in right.digits.enumerated() {
                let sum = result[i + j] + UInt64(a) * UInt64(b) + carry
                result[i + j] = sum % base
                carry = sum / base
            }
            result[i + right.digits.count] += carry
        }
        return BigInteger(result.map { UInt32($0) }, left.isNegative != right.isNegative)
    }

    private static func compareMagnitudes(_ left: [UInt32], _ right: [UInt32]) -> Int {
        if left.count != right.count { return left.count < right.count ? -1 : 1 }
        for (a, b) in zip(left.reversed(), right.reversed()) where a != b { return a < b ? -1 : 1 }
        return 0
    }

    static func < (left: BigInteger, right: BigInteger) -> Bool {
        if left.isNegative != right.isNegative { return left.isNegative }
        let order = compareMagnitudes(left.digits, right.digits)
        return left.isNegative ? order > 0 : order < 0
    }

    var decimalDigits: Int { digits.count * 9 }
}
