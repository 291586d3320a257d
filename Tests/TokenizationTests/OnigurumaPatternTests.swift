import PatternMatching
import Testing

@testable import Tokenization

/// What Oniguruma inside of the `tokenizers` library (0.23) matches, found by its Split pre-tokenizer.
@Suite struct OnigurumaPatternTests {
    /// Scripts, marks, joiners, superscripts and scalars that Unicode 15 and 16 added.
    private static let text =
        "a1pLb {\u{B2}x-\u{B2}y} \u{E9}\u{180E}A\u{6F22}\u{3001}\u{30AB}\u{30CA}\u{3005}\u{3007} "
        + "\u{31350}x\u{1FAE8}!\u{1E4F0} \u{BD}_\u{363}\u{200D}b\u{B}\n"

    /// Expressions and the byte ranges of their matches.
    private static let cases: [(source: String, matches: String)] = [
        (#"\p{Han}+"#, "22-25 34-40 41-45"),
        (#"\p{Katakana}"#, "28-31 31-34"),
        (#"\P{Han}+"#, "0-22 25-34 40-41 45-67"),
        (#"[^\p{Han}]+"#, "0-22 25-34 40-41 45-67"),
        (#"[\P{Han}a]+"#, "0-22 25-34 40-41 45-67"),
        (#"[\p{Lu}\p{Lo}&&[^\p{Han}]]"#, "3-4 21-22 28-31 31-34"),
        (#"[^\p{L}&&[^a]]+"#, "0-2 5-9 10-13 14-16 18-21 25-28 37-41 46-64 65-67"),
        (#"[[:alpha:]]+"#, "0-1 2-5 9-10 13-14 16-18 21-25 28-40 41-46 59-61 64-65"),
        (#"[[:^alpha:]]+"#, "1-2 5-9 10-13 14-16 18-21 25-28 40-41 46-59 61-64 65-67"),
        (#"[[:punct:]]"#, "6-7 10-11 14-15 25-28 46-50 50-51 58-59"),
        (#"[[:word:]]+"#, "0-5 9-10 13-14 16-18 21-25 28-40 41-46 51-55 58-61 64-65"),
        (#"\w+"#, "0-5 7-10 11-14 16-18 21-25 28-40 41-46 51-55 56-61 64-65"),
        (#"\W+"#, "5-7 10-11 14-16 18-21 25-28 40-41 46-51 55-56 61-64 65-67"),
        (#"[\w]+"#, "0-5 9-10 13-14 16-18 21-25 28-40 41-46 51-55 58-61 64-65"),
        (#"\s+"#, "5-6 15-16 40-41 55-56 65-67"),
        (#"[^\s\p{L}\p{N}]+"#, "6-7 10-11 14-15 18-21 25-28 46-51 58-64"),
        (#"\p{N}{1,3}"#, "1-2 7-9 11-13 37-40 51-55 56-58"),
        (#"\p{Letter}+"#, "0-1 2-5 9-10 13-14 16-18 21-25 28-37 41-46 64-65"),
        (#"\p{Punct}"#, "6-7 10-11 14-15 25-28 50-51 58-59"),
        (#"\bx"#, ""),
        (#"b\B"#, ""),
        (#"x{,2}"#, "9-10 45-46"),
        (#"\pL"#, "2-4"),
        (#"[\p{S}]+"#, "46-50"),
        (#"\p{Alphabetic}+"#, "0-1 2-5 9-10 13-14 16-18 21-25 28-40 41-46 59-61 64-65"),
        (
            #"\p{Any}"#,
            "0-1 1-2 2-3 3-4 4-5 5-6 6-7 7-9 9-10 10-11 11-13 13-14 14-15 15-16 16-18 18-21 21-22 22-25 25-28 28-31 31-34 34-37 37-40 40-41 41-45 45-46 46-50 50-51 51-55 55-56 56-58 58-59 59-61 61-64 64-65 65-66 66-67"
        ),
        (#"[a[xy]]+"#, "0-1 9-10 13-14 45-46"),
        (#"\v"#, "65-66"),
        (#"[[:graph:]]+"#, "0-5 6-15 16-40 41-55 56-65"),
        (#"\p{Uppercase}"#, "3-4 21-22"),
        (#"(?m:x.)"#, "9-11 45-50"),
        (#"\u00e9"#, "16-18"),
        (#"\p{Emoji}"#, "1-2 46-50"),
    ]

    @Test func findsWhatTheLibraryFinds() throws {
        let matchers = MatcherSet()
        for (source, matches) in Self.cases {
            let pattern = try OnigurumaPattern.compile(source)
            var found: [String] = []
            try matchers.forEachMatch(of: pattern, in: Array(Self.text.utf8)[...]) { range in
                if !range.isEmpty { found.append("\(range.lowerBound)-\(range.upperBound)") }
            }
            #expect(found.joined(separator: " ") == matches, Comment(rawValue: source))
        }
    }

    @Test func bothFormsAgreeWithoutNewScalars() throws {
        let text = Array(Self.text.utf8)[..<18]
        #expect(!NewerScalars.occur(in: text))
        #expect(NewerScalars.occur(in: Array(Self.text.utf8)[...]))
        for (source, _) in Self.cases {
            let pattern = try OnigurumaPattern.compile(source)
            var found: [[Range<Int>]] = []
            for form in [pattern.plain, pattern.exact] {
                var ranges: [Range<Int>] = []
                try PatternMatcher(form).forEachMatch(inValidUTF8: text) { ranges.append($0) }
                found.append(ranges)
            }
            #expect(found[0] == found[1], Comment(rawValue: source))
        }
    }

    @Test func whatHasNoCounterpartIsRefusedByName() {
        for (source, part) in [
            (#"\p{InBasicLatin}x"#, "inbasiclatin"), (#"[[:foo:]]"#, "foo"), (#"a{1,2}+"#, "+"),
            (#"\y"#, "y"), ("[a", "class"),
        ] {
            do {
                _ = try OnigurumaPattern.compile(source)
                Issue.record("\(source) is accepted")
            } catch {
                #expect(error.code == .unsupported)
                #expect(error.message.contains(part), "\(error.message)")
                #expect(error.message.contains(source), "\(error.message)")
            }
        }
    }
}
