/// HTML or SVG text. Whatever is interpolated into it is escaped, unless it is markup itself: text from a model, a file or a
/// person cannot become an element, an attribute or a script.
///
///     let cell: Markup = "<td title=\"\(reason)\">\(answer)</td>"
struct Markup: ExpressibleByStringInterpolation, Equatable {
    private(set) var text: String

    init() { text = "" }
    init(stringLiteral value: String) { text = value }
    init(stringInterpolation: StringInterpolation) { text = stringInterpolation.text }

    init(joining parts: [Markup], by separator: String = "") {
        text = parts.map(\.text).joined(separator: separator)
    }

    static func += (left: inout Markup, right: Markup) { left.text += right.text }
    static func + (left: Markup, right: Markup) -> Markup {
        var sum = left
        sum += right
        return sum
    }

    struct StringInterpolation: StringInterpolationProtocol {
        var text = ""

        init(literalCapacity: Int, interpolationCount: Int) {
            text.reserveCapacity(literalCapacity + 16 * interpolationCount)
        }
        mutating func appendLiteral(_ literal: String) { text += literal }
        mutating func appendInterpolation(_ markup: Markup) { text += markup.text }
        mutating func appendInterpolation(_ value: String) { text += Markup.escaped(value) }
        mutating func appendInterpolation(_ value: Int) { text += String(value) }
        /// A coordinate: two decimals, never in exponent form.
        mutating func appendInterpolation(at value: Double) {
            text += value.isFinite ? HumanText.fixed(value, digits: 2) : "0"
        }
    }

    /// Safe between tags and inside quoted attributes. Control characters are shown by their pictures, so that nothing is
    /// hidden; those that turn the direction of writing too.
    static func escaped(_ text: String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result.append(contentsOf: "&amp;".unicodeScalars)
            case "<": result.append(contentsOf: "&lt;".unicodeScalars)
            case ">": result.append(contentsOf: "&gt;".unicodeScalars)
            case "\"": result.append(contentsOf: "&quot;".unicodeScalars)
            case "'": result.append(contentsOf: "&#39;".unicodeScalars)
            case "\n", "\t": result.append(scalar)
            case _ where scalar.value < 0x20:
                result.append(Unicode.Scalar(0x2400 + scalar.value) ?? "\u{FFFD}")
            case _ where (0x7F...0x9F).contains(scalar.value): result.append("\u{FFFD}")
            case _ where isDirection(scalar): result.append("\u{FFFD}")
            default: result.append(scalar)
            }
        }
        return String(result)
    }

    private static func isDirection(_ scalar: Unicode.Scalar) -> Bool {
        (0x202A...0x202E).contains(scalar.value) || (0x2066...0x2069).contains(scalar.value)
    }
}
