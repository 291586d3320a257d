/// Numbers, sizes, spans and moments as a person reads them. Pure: the same input, the same text.
enum HumanText {
    /// A number with `digits` decimals, rounded half away from zero; `-`, where it is not finite.
    static func fixed(_ value: Double, digits: Int) -> String {
        guard value.isFinite, abs(value) < 1e15 else { return value.isNaN ? "nan" : "\(value)" }
        var power = 1.0
        for _ in 0..<digits { power *= 10 }
        let scaled = (abs(value) * power).rounded()
        guard scaled < 9e18 else { return "\(value)" }
        let whole = Int64(scaled) / Int64(power)
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard digits > 0 else { return sign + "\(whole)" }
        let fraction = String(Int64(scaled) % Int64(power))
        let zeros = String(repeating: "0", count: digits - fraction.count)
        return sign + "\(whole).\(zeros)\(fraction)"
    }

    /// `value` with about three significant digits: `1.53`, `0.0412`, `1.8e-04`, `12,345`.
    static func significant(_ value: Double) -> String {
        guard value.isFinite else { return "\(value)" }
        let size = abs(value)
        if value == 0 { return "0" }
        if size < 0.001 { return exponent(value) }
        if size < 0.1 { return fixed(value, digits: 4) }
        if size < 10 { return fixed(value, digits: 3) }
        if size < 100 { return fixed(value, digits: 2) }
        if size < 1000 { return fixed(value, digits: 1) }
        return size < 1e15 ? count(Int(value.rounded())) : "\(value)"
    }

    private static func exponent(_ value: Double) -> String {
        var mantissa = abs(value)
        var power = 0
        while mantissa < 1, power > -330 {
            mantissa *= 10
            power -= 1
        }
        if fixed(mantissa, digits: 1) == "10.0" {
            mantissa = 1
            power += 1
        }
        let digits = power > -10 ? "0\(-power)" : "\(-power)"
        return (value < 0 ? "-" : "") + fixed(mantissa, digits: 1) + "e-" + digits
    }

    /// `1234567` as `1,234,567`.
    static func count(_ number: Int) -> String {
        var digits = Array(String(number.magnitude))
        var position = digits.count - 3
        while position > 0 {
            digits.insert(",", at: position)
            position -= 3
        }
        return (number < 0 ? "-" : "") + String(digits)
    }

    /// Sizes in powers of 1024: `482 B`, `1.4 KiB`, `93.0 MiB`.
    static func bytes(_ size: Int) -> String {
        if size < 1024 { return "\(size) B" }
        var value = Double(size)
        for unit in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
            value /= 1024
            if value < 1023.95 || unit == "PiB" { return fixed(value, digits: 1) + " " + unit }
        }
        return "\(size) B"
    }

    /// A span of time: `0.4s`, `12s`, `3m 04s`, `2h 05m`, `3d 04h`.
    static func span(seconds: Double) -> String {
        guard seconds.isFinite, seconds >= 0 else { return "-" }
        if seconds < 9.95 { return fixed(seconds, digits: 1) + "s" }
        guard seconds < 1e9 else { return "ages" }
        let whole = Int(seconds.rounded())
        if whole < 60 { return "\(whole)s" }
        if whole < 3600 { return "\(whole / 60)m \(padded(whole % 60))s" }
        if whole < 86_400 { return "\(whole / 3600)h \(padded(whole % 3600 / 60))m" }
        return "\(whole / 86_400)d \(padded(whole % 86_400 / 3600))h"
    }

    static func span(milliseconds: Int) -> String { span(seconds: Double(milliseconds) / 1000) }

    /// How long ago: `now`, `12s ago`, `3m ago`, `2h ago`, `5d ago`.
    static func age(milliseconds: Int) -> String {
        let seconds = milliseconds / 1000
        if seconds < 1 { return "now" }
        if seconds < 60 { return "\(seconds)s ago" }
        if seconds < 3600 { return "\(seconds / 60)m ago" }
        if seconds < 86_400 { return "\(seconds / 3600)h ago" }
        return "\(seconds / 86_400)d ago"
    }

    /// A rate with its unit: `31.2 lines/s`; slow ones by the minute: `4.2 steps/min`.
    static func rate(_ perSecond: Double, unit: String) -> String {
        guard perSecond.isFinite, perSecond >= 0 else { return "" }
        if perSecond > 0, perSecond < 0.2 {
            return fixed(perSecond * 60, digits: 1) + " \(unit)/min"
        }
        if perSecond < 100 { return fixed(perSecond, digits: 1) + " \(unit)/s" }
        guard perSecond < 1e15 else { return "" }
        return count(Int(perSecond.rounded())) + " \(unit)/s"
    }

    /// A share in percent: `93.1%`; more decimals near all and nothing, so that neither is claimed wrongly.
    static func percent(_ share: Double) -> String {
        for digits in 1...3 {
            let text = fixed(share * 100, digits: digits)
            if let shown = Double(text), (shown < 100) == (share < 1), (shown > 0) == (share > 0) {
                return text + "%"
            }
        }
        return fixed(share * 100, digits: 4) + "%"
    }

    /// `1 line`, `2 lines`.
    static func plural(_ number: Int, _ noun: String) -> String {
        "\(count(number)) \(noun)\(number == 1 ? "" : "s")"
    }

    private static func padded(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
}
