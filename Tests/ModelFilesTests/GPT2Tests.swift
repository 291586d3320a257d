import JSONModel
import Testing

@testable import ModelFiles

/// GPT-2: its own names, matrices stored `[in, out]`, and what its config may say.
@Suite struct GPT2Tests {
    static let families = Fixture.tests.appendingPathComponent(
        "TransformerTests/Fixtures/families"
    ).path

    static let base: JSONValue = [
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 64, "n_layer": 2,
        "n_head": 4, "n_positions": 128, "vocab_size": 100,
    ]

    private func read(_ changes: [(String, JSONValue)]) throws -> ModelConfig {
        guard var object = Self.base.object else { throw ModelFileError(.malformed, file: "", "") }
        for (key, value) in changes { object[key] = value }
        return try ModelConfigReader.read(
            config: .object(object), generation: nil, path: "config.json")
    }

    @Test func configIsRead() throws {
        let config = try read([("n_ctx", 128), ("attn_pdrop", 0.1), ("summary_type", "cls_index")])
        #expect(config.norm == .layer && config.learnedPositions && !config.gatedFeedForward)
        #expect(config.intermediateSize == 256 && config.activation == .geluTanh)
        #expect(config.attentionScaling == 0.25 && config.tiedEmbeddings)
        #expect(config.layers.allSatisfy { $0.rope == nil })
        #expect(config.expectedTensors.count == 2 + 12 * 2 + 2)
        #expect(try read([("n_inner", 96)]).intermediateSize == 96)
        #expect(try read([("scale_attn_weights", false)]).attentionScaling == 1)
        #expect(try read([("reorder_and_upcast_attn", true)]) == read([]))
        #expect(try read([("tie_word_embeddings", false)]).expectedTensors.count == 29)
    }

    @Test(
        arguments: [
            ("scale_attn_by_inverse_layer_idx", true, "scale_attn_by_inverse_layer_idx"),
            ("add_cross_attention", true, "add_cross_attention"),
            ("n_ctx", 64, "differs from n_positions"),
            ("n_head", 5, "heads of even width"),
            ("activation_function", "relu", "relu"),
            ("rope_theta", 10000.0, "rope_theta"),
            ("architectures", ["GPT2ForSequenceClassification"], "GPT2ForSequenceClassification"),
        ] as [(String, JSONValue, String)])
    func whatIsNotComputedIsRefused(key: String, value: JSONValue, mentioned: String) {
        let error = modelFileError { try read([(key, value)]) }
        #expect(error?.description.contains(mentioned) == true, "\(error?.description ?? "")")
    }

    /// Stored with the prefix and without, with the masks of the first checkpoints: one form.
    @Test func bothSpellingsGiveOneForm() throws {
        for name in ["gpt2", "gpt2-bare"] {
            let folder = Self.families + "/\(name)/model"
            let source = try ModelSource.open(folder)
            #expect(
                Set(source.tensors.tensors.map(\.name))
                    == Set(source.config.expectedTensors.map(\.name)))
            let stored = try SafetensorsCheckpoint(folder: folder)
            let whole = "transformer.h.1.mlp.c_fc.weight"
            let raw = try stored.floats(name == "gpt2" ? whole : "h.1.mlp.c_fc.weight")
            let outputs = source.config.intermediateSize
            let inputs = source.config.hiddenSize
            #expect(try source.tensors.require(whole).shape == [outputs, inputs])
            let turned = try source.tensors.floats(whole)
            #expect(
                turned
                    == (0..<outputs * inputs).map { raw[$0 % inputs * outputs + $0 / inputs] })
            #expect(
                try source.tensors.bfloat16(whole) == turned.map { FloatFormat.bfloat16($0) })
        }
    }

    @Test func aTensorUnderBothNamesIsRefused() throws {
        try withTemporaryFolder { folder in
            try SafetensorsWriter.write(
                ["wpe.weight", "transformer.wpe.weight"].map {
                    SafetensorsWriter.Tensor(name: $0, shape: [1, 2], floats: [1, 2])
                }, to: folder + "/model.safetensors")
            let error = modelFileError {
                try CheckpointSource.open(folder: folder, config: try read([]))
            }
            #expect(error?.code == .duplicateTensor)
        }
    }
}
