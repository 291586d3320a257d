import Foundation
import JSONModel
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import Testing

@testable import Transformer

@Suite struct MergedCheckpointTests {
    private func merged(
        _ model: ReferenceModel, _ adapter: Adapter, _ type: ModelFiles.ElementType = .float32,
        base: (any TensorSource)? = nil
    ) throws -> MergedCheckpoint {
        try MergedCheckpoint(
            base: base
                ?? CheckpointSource.open(
                    folder: model.folder + "/model", config: model.decoder.config),
            config: model.decoder.config,
            configJSON: JSONFile.read(model.folder + "/model/config.json"), adapter: adapter,
            elementType: type, products: FloatProducts(threads: 1))
    }

    private func logits(_ model: ReferenceModel, _ decoder: Decoder) throws -> [Float] {
        let pass = try InferencePass(
            decoder: decoder, compute: model.compute, maximumRows: 256, maximumLogitRows: 256,
            maximumPositions: 256, pageCount: 64)
        return try model.ids.flatMap { try pass.alone($0, nil).flatMap { $0 } }
    }

    /// Merged, the models that PEFT computed unmerged: rsLoRA, patterns, DoRA, embedding, head, a saved head.
    @Test(
        "KINDS 11: merging uses the one scaling of each module", arguments: ["even", "odd"],
        ReferenceModel.variants)
    func mergedLogitsAreThoseOfPEFTUnmerged(_ name: String, _ variant: String) throws {
        let model = try ReferenceModel(name)
        let source = try merged(model, model.adapter(variant))
        let decoder = try Decoder(
            config: source.config, source: source, elementType: .float32, compute: model.compute)
        let expected = try model.expected.floats("logits." + variant)
        #expect(try relativeError(logits(model, decoder), expected) <= 1e-4)
        // `odd` has a tied head; these two variants change embedding or head alone.
        let touchesEnds = ["embedding", "head-saved"].contains(variant)
        #expect(source.isUntied == (name == "odd" && touchesEnds))
        #expect(source.config.tiedEmbeddings == (name == "odd" && !touchesEnds))
        #expect(
            source.tensors.contains { $0.name == "lm_head.weight" } != source.config.tiedEmbeddings)
    }

    /// The head of a tied base keeps the embedding's old numbers when only the embedding is adapted, and the other way.
    @Test(
        "KINDS 12: merging unties what it makes different, and writes both matrices",
        arguments: ["embed_tokens", "lm_head"])
    func aTiedHeadIsUntiedOnTheSideThatChanged(_ target: String) throws {
        let model = try ReferenceModel("odd")
        let config = LoRAConfig(rank: 2, alpha: 4, targets: .list([target]))
        let modules = try AdapterPlan(config, for: model.decoder).modules.map { plan in
            func values(_ count: Int) -> [Float] {
                (0..<count).map { Float($0 * 37 % 64 - 32) / 256 }
            }
            return AdaptedModule(
                plan: plan, a: values(plan.aShape[0] * plan.aShape[1]),
                b: values(plan.bShape[0] * plan.bShape[1]))
        }
        let adapter = Adapter(config: config, modules: modules, saved: [])
        let source = try merged(model, adapter)
        let old = try SafetensorsCheckpoint(folder: model.folder + "/model").floats(
            "model.embed_tokens.weight")
        let (changed, kept) =
            target == "lm_head"
            ? ("lm_head.weight", "model.embed_tokens.weight")
            : ("model.embed_tokens.weight", "lm_head.weight")
        #expect(source.changedNames == [changed])
        #expect(try source.floats(kept) == old)
        #expect(try source.floats(changed) != old)
        let decoder = try Decoder(
            config: source.config, source: source, elementType: .float32, compute: model.compute)
        let pass = try model.pass()
        let served = try model.decoder.serve(adapter, compute: model.compute)
        let unmerged = try model.ids.flatMap { try pass.alone($0, served).flatMap { $0 } }
        #expect(try relativeError(logits(model, decoder), unmerged) <= 1e-4)
    }

    @Test(arguments: [
        "even", "odd", "families/gemma3", "families/llama-bias", "families/gpt2",
    ])
    func aPackedModelReadsAsItsCheckpoint(_ name: String) throws {
        let model = try ReferenceModel(name)
        let checkpoint = try CheckpointSource.open(
            folder: model.folder + "/model", config: model.decoder.config)
        let folder = FileManager.default.temporaryDirectory.path + "/merged-\(UUID().uuidString)"
        try DurableFile.createDirectories(folder)
        defer { try? DurableFile.removeTree(folder) }
        for type in [ModelFiles.ElementType.float32, .bfloat16] {
            let path = "\(folder)/\(type.rawValue)"
            try PackedModelWriter.write(
                config: model.decoder.config, source: checkpoint,
                base: ContentDigest(of: Array("test".utf8)), elementType: type,
                packer: PanelPacker(compute: model.compute), to: path)
            let packed = try PackedCheckpoint(
                config: model.decoder.config, packed: PackedModelFile(path: path))
            #expect(packed.tensors.count == model.decoder.config.expectedTensors.count)
            for tensor in packed.tensors {
                #expect(tensor.shape == checkpoint.description(of: tensor.name)?.shape)
                // The fixtures are stored in bf16, so both types hold their numbers.
                #expect(try packed.floats(tensor.name) == checkpoint.floats(tensor.name))
            }
        }
    }

    /// Other families; biases, trained ones too, and GPT-2's transposed matrices among them.
    @Test(arguments: [
        "gpt2", "llama-bias", "gemma2", "olmo2", "gpt2-bias-all", "llama-dora",
    ])
    func familiesMerge(_ name: String) throws {
        let model = try ReferenceModel("families/" + name)
        let variants = try FilePath.entries(of: model.folder + "/adapter").sorted()
        for variant in variants {
            let source = try merged(model, model.adapter(variant))
            let decoder = try Decoder(
                config: source.config, source: source, elementType: .float32,
                compute: model.compute)
            let expected = try model.expected.floats("logits." + variant)
            #expect(
                try relativeError(logits(model, decoder), expected) <= 1e-4, "\(name) \(variant)")
        }
    }

    /// What is written is what was computed, rounded once; the folder opens as a model.
    @Test(arguments: [("odd", "embedding"), ("families/gpt2", "plain")])
    func theWrittenFileHoldsTheMergedNumbers(_ name: String, _ variant: String) throws {
        let model = try ReferenceModel(name)
        let folder = FileManager.default.temporaryDirectory.path + "/merged-\(UUID().uuidString)"
        try DurableFile.createDirectories(folder)
        defer { try? DurableFile.removeTree(folder) }
        let adapter = try model.adapter(variant)
        let wide = try merged(model, adapter)
        let narrow = try merged(model, adapter, .bfloat16)
        let stored = try CheckpointSource.stored(narrow, config: narrow.config)
        try SafetensorsStreamWriter.write(
            stored.tensors, from: stored, to: folder + "/model.safetensors")
        try DurableFile.write(
            narrow.configJSON.serialized(pretty: true), to: folder + "/config.json")
        let opened = try ModelSource.open(folder)
        #expect(opened.config.tiedEmbeddings == narrow.config.tiedEmbeddings)
        for tensor in wide.tensors {
            #expect(opened.tensors.description(of: tensor.name)?.elementType == .bfloat16)
            let rounded = try wide.floats(tensor.name).map {
                FloatFormat.float(bfloat16: FloatFormat.bfloat16($0))
            }
            #expect(try opened.tensors.floats(tensor.name) == rounded, "\(tensor.name)")
        }
    }

    @Test func aScorerInChunksGivesTheLogitsOfOnePass() throws {
        let model = try ReferenceModel("even", .bfloat16)
        let served = try model.served("plain")
        let ids = Array((model.ids[0] + model.ids[1] + model.ids[0]).prefix(40))
        let whole = try model.pass().alone(ids, served)
        let scorer = try SequenceScorer(
            decoder: model.decoder, compute: model.compute, maximumLength: 64, chunk: 7)
        for _ in 0..<2 {
            var rows: [[Float]] = []
            try scorer.begin(ids, adapter: served)
            while let places = try scorer.advance() {
                for place in places { rows.append(try scorer.withLogits(place) { Array($0) }) }
            }
            #expect(rows == whole)
        }
        #expect(throws: TransformerError.self) {
            try scorer.begin(Array(repeating: 1, count: 65), adapter: nil)
        }
    }
}
