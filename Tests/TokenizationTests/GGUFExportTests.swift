import Foundation
import JSONModel
import ModelFiles
import Testing

@testable import Tokenization

/// A `tokenizer.json` said in GGUF's words makes the same ids.
@Suite struct GGUFExportTests {
    private static let texts = [
        "Hello, world! It's 1234567 o'clock.", "  zwei  Leerzeichen\n\nund\tTab ",
        "naïve café — 日本語 🙂",
        "<|im_start|>user\nHi<|im_end|>", "", "def f(x):\n    return x ** 2\r\n",
    ]

    private func json(_ name: String) throws -> JSONValue {
        try GoldenTokenizers.json(GoldenTokenizers.fixtures + "/\(name)/tokenizer.json")
    }

    private func exported(_ json: JSONValue) throws -> GGUFTokenizerData {
        let ids = json["model"]?["vocab"]?.object?.entries.compactMap(\.value.integer) ?? []
        let added = json["added_tokens"]?.array?.compactMap { $0["id"]?.integer } ?? []
        return try GGUFTokenizerData(
            json: json, special: SpecialTokenIDs(), unknownToken: nil, chatTemplate: "{{ x }}",
            vocabularySize: ((ids + added).max() ?? 0) + 3)
    }

    @Test(arguments: [("gpt2", "gpt-2"), ("smollm2", "smollm"), ("qwen2", "qwen2")])
    func idsAreTheSame(name: String, pre: String) throws {
        let json = try json(name)
        let data = try exported(json)
        #expect(data.preTokenizer == pre)
        #expect(data.kinds.suffix(2) == [.unused, .unused], "rows without a token")
        #expect(data.chatTemplate == "{{ x }}" && data.addsBeginning == false)
        let (own, there) = (try Tokenizer(json: json), try Tokenizer(gguf: data))
        for text in Self.texts {
            let ids = try own.encode(text, addSpecialTokens: true)
            #expect(try there.encode(text, addSpecialTokens: true) == ids, "\(text)")
        }
    }

    /// llama.cpp refuses the name; the file carries the `tokenizer.json` for those who read it.
    @Test func anUnknownPreTokenizerIsNotGivenAnothersName() throws {
        let seedling = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "examples/seedling/model/tokenizer.json").path
        let data = try exported(GoldenTokenizers.json(seedling))
        #expect(data.preTokenizer == GGUFTokenizerData.unknownPreTokenizer)
        #expect(throws: TokenizerError.self) { try Tokenizer(gguf: data) }
    }

    @Test(arguments: ["gemma", "llama2"])
    func otherModelsAreRefused(name: String) throws {
        let json = try json(name)
        let error = #expect(throws: TokenizerError.self) { try exported(json) }
        #expect(error.map { "\($0)".contains("byte-level") } == true)
    }

    @Test func aTokenWithoutARowIsRefused() throws {
        let json = try json("gpt2")
        #expect(throws: TokenizerError.self) {
            try GGUFTokenizerData(
                json: json, special: SpecialTokenIDs(), unknownToken: nil, chatTemplate: nil,
                vocabularySize: 5)
        }
    }
}
