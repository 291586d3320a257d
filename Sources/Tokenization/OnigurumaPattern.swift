import PatternMatching

/// A regular expression in two forms that match alike but for `NewerScalars`, which only the exact
/// form knows: texts without any of them are matched by the plain one, which is faster.
struct TextPattern: Sendable {
    let plain: Pattern
    let exact: Pattern

    func form(for text: ArraySlice<UInt8>) -> Pattern {
        plain !== exact && NewerScalars.occur(in: text) ? exact : plain
    }
}

/// A regular expression as Oniguruma's Ruby syntax reads it (what `tokenizers` uses), for PCRE2.
///
/// What means something else in PCRE2 is translated; what has no counterpart is refused by name.
struct OnigurumaPattern {
    private let source: String
    private let bytes: [UInt8]
    private let classes: OnigurumaClasses
    private var index = 0
    private var result: [UInt8] = []

    static func compile(_ source: String) throws(TokenizerError) -> TextPattern {
        let plain = try translate(source, exact: false)
        let exact = try translate(source, exact: true)
        do {
            let first = try Pattern(plain, options: .multiline)
            return TextPattern(
                plain: first,
                exact: exact == plain ? first : try Pattern(exact, options: .multiline))
        } catch {
            throw TokenizerError(
                .unsupported, "regular expression '\(source)': \(error.description)")
        }
    }

    static func compile(literal: String) throws(TokenizerError) -> TextPattern {
        var escaped = ""
        for scalar in literal.unicodeScalars {
            if scalar.isASCII, !scalar.properties.isAlphabetic, !("0"..."9").contains(scalar) {
                escaped.unicodeScalars.append("\\")
            }
            escaped.unicodeScalars.append(scalar)
        }
        do {
            let pattern = try Pattern(escaped)
            return TextPattern(plain: pattern, exact: pattern)
        } catch {
            throw TokenizerError(.malformed, error.description)
        }
    }

    /// - Parameter exact: classes hold `NewerScalars` too.
    static func translate(
        _ source: String, exact: Bool
    ) throws(TokenizerError) -> String {
        var translation = OnigurumaPattern(
            source: source, bytes: Array(source.utf8), classes: OnigurumaClasses(exact: exact))
        try translation.run()
        return String(decoding: translation.result, as: UTF8.self)
    }

    private init(source: String, bytes: [UInt8], classes: OnigurumaClasses) {
        self.source = source
        self.bytes = bytes
        self.classes = classes
    }

    private func refused(_ what: String) -> TokenizerError {
        TokenizerError(.unsupported, "regular expression '\(source)': \(what)")
    }

    private func byte(_ offset: Int) -> UInt8 {
        index + offset < bytes.count ? bytes[index + offset] : 0
    }

    private mutating func append(_ text: String) { result.append(contentsOf: text.utf8) }

    private mutating func run() throws(TokenizerError) {
        while index < bytes.count {
            switch bytes[index] {
            case UInt8(ascii: "\\"): try escape()
            case UInt8(ascii: "["): append(try characterClass(depth: 0))
            case UInt8(ascii: "(") where byte(1) == UInt8(ascii: "?"): openGroup()
            case UInt8(ascii: "{"): try interval()
            default:
                result.append(bytes[index])
                index += 1
            }
        }
    }

    // MARK: Outside of classes

    private mutating func escape() throws(TokenizerError) {
        if let (set, length) = try namedSet() {
            index += length
            append(set.expression)
            return
        }
        let letter = byte(1)
        index += 2
        switch letter {
        case 0: append("\\")
        // Without braces it is a plain p.
        case UInt8(ascii: "p"), UInt8(ascii: "P"): result.append(letter)
        case UInt8(ascii: "v"): append("\\x0b")
        case UInt8(ascii: "O"): append("(?s:.)")
        case UInt8(ascii: "b"), UInt8(ascii: "B"):
            let word = classes.word(quirk: true).expression
            append(
                letter == UInt8(ascii: "b")
                    ? "(?:(?<=\(word))(?!\(word))|(?<!\(word))(?=\(word)))"
                    : "(?:(?<=\(word))(?=\(word))|(?<!\(word))(?!\(word)))")
        case UInt8(ascii: "u"): append(try fourDigits())
        case UInt8(ascii: "y"), UInt8(ascii: "Y"), UInt8(ascii: "g"), UInt8(ascii: "c"),
            UInt8(ascii: "C"), UInt8(ascii: "M"):
            throw refused("\\\(Unicode.Scalar(letter)) is not supported")
        default:
            append("\\")
            result.append(letter)
        }
    }

    /// The `0041` after `\u`, as PCRE2 writes it.
    private mutating func fourDigits() throws(TokenizerError) -> String {
        let digits = bytes[index..<min(index + 4, bytes.count)]
        guard digits.count == 4,
            let code = UInt32(String(decoding: digits, as: UTF8.self), radix: 16)
        else { throw refused("\\u without four hexadecimal digits") }
        index += 4
        return "\\x{\(String(code, radix: 16))}"
    }

    /// The letters and `-` of `(?im-x:` or `(?i)`: Ruby's m is PCRE2's s, the dot matches a newline too.
    private mutating func openGroup() {
        var end = index + 2
        while end < bytes.count, "imx-".utf8.contains(bytes[end]) { end += 1 }
        let isFlags =
            end < bytes.count
            && (bytes[end] == UInt8(ascii: ":") || bytes[end] == UInt8(ascii: ")"))
        append("(?")
        if isFlags {
            for flag in bytes[(index + 2)..<end] {
                result.append(flag == UInt8(ascii: "m") ? UInt8(ascii: "s") : flag)
            }
        }
        index = isFlags ? end : index + 2
    }

    /// `{,n}` is `{0,n}`, and a `+` after an interval repeats it.
    private mutating func interval() throws(TokenizerError) {
        var end = index + 1
        while end < bytes.count, "0123456789,".utf8.contains(bytes[end]) { end += 1 }
        guard end < bytes.count, end > index + 1, bytes[end] == UInt8(ascii: "}") else {
            result.append(bytes[index])
            index += 1
            return
        }
        if byte(1) == UInt8(ascii: ","), end > index + 2 {
            append("{0")
            index += 1
        }
        result.append(contentsOf: bytes[index...end])
        index = end + 1
        if byte(0) == UInt8(ascii: "+") { throw refused("a + after {…} is not supported") }
    }

    // MARK: Classes

    /// The set that an escape or `[:…:]` at the index names, and its length; nil for anything else.
    private func namedSet(
        inClass: Bool = false
    ) throws(TokenizerError) -> (set: OnigurumaClasses.NamedSet, length: Int)? {
        let letter = byte(1)
        switch letter {
        case UInt8(ascii: "p"), UInt8(ascii: "P"):
            guard byte(2) == UInt8(ascii: "{"),
                let end = bytes[index...].firstIndex(of: UInt8(ascii: "}"))
            else { return nil }
            var name = String(decoding: bytes[(index + 3)..<end], as: UTF8.self)
            var isNegated = letter == UInt8(ascii: "P")
            if name.hasPrefix("^") {
                name.removeFirst()
                isNegated.toggle()
            }
            guard var set = classes.property(name) else {
                throw refused("the property \\p{\(name)} is not supported")
            }
            set.isNegated = isNegated
            return (set, end + 1 - index)
        case UInt8(ascii: "w"), UInt8(ascii: "W"):
            var set = classes.word(quirk: !inClass)
            set.isNegated = letter == UInt8(ascii: "W")
            return (set, 2)
        case UInt8(ascii: "s"), UInt8(ascii: "S"), UInt8(ascii: "d"), UInt8(ascii: "D"),
            UInt8(ascii: "h"), UInt8(ascii: "H"):
            var set = classes.escaped(letter | 0x20)
            set.isNegated = letter & 0x20 == 0
            return (set, 2)
        default: return nil
        }
    }

    /// Reads the class at the index (at its `[`): an expression that matches one character.
    private mutating func characterClass(depth: Int) throws(TokenizerError) -> String {
        guard depth < 16 else { throw refused("classes nested deeper than 16") }
        index += 1
        let isNegated = byte(0) == UInt8(ascii: "^")
        if isNegated { index += 1 }
        var operands: [String] = []
        var union = CharacterUnion()
        if byte(0) == UInt8(ascii: "]") {
            union.items.append(contentsOf: "\\]".utf8)
            index += 1
        }
        while true {
            guard index < bytes.count else { throw refused("a class without its end") }
            switch bytes[index] {
            case UInt8(ascii: "]"):
                index += 1
                guard !operands.isEmpty else { return union.expression(isNegated: isNegated) }
                let last = union.expression(isNegated: false)
                let both = operands.map { "(?=\($0))" }.joined() + last
                return isNegated ? "(?:(?!\(both))(?s:.))" : "(?:\(both))"
            case UInt8(ascii: "&") where byte(1) == UInt8(ascii: "&"):
                operands.append(union.expression(isNegated: false))
                union = CharacterUnion()
                index += 2
            case UInt8(ascii: "["):
                if byte(1) == UInt8(ascii: ":"), let (set, length) = try bracketSet() {
                    union.add(set)
                    index += length
                } else {
                    union.others.append(try characterClass(depth: depth + 1))
                }
            case UInt8(ascii: "\\"): try escape(into: &union)
            default:
                union.items.append(bytes[index])
                index += 1
            }
        }
    }

    private mutating func escape(into union: inout CharacterUnion) throws(TokenizerError) {
        if let (set, length) = try namedSet(inClass: true) {
            union.add(set)
            index += length
            return
        }
        let letter = byte(1)
        index += 2
        switch letter {
        case 0: throw refused("a class without its end")
        case UInt8(ascii: "v"): union.items.append(contentsOf: "\\x0b".utf8)
        case UInt8(ascii: "u"): union.items.append(contentsOf: try fourDigits().utf8)
        case UInt8(ascii: "p"), UInt8(ascii: "P"): union.items.append(letter)
        case UInt8(ascii: "R"), UInt8(ascii: "X"), UInt8(ascii: "c"), UInt8(ascii: "C"),
            UInt8(ascii: "M"):
            throw refused("\\\(Unicode.Scalar(letter)) inside of a class is not supported")
        default: union.items += [UInt8(ascii: "\\"), letter]
        }
    }

    /// `[:alpha:]` or `[:^alpha:]` at the index; nil if it is no such thing.
    private func bracketSet() throws(TokenizerError) -> (
        set: OnigurumaClasses.NamedSet, length: Int
    )? {
        var end = index + 2
        if byte(2) == UInt8(ascii: "^") { end += 1 }
        let start = end
        while end < bytes.count, bytes[end] >= UInt8(ascii: "a"), bytes[end] <= UInt8(ascii: "z") {
            end += 1
        }
        guard end + 1 < bytes.count, bytes[end] == UInt8(ascii: ":"),
            bytes[end + 1] == UInt8(ascii: "]")
        else { return nil }
        let name = String(decoding: bytes[start..<end], as: UTF8.self)
        guard var set = classes.bracket(name) else {
            throw refused("the class [:\(name):] is not known")
        }
        set.isNegated = byte(2) == UInt8(ascii: "^")
        return (set, end + 2 - index)
    }
}

/// What the parts of a class add up to.
private struct CharacterUnion {
    /// What stands inside of `[…]` in PCRE2.
    var items: [UInt8] = []
    /// Expressions of one character each that no item can say.
    var others: [String] = []

    mutating func add(_ set: OnigurumaClasses.NamedSet) {
        if let item = set.classItem {
            items.append(contentsOf: item.utf8)
        } else {
            others.append(set.expression)
        }
    }

    func expression(isNegated: Bool) -> String {
        let text = String(decoding: items, as: UTF8.self)
        if others.isEmpty { return isNegated ? "[^\(text)]" : "[\(text)]" }
        let all = (items.isEmpty ? [] : ["[\(text)]"]) + others
        let either = "(?:\(all.joined(separator: "|")))"
        return isNegated ? "(?:(?!\(either))(?s:.))" : either
    }
}

/// The matchers of one encoding at a time, made when first needed.
final class MatcherSet {
    private var matchers: [ObjectIdentifier: PatternMatcher] = [:]

    func forEachMatch(
        of pattern: TextPattern, in text: ArraySlice<UInt8>, _ body: (Range<Int>) -> Void
    ) throws(TokenizerError) {
        let pattern = pattern.form(for: text)
        do {
            let matcher: PatternMatcher
            if let found = matchers[ObjectIdentifier(pattern)] {
                matcher = found
            } else {
                matcher = try PatternMatcher(pattern)
                matchers[ObjectIdentifier(pattern)] = matcher
            }
            try matcher.forEachMatch(inValidUTF8: text, body)
        } catch {
            throw TokenizerError(error.code == .limit ? .limit : .malformed, error.description)
        }
    }
}
