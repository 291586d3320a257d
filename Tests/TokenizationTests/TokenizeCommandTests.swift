import JSONModel
import Testing

@testable import Tokenization

@Suite struct TokenizeCommandTests {
    private func answer(_ line: String) throws -> JSONValue {
        let tokenizer = try Tokenizer(
            contentsOf: GoldenTokenizers.fixtures + "/llama3/tokenizer.json")
        return try JSONValue.parse(
            TokenizeCommand(tokenizer: tokenizer).answer(Array(line.utf8)))
    }

    @Test func answersBothWays() throws {
        #expect(
            try answer(#"{"text":"Hello, world!","add_special_tokens":true}"#)
                == ["ids": [904, 39, 311, 75, 78, 11, 270, 263, 75, 67, 0]])
        #expect(
            try answer(#"{"ids":[904,39,311,75,78],"skip_special_tokens":true}"#)
                == ["text": "Hello"])
        #expect(
            try answer(#"{"ids":[904,39,311,75,78],"skip_special_tokens":false}"#)
                == ["text": "<|begin_of_text|>Hello"])
    }

    @Test func streamsOnePieceAnIdAndTheFlush() throws {
        // Two halves of one character: nothing before it is whole.
        let tokenizer = try Tokenizer(
            contentsOf: GoldenTokenizers.fixtures + "/llama3/tokenizer.json")
        let ids = try tokenizer.encode("\u{1F408}", addSpecialTokens: false)
        let text = ids.map(String.init).joined(separator: ",")
        let pieces = try answer(#"{"ids":[\#(text)],"stream":true}"#)["pieces"]?.array ?? []
        #expect(pieces.count == ids.count + 1)
        #expect(pieces.compactMap(\.string).joined() == "\u{1F408}")
        #expect(pieces.dropLast(2).allSatisfy { $0 == "" })
    }

    @Test func everyFaultIsAnAnswer() throws {
        for line in ["{", "[]", "{}", #"{"text":1}"#, #"{"ids":[-1]}"#, #"{"ids":["a"]}"#] {
            #expect(try answer(line)["error"]?["code"] == "BAD_LINE", "\(line)")
        }
    }
}
