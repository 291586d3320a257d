/// A regular expression as Python's `re` reads it, for `target_modules` and the like of PEFT.
///
/// PCRE2's syntax holds nearly all of Python's; `\Z` (the very end) is translated. Constructs that
/// only one of them has and that change the meaning are refused by PCRE2's own syntax errors.
public struct PythonPattern: Sendable {
    public let source: String
    private let pattern: Pattern

    /// - Throws: `PatternError.syntax` with the byte offset.
    public init(_ source: String) throws(PatternError) {
        self.source = source
        self.pattern = try Pattern(PythonPattern.translated(source))
    }

    /// `re.fullmatch(source, text) is not None`.
    public func fullMatches(_ text: String) throws(PatternError) -> Bool {
        try PatternMatcher(pattern).match(text, anchoring: .whole) != nil
    }

    /// `re.match(source, text)`: at the start of the text; the text of each group.
    public func match(_ text: String) throws(PatternError) -> [String?]? {
        try groups(text, .start)
    }

    /// `re.search(source, text)`.
    public func search(_ text: String) throws(PatternError) -> [String?]? {
        try groups(text, .anywhere)
    }

    private func groups(
        _ text: String, _ anchoring: PatternMatcher.Anchoring
    ) throws(PatternError) -> [String?]? {
        guard let match = try PatternMatcher(pattern).match(text, anchoring: anchoring) else {
            return nil
        }
        let bytes = Array(text.utf8)
        return match.ranges.map { range in
            range.map { String(decoding: bytes[$0], as: UTF8.self) }
        }
    }

    private static func translated(_ source: String) -> String {
        var result: [UInt8] = []
        var escaped = false
        for byte in source.utf8 {
            if escaped, byte == UInt8(ascii: "Z") {
                result.append(UInt8(ascii: "z"))
                escaped = false
                continue
            }
            escaped = !escaped && byte == UInt8(ascii: "\\")
            result.append(byte)
        }
        return String(decoding: result, as: UTF8.self)
    }
}
