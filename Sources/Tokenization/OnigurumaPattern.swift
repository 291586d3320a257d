import PatternMatching

/// A regular expression as Oniguruma's Ruby syntax reads it (what `tokenizers` uses), for PCRE2.
///
/// What means something else in PCRE2 is translated; what has no counterpart is refused by name.
enum OnigurumaPattern {
    static func compile(_ source: String) throws(TokenizerError) -> Pattern {
        let translated = try translate(source)
        do {
            return try Pattern(translated, options: .multiline)
        } catch {
            throw TokenizerError(.unsupported, error.description)
        }
    }

    static func compile(literal: String) throws(TokenizerError) -> Pattern {
        var escaped = ""
        for scalar in literal.unicodeScalars {
            if scalar.isASCII, !scalar.properties.isAlphabetic, !("0"..."9").contains(scalar) {
                escaped.unicodeScalars.append("\\")
            }
            escaped.unicodeScalars.append(scalar)
        }
        do {
            return try Pattern(escaped)
        } catch {
            throw TokenizerError(.malformed, error.description)
        }
    }

    private static func translate(_ source: String) throws(TokenizerError) -> String {
        let bytes = Array(source.utf8)
        var result: [UInt8] = []
        var inClass = false
        var index = 0
        func refuse(_ what: String) -> TokenizerError {
            TokenizerError(.unsupported, "regular expression '\(source)': \(what)")
        }
        while index < bytes.count {
            let byte = bytes[index]
            let next = index + 1 < bytes.count ? bytes[index + 1] : 0
            switch byte {
            case UInt8(ascii: "\\"):
                result.append(contentsOf: escape(next, inClass: inClass))
                index += 2
                continue
            case UInt8(ascii: "["):
                if inClass {
                    guard next == UInt8(ascii: ":") else {
                        throw refuse("a class inside of a class is not supported")
                    }
                    guard let end = closeOfNamedClass(bytes, from: index + 2) else {
                        throw refuse("a named class without its end")
                    }
                    result.append(contentsOf: bytes[index...end])
                    index = end + 1
                    continue
                }
                inClass = true
                result.append(byte)
                if next == UInt8(ascii: "^") {
                    result.append(next)
                    index += 1
                }
                if index + 1 < bytes.count, bytes[index + 1] == UInt8(ascii: "]") {
                    result.append(contentsOf: Array("\\]".utf8))
                    index += 1
                }
            case UInt8(ascii: "]"):
                inClass = false
                result.append(byte)
            case UInt8(ascii: "&") where inClass && next == byte:
                throw refuse("the intersection of classes (&&) is not supported")
            case UInt8(ascii: "(") where !inClass && next == UInt8(ascii: "?"):
                let flags = inlineFlags(bytes, from: index + 2)
                result.append(contentsOf: Array("(?".utf8))
                // Ruby's m is PCRE2's s: the dot matches a newline too.
                for flag in flags {
                    result.append(flag == UInt8(ascii: "m") ? UInt8(ascii: "s") : flag)
                }
                index += 2 + flags.count
                continue
            default:
                result.append(byte)
            }
            index += 1
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// `\s` is White_Space (PCRE2's would take U+180E too), `\h` a hexadecimal digit.
    private static func escape(_ letter: UInt8, inClass: Bool) -> [UInt8] {
        switch letter {
        case UInt8(ascii: "h"): Array((inClass ? "0-9A-Fa-f" : "[0-9A-Fa-f]").utf8)
        case UInt8(ascii: "H") where !inClass: Array("[^0-9A-Fa-f]".utf8)
        case UInt8(ascii: "w") where inClass: Array(#"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}"#.utf8)
        case UInt8(ascii: "w"): Array(#"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]"#.utf8)
        case UInt8(ascii: "W") where !inClass:
            Array(#"[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]"#.utf8)
        case 0: [UInt8(ascii: "\\")]
        default: [UInt8(ascii: "\\"), letter]
        }
    }

    private static func closeOfNamedClass(_ bytes: [UInt8], from start: Int) -> Int? {
        var index = start
        while index + 1 < bytes.count {
            if bytes[index] == UInt8(ascii: ":"), bytes[index + 1] == UInt8(ascii: "]") {
                return index + 1
            }
            index += 1
        }
        return nil
    }

    /// The letters and `-` of `(?im-x:` or `(?i)`; empty for other groups.
    private static func inlineFlags(_ bytes: [UInt8], from start: Int) -> ArraySlice<UInt8> {
        var end = start
        while end < bytes.count, "imx-".utf8.contains(bytes[end]) { end += 1 }
        guard end < bytes.count, bytes[end] == UInt8(ascii: ":") || bytes[end] == UInt8(ascii: ")")
        else { return [] }
        return bytes[start..<end]
    }
}

/// The matchers of one encoding at a time, made when first needed.
final class MatcherSet {
    private var matchers: [ObjectIdentifier: PatternMatcher] = [:]

    func forEachMatch(
        of pattern: Pattern, in text: ArraySlice<UInt8>, _ body: (Range<Int>) -> Void
    ) throws(TokenizerError) {
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
