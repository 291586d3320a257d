import JSONModel
import Testing

@testable import ModelFiles

@Suite struct GGUFTests {
    static let types = Fixture.folder + "/types.gguf"

    @Test func metadataHasItsTypes() throws {
        let file = try GGUFFile(path: Self.types)
        #expect(file.version == 3)
        #expect(file.value("t.u8")?.integer == 200)
        #expect(file.value("t.i8")?.integer == -100)
        #expect(file.value("t.u16")?.integer == 60000)
        #expect(file.value("t.i16")?.integer == -30000)
        #expect(file.value("t.u32")?.integer == 4_000_000_000)
        #expect(file.value("t.i32")?.integer == -2_000_000_000)
        #expect(file.value("t.u64")?.integer == 1 << 40)
        #expect(file.value("t.i64")?.integer == -(1 << 40))
        #expect(file.value("t.f32")?.double == 0.5)
        #expect(file.value("t.f64")?.double == 0.1)
        #expect(file.value("t.bool")?.bool == true)
        #expect(file.value("t.string")?.string == "grüße")
        #expect(
            file.value("t.strings")?.strings.map { $0.map { String(decoding: $0, as: UTF8.self) } }
                == ["a", "", "é"])
        #expect(file.value("t.ints")?.integers == [1, -2, 3])
        #expect(file.value("t.floats")?.numbers == [0.5, -1.5])
        #expect(file.value("t.none") == nil)
    }

    /// Equal to gguf-py's dequantisation, to the last bit.
    @Test(arguments: GGUFQuantization.allCases)
    func dequantizesAsGGUFPython(type: GGUFQuantization) throws {
        let file = try GGUFFile(path: Self.types)
        let expected = try SafetensorsFile(path: Fixture.folder + "/types.safetensors")
        let tensor = try #require(file.tensor(type.name))
        #expect(tensor.type == type)
        let reference = try expected.floats(type.name)
        #expect(tensor.shape == expected.description(of: type.name)?.shape)
        let values = try file.floats(tensor)
        #expect(values.map(\.bitPattern) == reference.map(\.bitPattern))
    }

    @Test func modelEqualsTheFolderMadeFromIt() throws {
        let gguf = try ModelSource.open(Fixture.folder + "/tiny-llama.gguf")
        let folder = try ModelSource.open(Fixture.folder + "/tiny-llama")
        #expect(gguf.config == folder.config)
        #expect(gguf.tensors.tensors.map(\.name) == folder.tensors.tensors.map(\.name))
        for tensor in folder.tensors.tensors {
            #expect(gguf.tensors.description(of: tensor.name)?.shape == tensor.shape)
            #expect(
                try gguf.tensors.bfloat16(tensor.name) == folder.tensors.bfloat16(tensor.name),
                "\(tensor.name)")
            #expect(
                try gguf.tensors.floats(tensor.name) == folder.tensors.floats(tensor.name),
                "\(tensor.name)")
        }
        let a = try BaseDigest.compute(config: gguf.config, source: gguf.tensors)
        let b = try BaseDigest.compute(config: folder.config, source: folder.tensors)
        #expect(a == b)
        // The configuration that is written for it reads back the same.
        let again = try ModelConfigReader.read(
            config: gguf.configJSON, generation: gguf.generationConfigJSON, path: "config.json")
        #expect(again == gguf.config)
    }

    @Test func unroundedWeightsOnlyWhenAsked() throws {
        let rounded = try ModelSource.open(Fixture.folder + "/tiny-llama.gguf")
        let wide = try ModelSource.open(
            Fixture.folder + "/tiny-llama.gguf", ggufElementType: .float32)
        let name = "model.layers.0.self_attn.q_proj.weight"
        let a = try rounded.tensors.floats(name)
        let b = try wide.tensors.floats(name)
        #expect(a != b)
        #expect(b.map { FloatFormat.float(bfloat16: FloatFormat.bfloat16($0)) } == a)
        #expect(try wide.tensors.bfloat16(name) == rounded.tensors.bfloat16(name))
    }

    @Test func tokenizerDataSurvivesItsJSON() throws {
        let source = try ModelSource.open(Fixture.folder + "/tiny-llama.gguf")
        guard case .gguf(let data)? = source.tokenizer else {
            Issue.record("no tokenizer")
            return
        }
        #expect(data.model == "gpt2" && data.preTokenizer == "smollm")
        #expect(data.tokens.count == 40 && data.merges.count == 2)
        #expect(data.kinds[0] == .control && data.kinds[30] == .userDefined)
        #expect(data.beginning == 1 && data.end == 0)
        #expect(data.chatTemplate == source.chatTemplate && data.chatTemplate != nil)
        let text = try data.json(path: "x").serialized()
        #expect(try GGUFTokenizerData(json: JSONValue.parse(text), path: "x") == data)
        #expect(source.tokenizerConfigJSON?["eos_token"] == "<|end|>")
    }

    /// No byte of the header can make the reader crash, hang or take much memory.
    @Test func damagedHeadersAreRefusedOrRead() throws {
        try withTemporaryFolder { folder in
            let whole = try JSONFile.readBytes(Self.types)
            let path = folder + "/damaged.gguf"
            for count in stride(from: 0, to: 1600, by: 7) {
                try write(Array(whole[0..<count]), path)
                #expect(modelFileError { try GGUFFile(path: path) } != nil)
            }
            for position in 0..<1400 {
                for value in [UInt8(0xFF), whole[position] ^ 0x80] {
                    var damaged = whole
                    damaged[position] = value
                    try write(damaged, path)
                    do { _ = try GGUFFile(path: path) } catch is ModelFileError {}
                }
            }
        }
    }

    @Test("KINDS 26: a GGUF count is a claim")
    func hostileCountsAreRefused() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/hostile.gguf"
            let head = Array("GGUF".utf8) + littleEndian(UInt32(3))
            func refused(_ bytes: [UInt8]) throws -> ModelFileError? {
                try write(bytes, path)
                return modelFileError { try GGUFFile(path: path) }
            }
            let huge = littleEndian(UInt64.max)
            #expect(try refused(head + huge + huge)?.code == .malformed)
            #expect(
                try refused(head + littleEndian(UInt64(0)) + littleEndian(UInt64(1)) + huge)?.code
                    == .malformed)
            // A key with an array of 2^60 strings.
            let key =
                littleEndian(UInt64(1)) + [97] + littleEndian(UInt32(9)) + littleEndian(UInt32(8))
            let array = key + littleEndian(UInt64(1) << 60)
            let error = try refused(
                head + littleEndian(UInt64(0)) + littleEndian(UInt64(1)) + array)
            #expect(error?.item == "a")
            // Big-endian and unknown versions.
            let swapped = try refused(Array("GGUF".utf8) + littleEndian(UInt32(3).byteSwapped))
            #expect(swapped?.reason.contains("big-endian") == true)
            #expect(try refused(Array("GGUF".utf8) + littleEndian(UInt32(9)))?.code == .unsupported)
            #expect(try refused(Array("GGML".utf8) + littleEndian(UInt32(3)))?.code == .malformed)
        }
    }
}
