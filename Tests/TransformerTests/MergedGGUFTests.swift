import Foundation
import JSONModel
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import Testing

@testable import Transformer

/// A merged model written as GGUF and read again by the importer of base models.
@Suite struct MergedGGUFTests {
    private func tokenizer(_ size: Int) -> GGUFTokenizerData {
        GGUFTokenizerData(
            preTokenizer: "gpt-2", tokens: (0..<size).map { Array("t\($0)".utf8) },
            kinds: Array(repeating: .normal, count: size), merges: [])
    }

    private func merged(_ model: ReferenceModel, _ variant: String) throws -> MergedCheckpoint {
        try MergedCheckpoint(
            base: CheckpointSource.open(
                folder: model.folder + "/model", config: model.decoder.config),
            config: model.decoder.config,
            configJSON: JSONFile.read(model.folder + "/model/config.json"),
            adapter: model.adapter(variant), elementType: .float32,
            products: FloatProducts(threads: 1))
    }

    private func logits(_ model: ReferenceModel, _ config: ModelConfig, _ source: any TensorSource)
        throws -> [Float]
    {
        let decoder = try Decoder(
            config: config, source: source, elementType: .float32, compute: model.compute)
        let pass = try InferencePass(
            decoder: decoder, compute: model.compute, maximumRows: 256, maximumLogitRows: 256,
            maximumPositions: 256, pageCount: 64)
        return try model.ids.flatMap { try pass.alone($0, nil).flatMap { $0 } }
    }

    private func inFolder(_ body: (String) throws -> Void) throws {
        let folder = NSTemporaryDirectory() + "loraq-gguf-\(UUID().uuidString)"
        try DurableFile.createDirectories(folder)
        defer { try? DurableFile.removeTree(folder) }
        try body(folder)
    }

    /// `even` has Llama 3.1's frequencies, `odd` a tied head, heads of 10 and one head of keys and values.
    @Test(arguments: ["even", "odd"], ["plain", "rslora", "embedding", "head-saved"])
    func float32IsTheVeryModel(_ name: String, _ variant: String) throws {
        let model = try ReferenceModel(name)
        let source = try merged(model, variant)
        try inFolder { folder in
            let path = folder + "/model.gguf"
            let bytes = try GGUFModelWriter.write(
                source, config: source.config,
                tokenizer: tokenizer(source.config.vocabularySize), tokenizerJSON: nil,
                name: "merged", elementType: .float32, to: path)
            #expect(try FilePath.size(of: path) == bytes)
            let read = try ModelSource.open(path, ggufElementType: .float32)
            #expect(read.config.tiedEmbeddings == source.config.tiedEmbeddings)
            #expect(source.isUntied == (name == "odd" && variant != "plain" && variant != "rslora"))
            #expect(read.tensors.tensors.map(\.name) == source.tensors.map(\.name))
            for tensor in source.tensors {
                #expect(
                    try read.tensors.floats(tensor.name) == source.floats(tensor.name),
                    "\(tensor.name)")
            }
            let expected = try logits(model, source.config, source)
            let found = try logits(model, read.config, read.tensors)
            // Llama 3.1's frequencies go as divisors, which costs them a last bit.
            if name == "odd" {
                #expect(found == expected)
            } else {
                #expect(relativeError(found, expected) <= 1e-5)
            }
        }
    }

    @Test(arguments: [ModelFiles.ElementType.bfloat16, .float16])
    func narrowTypesAreRoundedOnce(_ type: ModelFiles.ElementType) throws {
        let model = try ReferenceModel("odd")
        let source = try merged(model, "embedding")
        try inFolder { folder in
            let path = folder + "/model.gguf"
            try GGUFModelWriter.write(
                source, config: source.config,
                tokenizer: tokenizer(source.config.vocabularySize), tokenizerJSON: nil,
                name: "merged", elementType: type, to: path)
            let read = try ModelSource.open(path, ggufElementType: .float32)
            for tensor in source.tensors {
                let values = try source.floats(tensor.name)
                let rounded =
                    tensor.shape.count == 1
                    ? values
                    : values.map {
                        type == .bfloat16
                            ? FloatFormat.float(bfloat16: FloatFormat.bfloat16($0))
                            : FloatFormat.float(float16: FloatFormat.float16($0))
                    }
                #expect(try read.tensors.floats(tensor.name) == rounded, "\(tensor.name)")
            }
            let limit: Double = type == .bfloat16 ? 3e-2 : 3e-3
            let found = try logits(model, read.config, read.tensors)
            let near = try relativeError(found, logits(model, source.config, source)) <= limit
            #expect(near)
        }
    }

    @Test func whatGGUFCannotSayIsRefused() throws {
        func refusal(_ name: String, tokens: Int? = nil, _ big: Bool = false) throws -> String {
            let model = try ReferenceModel(name)
            let config = model.decoder.config
            let base: any TensorSource = try CheckpointSource.open(
                folder: model.folder + "/model", config: config)
            var text = ""
            try inFolder { folder in
                let error = #expect(throws: ModelFileError.self) {
                    try GGUFModelWriter.write(
                        big ? Beyond(base: base) : base, config: config,
                        tokenizer: tokenizer(tokens ?? config.vocabularySize), tokenizerJSON: nil,
                        name: "x", elementType: .float16, to: folder + "/model.gguf")
                }
                text = error.map { "\($0)" } ?? ""
                let left = try FilePath.entries(of: folder)
                #expect(left.isEmpty)
            }
            return text
        }
        #expect(try refusal("families/gemma3").contains("convert_hf_to_gguf"))
        #expect(try refusal("families/gpt2").contains("gpt2"))
        #expect(try refusal("odd", tokens: 3).contains("3 tokens"))
        #expect(try refusal("odd", true).contains("float16 cannot say"))
    }
}

/// A checkpoint whose numbers are beyond float16.
private struct Beyond: TensorSource {
    let base: any TensorSource
    var path: String { base.path }
    var tensors: [TensorDescription] { base.tensors }
    func description(of name: String) -> TensorDescription? { base.description(of: name) }

    func readFloats(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<Float>
    ) throws {
        for index in output.indices { output[index] = 70_000 }
    }

    func readBFloat16(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<UInt16>
    ) throws { try base.readBFloat16(name, rows: rows, into: output) }
}
