import JSONModel
import Testing

@testable import Tokenization

@Suite struct GoldenTokenizerTests {
    @Test(arguments: GoldenTokenizers.folders)
    func encodesAndDecodesAsTheLibrary(_ folder: String) throws {
        let tokenizer = try Tokenizer(contentsOf: folder + "/tokenizer.json")
        let cases = try GoldenTokenizers.json(folder + "/cases.json")
        for (index, test) in (cases["cases"]?.array ?? []).enumerated() {
            let text = test["text"]?.string ?? ""
            let place = Comment(rawValue: "case \(index): \(text.debugDescription)")
            let ids = try tokenizer.encode(text, addSpecialTokens: false)
            #expect(ids == test["ids"]?.ids, place)
            let special = test["ids_special"]?.ids ?? []
            #expect(try tokenizer.encode(text, addSpecialTokens: true) == special, place)
            expectBytes(tokenizer.decode(special, skipSpecialTokens: false), test["decoded"], place)
            expectBytes(
                tokenizer.decode(special, skipSpecialTokens: true), test["decoded_skip"], place)
            let ranged = try tokenizer.encodeWithRanges(text, addSpecialTokens: false)
            #expect(ranged.ids == ids, place)
            #expect(ranged.ranges.allSatisfy { $0.upperBound <= text.utf8.count }, place)
        }
    }

    @Test(arguments: GoldenTokenizers.folders)
    func decodesIdsThatNoTextGives(_ folder: String) throws {
        let tokenizer = try Tokenizer(contentsOf: folder + "/tokenizer.json")
        let cases = try GoldenTokenizers.json(folder + "/cases.json")
        for (index, test) in (cases["decode"]?.array ?? []).enumerated() {
            let ids = test["ids"]?.ids ?? []
            let place = Comment(rawValue: "decode \(index): \(ids)")
            expectBytes(tokenizer.decode(ids, skipSpecialTokens: false), test["decoded"], place)
            expectBytes(tokenizer.decode(ids, skipSpecialTokens: true), test["decoded_skip"], place)
        }
    }

    @Test(
        "KINDS 17: streaming gives out what is certain, and all of it in the end",
        arguments: GoldenTokenizers.folders)
    func streamsOnlyWhatIsCertain(_ folder: String) throws {
        let tokenizer = try Tokenizer(contentsOf: folder + "/tokenizer.json")
        let cases = try GoldenTokenizers.json(folder + "/cases.json")
        for (index, test) in (cases["stream"]?.array ?? []).enumerated() {
            let ids = test["ids"]?.ids ?? []
            let text = Array((test["text"]?.string ?? "").unicodeScalars)
            let stable = test["stable"]?.array?.compactMap(\.integer) ?? []
            let eager = test["eager"]?.array?.compactMap(\.integer) ?? []
            var stream = StreamingDecoder(tokenizer)
            var given: [Unicode.Scalar] = []
            for (position, id) in ids.enumerated() {
                given += Array(stream.push(id).unicodeScalars)
                let place = Comment(rawValue: "stream \(index), token \(position)")
                #expect(text.starts(with: given), place)
                #expect(given.count <= eager[position], place)
                #expect(given.count >= stable[position], place)
            }
            given += Array(stream.finish().unicodeScalars)
            #expect(given == text, "stream \(index)")
        }
    }

    @Test(arguments: GoldenTokenizers.folders)
    func theCompiledFormIsTheSame(_ folder: String) throws {
        let tokenizer = try Tokenizer(contentsOf: folder + "/tokenizer.json")
        let file = try TemporaryFile(tokenizer.compiledForm())
        let compiled = try Tokenizer(contentsOf: file.path)
        let cases = try GoldenTokenizers.json(folder + "/cases.json")
        for test in cases["cases"]?.array ?? [] {
            let text = test["text"]?.string ?? ""
            #expect(
                try compiled.encode(text, addSpecialTokens: true) == test["ids_special"]?.ids)
        }
    }

    private func expectBytes(_ text: String, _ expected: JSONValue?, _ place: Comment) {
        let expected = expected?.string ?? ""
        #expect(text.utf8.elementsEqual(expected.utf8), place)
    }
}
