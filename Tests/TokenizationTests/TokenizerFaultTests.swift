import JSONModel
import ModelFiles
import Testing

@testable import Tokenization

/// Files that are wrong or hold what is not understood: refused, by name.
@Suite struct TokenizerFaultTests {
    private func json(_ kind: String = "smollm2") throws -> JSONObject {
        try GoldenTokenizers.json(GoldenTokenizers.fixtures + "/\(kind)/tokenizer.json").object
            ?? JSONObject()
    }

    private func fault(_ json: JSONObject) -> TokenizerError? {
        do {
            _ = try Tokenizer(json: .object(json))
            return nil
        } catch {
            return error
        }
    }

    @Test(arguments: ["normalizer", "pre_tokenizer", "post_processor", "decoder"])
    func anUnknownComponentIsRefusedByName(_ place: String) throws {
        var file = try json()
        file[place] = ["type": "Nonsense"]
        let error = fault(file)
        #expect(error?.code == .unsupported)
        #expect(error?.message.contains("Nonsense") == true)
        #expect(error?.message.contains(place) == true)
    }

    @Test func anUnknownModelIsRefused() throws {
        var file = try json()
        file["model"] = ["type": "WordPiece", "vocab": [:] as JSONValue]
        #expect(fault(file)?.message.contains("WordPiece") == true)
    }

    @Test func aMergeWithoutItsTokenIsRefused() throws {
        var file = try json()
        file["model"] = [
            "type": "BPE", "vocab": ["a": 0, "b": 1] as JSONValue, "merges": ["a b"] as JSONValue,
        ]
        #expect(fault(file)?.message.contains("'ab'") == true)
    }

    @Test func idsThatWouldReserveMemoryAreRefused() throws {
        var file = try json()
        file["model"] = [
            "type": "BPE", "vocab": ["a": 2_000_000_000] as JSONValue, "merges": [] as JSONValue,
        ]
        #expect(fault(file)?.code == .malformed)
    }

    @Test func aCutOrChangedCompiledFormNeverCrashes() throws {
        let tokenizer = try Tokenizer(json: .object(try json("qwen2")))
        let form = tokenizer.compiledForm()
        var seed: UInt64 = 7
        func next() -> Int {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(seed >> 33)
        }
        for round in 0..<60 {
            var bytes = form
            if round % 3 == 0 {
                bytes.removeLast(1 + next() % (bytes.count - 1))
            } else {
                for _ in 0..<4 { bytes[next() % bytes.count] = UInt8(next() & 0xFF) }
            }
            let file = try TemporaryFile(bytes)
            if let changed = try? Tokenizer(contentsOf: file.path) {
                let ids = try changed.encode("The queue keeps \u{1F408}", addSpecialTokens: true)
                _ = changed.decode(ids, skipSpecialTokens: false)
            }
        }
    }

    @Test func aGGUFTokenizerGivesTheSameIds() throws {
        let file = try json("smollm2")
        let vocabulary = file["model"]?["vocab"]?.object?.entries ?? []
        var tokens = [JSONValue](repeating: "", count: vocabulary.count)
        for (text, id) in vocabulary { tokens[id.integer ?? 0] = .string(text) }
        var kinds = [JSONValue](repeating: 1, count: tokens.count)
        for added in file["added_tokens"]?.array ?? [] {
            let id = added["id"]?.integer ?? 0
            if id < kinds.count { kinds[id] = 3 }
        }
        let data = try GGUFTokenizerData(
            json: [
                "model": "gpt2", "pre": "smollm", "tokens": .array(tokens), "kinds": .array(kinds),
                "merges": file["model"]?["merges"] ?? [],
            ], path: "smollm2.gguf")
        let fromGGUF = try Tokenizer(gguf: data)
        let cases = try GoldenTokenizers.json(GoldenTokenizers.fixtures + "/smollm2/cases.json")
        for test in cases["cases"]?.array ?? [] {
            let text = test["text"]?.string ?? ""
            #expect(try fromGGUF.encode(text, addSpecialTokens: false) == test["ids"]?.ids)
        }
    }
}
