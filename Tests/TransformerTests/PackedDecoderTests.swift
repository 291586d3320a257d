import Foundation
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import Testing

@testable import Transformer

@Suite struct PackedDecoderTests {
    /// A decoder mapped from a packed file computes the bits of one packed in memory.
    @Test(
        arguments: [
            "even", "odd", "families/qwen2", "families/qwen3", "families/granite", "families/olmo2",
            "families/gemma3", "families/llama-bias", "families/granite-bias",
            "families/gpt2", "families/gpt2-bare",
        ],
        [Kernels.ElementType.float32, .bfloat16])
    func aPackedFileComputesTheSame(_ name: String, _ type: Kernels.ElementType) throws {
        let model = try ReferenceModel(name, type)
        let folder = FileManager.default.temporaryDirectory.path + "/packed-\(UUID().uuidString)"
        try DurableFile.createDirectories(folder)
        defer { try? DurableFile.removeTree(folder) }
        let path = folder + "/packed"
        try PackedModelWriter.write(
            config: model.decoder.config,
            source: CheckpointSource.open(
                folder: model.folder + "/model", config: model.decoder.config),
            base: ContentDigest(of: Array("test".utf8)),
            elementType: type == .float32 ? .float32 : .bfloat16,
            packer: PanelPacker(compute: model.compute), to: path)
        let decoder = try Decoder(
            config: model.decoder.config, packed: PackedModelFile(path: path))
        #expect(decoder.base == ContentDigest(of: Array("test".utf8)))
        let pass = try InferencePass(
            decoder: decoder, compute: model.compute, maximumRows: 64, maximumLogitRows: 64,
            maximumPositions: 64, pageCount: 4)
        #expect(
            try pass.alone(model.ids[0], nil) == model.pass().alone(model.ids[0], nil))
        let modules = decoder.modules.filter { $0.kind != .other }
        #expect(modules.contains { $0.kind == .linear })
        for path in modules.map(\.path) {
            #expect(try decoder.baseWeights(of: path) == model.decoder.baseWeights(of: path))
        }
    }

    @Test func baseWeightsAreTheCheckpoints() throws {
        for name in ["even", "odd", "families/gpt2-bare"] {
            let model = try ReferenceModel(name)
            let checkpoint = try CheckpointSource.open(
                folder: model.folder + "/model", config: model.decoder.config)
            for module in model.decoder.modules
            where module.kind == .linear || module.kind == .embedding {
                #expect(
                    try model.decoder.baseWeights(of: module.path)
                        == checkpoint.floats(module.path + ".weight"))
            }
        }
    }

    @Test func partsThatAreNotComputedAreNamed() throws {
        let model = try ReferenceModel("even")
        var config = model.decoder.config
        config.headCount = 3
        let error = #expect(throws: TransformerError.self) { try DecoderLayout(config) }
        #expect(error?.code == .unsupported)
    }
}
