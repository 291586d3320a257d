import JSONModel
import Testing

@testable import ModelFiles

@Suite struct ModelConfigTests {
    static let base: JSONValue = [
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
        "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 512, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2,
    ]

    private func read(
        _ changes: [(String, JSONValue)], generation: JSONValue? = nil
    ) throws -> ModelConfig {
        guard var object = Self.base.object else { throw ModelFileError(.malformed, file: "", "") }
        for (key, value) in changes { object[key] = value }
        return try ModelConfigReader.read(
            config: .object(object), generation: generation, path: "config.json")
    }

    @Test func llamaIsRead() throws {
        let config = try read([])
        #expect(config.headDimension == 16 && config.layerCount == 3)
        #expect(config.queryWidth == 64 && config.keyValueWidth == 32)
        #expect(config.attentionScaling == 0.25 && !config.tiedEmbeddings)
        #expect(config.layers[0].rope == RopeConfig(theta: 10000, rotaryDimension: 16))
        #expect(try read([("head_dim", 32)]).queryWidth == 128)
        #expect(try read([("attention_bias", true)]).expectedTensors.count == 12 * 3 + 3 + 3 * 1)
    }

    @Test func bothRopeSpellingsAgree() throws {
        let llama3: JSONValue = [
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        ]
        var newer = try #require(llama3.object)
        newer["rope_theta"] = 500000.0
        let a = try read([("rope_theta", 500000.0), ("rope_scaling", llama3)])
        let b = try read([("rope_parameters", .object(newer))])
        #expect(a == b)
        let older = try read([("rope_scaling", ["type": "linear", "factor": 2.0])])
        #expect(older.layers[0].rope?.scaling == .linear(factor: 2))
        #expect(
            throws: ModelFileError.self,
            performing: {
                try self.read([("rope_theta", 1e6), ("rope_parameters", .object(newer))])
            })
    }

    /// From transformers' ROPE_INIT_FUNCTIONS["llama3"] on golden/cases/llama's settings.
    @Test func frequenciesEqualTransformers() throws {
        let plain = RopeConfig(theta: 10000, rotaryDimension: 8).inverseFrequencies
        #expect(plain == [1, 0.1, 0.01, 0.001])
        let scaled = RopeConfig(
            theta: 10000, rotaryDimension: 16,
            scaling: .llama3(
                factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4,
                originalMaximumPositions: 32)
        ).inverseFrequencies
        let expected: [Float] = [
            1, 0.0958399772644043, 0.012500000186264515, 0.0039528473280370235,
            0.0012499999720603228, 0.00039528473280370235, 0.0001250000059371814,
            3.9528473280370235e-05,
        ]
        for (a, b) in zip(scaled, expected) { #expect((a - b).magnitude <= 1e-6 * b) }
    }

    @Test(
        arguments: [
            ("rope_scaling", ["rope_type": "spiral", "factor": 2.0] as JSONValue, "spiral"),
            ("hidden_act", "relu", "relu"),
            ("model_type", "mamba", "supported are: llama"),
            ("quantization_config", ["bits": 4] as JSONValue, "quantization_config"),
            ("attention_dropout", 1.5, "attention_dropout"),
            ("my_new_gate", true, "my_new_gate"),
            ("num_key_value_heads", 3, "does not divide"),
            ("hidden_size", -1, "hidden_size"),
            ("hidden_size", 1e300, "hidden_size"),
            ("vocab_size", .null, "vocab_size"),
            ("rms_norm_eps", "x", "rms_norm_eps"),
            ("eos_token_id", "x", "eos_token_id"),
            ("rope_theta", -1.0, "rope_theta"),
            ("architectures", ["LlamaForSequenceClassification"], "LlamaForSequenceClassification"),
            (
                "rope_parameters", ["rope_type": "default", "new_factor": 2.0] as JSONValue,
                "rope_parameters.new_factor"
            ),
        ] as [(String, JSONValue, String)])
    func whatIsNotUnderstoodIsRefused(key: String, value: JSONValue, mentioned: String) {
        let error = modelFileError { try read([(key, value)]) }
        #expect(error?.description.contains(mentioned) == true, "\(error?.description ?? "")")
    }

    @Test func nullOfAnUnknownFieldIsHarmless() throws {
        _ = try read([("quantization_config", .null), ("_name", "x"), ("torch_dtype", "bfloat16")])
    }

    @Test("KINDS 3: end tokens come from both configurations, and disagreement is told")
    func endTokensComeTogether() throws {
        let config = try read(
            [("eos_token_id", [2, 7])], generation: ["eos_token_id": [7, 9], "bos_token_id": 1])
        #expect(config.specialTokens.end == [7, 9, 2])
        #expect(config.specialTokens.disagreements.count == 1)
        #expect(config.specialTokens.disagreements[0].contains("eos_token_id"))
        #expect(try read([("eos_token_id", .null)]).specialTokens.end.isEmpty)
    }

    @Test func specialTokensAreNotInTheDigest() throws {
        let a = try read([]).canonicalJSON
        #expect(try read([("eos_token_id", 3)]).canonicalJSON == a)
        #expect(try read([("rms_norm_eps", 1e-5)]).canonicalJSON != a)
        #expect(try read([("rope_theta", 1e6)]).canonicalJSON != a)
    }
}
