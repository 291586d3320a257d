import JSONModel
import Testing

@testable import Tokenization

/// Components of the library (0.23) that know an older Unicode than today's.
@Suite struct OldTablesTests {
    private func pieces(_ preTokenizer: JSONValue, _ text: String) throws -> [String] {
        var buffer = PieceBuffer(NormalizedText(bytes: Array(text.utf8), base: 0))
        try PreTokenizer(preTokenizer).apply(to: &buffer, MatcherSet(), raw: false)
        return buffer.pieces.map { String(decoding: buffer.text.bytes[$0], as: UTF8.self) }
    }

    private func normalized(_ normalizer: JSONValue, _ text: String) throws -> [UInt32] {
        var result = NormalizedText(bytes: Array(text.utf8), base: 0)
        try Normalizer(normalizer).apply(to: &result, MatcherSet())
        return String(decoding: result.bytes, as: UTF8.self).unicodeScalars.map(\.value)
    }

    @Test func aJoinerIsPartOfAWord() throws {
        #expect(
            try pieces(["type": "Whitespace"], "a\u{200D}b c\u{200C}!\u{31350} \u{180E}x")
                == ["a\u{200D}b", "c\u{200C}", "!", "\u{31350}", "\u{180E}", "x"])
    }

    @Test func normalFormsLeaveNewerScalarsAlone() throws {
        // SQUARE ERA NAME REIWA came with Unicode 12.1, NKO DANTAYALAN with 11.
        #expect(
            try normalized(["type": "NFKC"], "\u{32FF}\u{337F}") == [
                0x32FF, 0x682A, 0x5F0F, 0x4F1A, 0x793E,
            ])
        #expect(try normalized(["type": "NFD"], "\u{7FD}\u{323}") == [0x7FD, 0x323])
        #expect(try normalized(["type": "NFD"], "\u{301}\u{323}") == [0x323, 0x301])
        #expect(
            try normalized(["type": "StripAccents"], "a\u{301}\u{7FD}\u{1CF2}") == [0x61, 0x7FD])
    }

    @Test func newerPunctuationIsNone() throws {
        #expect(
            try pieces(["type": "Punctuation"], "a\u{61D}b\u{61F}") == ["a\u{61D}b", "\u{61F}"])
        #expect(try pieces(["type": "Punctuation"], "a\u{166D}") == ["a", "\u{166D}"])
    }

    @Test func metaspaceFirstAsksWhereTheTextCameFrom() throws {
        // The library asks for the last character that a replacement took the place of.
        let metaspace: JSONValue = [
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false,
        ]
        for (text, prefixed) in [("bb a", false), ("b a", true), ("中中 a", true)] {
            var given = NormalizedText(bytes: Array(text.utf8), base: 0)
            try Normalizer([
                "type": "Replace", "pattern": ["Regex": "b+"], "content": "x",
            ]).apply(to: &given, MatcherSet())
            var buffer = PieceBuffer(given)
            try PreTokenizer(metaspace).apply(to: &buffer, MatcherSet(), raw: false)
            #expect(buffer.text.bytes.starts(with: Array("▁".utf8)) == prefixed, "\(text)")
        }
    }

    /// Would take minutes if each piece cost as much as there are pieces.
    @Test func manyPiecesAreCutInLinearTime() throws {
        let text = String(repeating: "a-1 ", count: 100_000)
        let cut = try pieces(
            [
                "type": "Sequence",
                "pretokenizers": [
                    ["type": "WhitespaceSplit"], ["type": "Digits", "individual_digits": true],
                    ["type": "Punctuation", "behavior": "MergedWithPrevious"],
                    ["type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"],
                ],
            ], text)
        #expect(cut.count == 200_000 && cut.prefix(3) == ["▁a-", "▁1", "▁a-"])
    }
}
