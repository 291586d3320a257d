import JSONModel
import Testing

@testable import Tokenization

/// Byte-level vocabularies that lack characters of the byte alphabet: ids as the library (0.23) gives them.
@Suite struct BytePairModelTests {
    private func tokenizer(_ options: [String: JSONValue]) throws -> Tokenizer {
        var model: JSONObject = JSONObject([
            ("type", "BPE"),
            (
                "vocab",
                [
                    "<unk>": 0, "a": 1, "b": 2, "ab": 3, "Ġ": 4, "Ã": 5, "<0xC4>": 6, "<0x8A>": 7,
                    "<0xC2>": 8, "<0xA9>": 9,
                ]
            ), ("merges", ["a b"]),
        ])
        for (key, value) in options { model[key] = value }
        return try Tokenizer(
            json: [
                "model": .object(model),
                "pre_tokenizer": [
                    "type": "ByteLevel", "add_prefix_space": false, "use_regex": false,
                ],
            ])
    }

    private static let unknown: [String: JSONValue] = ["unk_token": "<unk>"]
    private static let cases: [(options: [String: JSONValue], text: String, ids: [Int32])] = [
        ([:], "ab cd\nab", [3, 4, 3]), ([:], "é a", [5, 4, 1]), ([:], "cc", []),
        (unknown, "ab cd\nab", [3, 4, 0, 0, 0, 3]), (unknown, "é a", [5, 0, 4, 1]),
        (unknown.merging(["fuse_unk": true]) { $1 }, "ab cd\nab", [3, 4, 0, 3]),
        (unknown.merging(["fuse_unk": true]) { $1 }, "cc", [0]),
        (
            unknown.merging(["byte_fallback": true]) { $1 }, "ab cd\nab",
            [3, 4, 0, 6, 7, 0, 3]
        ),
        (unknown.merging(["byte_fallback": true]) { $1 }, "é a", [5, 8, 9, 4, 1]),
        (unknown.merging(["ignore_merges": true]) { $1 }, "ab cd\nab", [3, 4, 0, 0, 0, 3]),
    ]

    @Test func missingBytesBecomeWhatTheOptionsSay() throws {
        for (options, text, ids) in Self.cases {
            let tokenizer = try tokenizer(options)
            let place = Comment(rawValue: "\(text.debugDescription) with \(options)")
            #expect(try tokenizer.encode(text, addSpecialTokens: false) == ids, place)
            let ranged = try tokenizer.encodeWithRanges(text, addSpecialTokens: false)
            #expect(ranged.ids == ids, place)
            #expect(
                ranged.ranges.isEmpty || ranged.ranges.last?.upperBound == text.utf8.count, place)
        }
    }

    @Test func rangesCountRawBytes() throws {
        let ranged = try tokenizer(Self.unknown).encodeWithRanges(
            "ab cd\nab", addSpecialTokens: false)
        #expect(ranged.ranges == [0..<2, 2..<3, 3..<4, 4..<5, 5..<6, 6..<8])
        // A left-out character never shifts the tokens after it.
        let dropped = try tokenizer([:]).encodeWithRanges("ab cd\nab", addSpecialTokens: false)
        #expect(dropped.ranges == [0..<2, 2..<3, 3..<8])
    }
}
