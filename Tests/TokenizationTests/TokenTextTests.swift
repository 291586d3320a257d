import Testing

@testable import Tokenization

/// What a token adds in the middle of a text.
@Suite struct TokenTextTests {
    private let text = "The queue keeps \u{1F408} it, naïve\n  twice"

    @Test(arguments: GoldenTokenizers.folders)
    func theBytesOfAllTokensAreTheText(_ folder: String) throws {
        let tokenizer = try Tokenizer(contentsOf: folder + "/tokenizer.json")
        let ids = try tokenizer.encode(text, addSpecialTokens: false)
        let joined = ids.flatMap { tokenizer.bytes(ofToken: $0) }
        let decoded = Array(tokenizer.decode(ids, skipSpecialTokens: false).utf8)
        // The decoder may take the space before the first word.
        #expect(joined == decoded || joined == [0x20] + decoded, "\(folder)")
    }

    @Test func sentencePieceTokensKeepTheirSpace() throws {
        let tokenizer = try Tokenizer(
            contentsOf: GoldenTokenizers.fixtures + "/llama2/tokenizer.json")
        let ids = try tokenizer.encode(text, addSpecialTokens: false)
        let texts = ids.map { TokenText($0, tokenizer) }
        #expect(texts.allSatisfy { !$0.text.contains("▁") })
        #expect(texts.first?.text.hasPrefix(" ") == true)
        // A cat is four byte tokens here: parts of a character, shown byte by byte.
        #expect(texts.map(\.text).joined().contains(#"\xf0\x9f\x90\x88"#))
        #expect(texts.filter(\.isPartial).map(\.completionText).first == #"bytes:\xf0"#)
    }

    @Test func partsOfCharactersAreShownAsBytes() {
        #expect(TokenText(bytes: [0x20, 0xE4, 0xB8]).text == #" \xe4\xb8"#)
        #expect(TokenText(bytes: [0xAD, 0x61, 0xC3, 0xA9, 0x0]).text == #"\xadaé"# + "\0")
        #expect(TokenText(bytes: [0x0A, 0xFF, 0x01]).text == "\n" + #"\xff"# + "\u{1}")
        #expect(!TokenText(bytes: Array("é".utf8)).isPartial)
    }

    @Test func anIdWithoutATokenHasNoBytes() throws {
        let tokenizer = try Tokenizer(
            contentsOf: GoldenTokenizers.fixtures + "/gpt2/tokenizer.json")
        #expect(tokenizer.bytes(ofToken: 3_000_000).isEmpty)
        #expect(tokenizer.bytes(ofToken: -1).isEmpty)
    }
}
