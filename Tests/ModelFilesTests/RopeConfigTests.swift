import JSONModel
import Testing

@testable import ModelFiles

/// A rotation as `config.json` states it and what transformers makes of it.
struct RopeCase: Sendable, CustomTestStringConvertible {
    let name: String
    /// Beside hidden_size 64, num_attention_heads 4, max_position_embeddings 256.
    let config: String
    let frequencies: [Float]
    let attentionFactor: Double
    /// Of sequences longer than `limit`.
    var long: [Float]?
    var limit: Int?

    var testDescription: String { name }
}

@Suite struct RopeConfigTests {
    /// From transformers 5.24: `AutoConfig.for_model(model_type, **fields)`, then
    /// `ROPE_INIT_FUNCTIONS[config.rope_parameters["rope_type"]](config, "cpu")`, for `long` with a `seq_len` one above
    /// the original length; printed with nine digits.
    static let cases = [
        RopeCase(
            name: "linear",
            config: #"{"rope_scaling": {"type": "linear", "factor": 4.0}}"#,
            frequencies: [
                0.25, 0.079056941, 0.0250000004, 0.00790569466, 0.00249999994, 0.000790569466,
                0.000250000012, 7.90569466e-05,
            ], attentionFactor: 1),
        RopeCase(
            name: "dynamic",
            config: #"{"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}"#,
            frequencies: [
                1, 0.316227764, 0.100000001, 0.0316227786, 0.00999999978, 0.00316227786,
                0.00100000005, 0.000316227786,
            ], attentionFactor: 1),
        RopeCase(
            name: "llama3",
            config: """
                {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}
                """,
            frequencies: [
                1, 0.079403013, 0.00470075384, 0.000911583134, 0.000176776681, 3.42810235e-05,
                6.64786967e-06, 1.28917316e-06,
            ], attentionFactor: 1),
        RopeCase(
            name: "yarn",
            config: """
                {"rope_theta": 1000000.0,
                "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}}
                """,
            frequencies: [
                1, 0.111142464, 0.00790569466, 0.00140585331, 0.000250000012, 4.44569851e-05,
                7.90569356e-06, 1.40585337e-06,
            ], attentionFactor: 1.138629436111989),
        RopeCase(
            name: "yarn, all settings",
            config: """
                {"head_dim": 24, "rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0,
                "beta_fast": 16, "beta_slow": 2, "mscale": 0.7, "mscale_all_dim": 1.3, "truncate": false,
                "original_max_position_embeddings": 32}}
                """,
            frequencies: [
                1, 0.130662203, 0.0269304309, 0.0125000002, 0.00580198551, 0.00269304356,
                0.00124999997, 0.000580198714, 0.000269304292, 0.000125000006, 5.80198684e-05,
                2.69304273e-05,
            ], attentionFactor: 0.9017839869787123),
        RopeCase(
            name: "yarn, attention factor, original length beside it",
            config: """
                {"original_max_position_embeddings": 128,
                "rope_parameters": {"rope_type": "yarn", "factor": 2.0, "attention_factor": 0.8}}
                """,
            frequencies: [
                1, 0.263523132, 0.0666666627, 0.0158113893, 0.00499999989, 0.00158113893,
                0.000500000024, 0.000158113893,
            ], attentionFactor: 0.8),
        RopeCase(
            name: "longrope",
            config: """
                {"rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, "factor": 2.0,
                "short_factor": [1.0, 1.1, 1.25, 1.5, 1.0, 1.1, 1.25, 1.5],
                "long_factor": [1.0, 2.0, 6.5, 20.0, 1.0, 2.0, 6.5, 20.0],
                "original_max_position_embeddings": 64}}
                """,
            frequencies: [
                1, 0.287479758, 0.0799999982, 0.0210818499, 0.00999999978, 0.00287479791,
                0.00079999998, 0.000210818514,
            ], attentionFactor: 1.0801234497346435,
            long: [
                1, 0.158113882, 0.0153846154, 0.00158113893, 0.00999999978, 0.00158113893,
                0.000153846151, 1.58113889e-05,
            ], limit: 64),
        RopeCase(
            name: "longrope of Phi-3, half a head",
            config: """
                {"model_type": "phi3", "partial_rotary_factor": 0.5, "original_max_position_embeddings": 64,
                "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.1, 1.25, 1.5],
                "long_factor": [1.0, 2.0, 6.5, 20.0]}}
                """,
            frequencies: [1, 0.0909090936, 0.00800000038, 0.00066666666],
            attentionFactor: 1.1547005383792517,
            long: [1, 0.0500000007, 0.00153846154, 4.99999987e-05], limit: 64),
        RopeCase(
            name: "longrope by its older name",
            config: """
                {"model_type": "phi3", "original_max_position_embeddings": 64,
                "rope_parameters": {"type": "su", "partial_rotary_factor": 0.5, "rope_theta": 10000.0,
                "short_factor": [1.0, 1.1, 1.25, 1.5], "long_factor": [1.0, 2.0, 6.5, 20.0]}}
                """,
            frequencies: [1, 0.0909090936, 0.00800000038, 0.00066666666],
            attentionFactor: 1.1547005383792517,
            long: [1, 0.0500000007, 0.00153846154, 4.99999987e-05], limit: 64),
        RopeCase(
            name: "an odd part, rounded up",
            config: #"{"model_type": "phi3", "partial_rotary_factor": 0.7}"#,
            frequencies: [
                1, 0.187381729, 0.0351119116, 0.00657933112, 0.00123284652, 0.00023101292,
            ],
            attentionFactor: 1),
    ]

    private func rope(_ text: String) throws -> RopeConfig {
        let fields = try #require(try JSONValue.parse(text).object)
        var object = try #require(ModelConfigTests.base.object)
        object["architectures"] = nil
        for entry in fields.entries { object[entry.key] = entry.value }
        let config = try ModelConfigReader.read(
            config: .object(object), generation: nil, path: "config.json")
        return try #require(config.layers[0].rope)
    }

    @Test(arguments: cases) func frequenciesEqualTransformers(_ expected: RopeCase) throws {
        let rope = try rope(expected.config)
        func expectEqual(_ computed: [Float], _ expected: [Float]) {
            #expect(computed.count == expected.count)
            for (a, b) in zip(computed, expected) {
                #expect((a - b).magnitude <= 3e-7 * b, "\(a) is not \(b)")
            }
        }
        expectEqual(rope.inverseFrequencies, expected.frequencies)
        #expect((rope.attentionFactor - expected.attentionFactor).magnitude < 1e-12)
        #expect(rope.shortLimit == expected.limit)
        expectEqual(rope.longInverseFrequencies, expected.long ?? expected.frequencies)
    }

    @Test(
        arguments: [
            (#"{"rope_scaling": {"rope_type": "proportional"}}"#, "rope_scaling.rope_type"),
            (#"{"rope_scaling": {"rope_type": "linear"}}"#, "rope_scaling.factor"),
            (#"{"rope_scaling": {"rope_type": "linear", "factor": -1}}"#, "rope_scaling.factor"),
            (#"{"rope_scaling": {"rope_type": "default", "factor": 8}}"#, "rope_scaling.factor"),
            (#"{"rope_scaling": {"rope_type": "yarn", "type": "linear", "factor": 8}}"#, "type"),
            (
                #"{"rope_parameters": {"rope_type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 9}}"#,
                "rope_parameters.beta_fast"
            ),
            (
                #"{"rope_parameters": {"rope_type": "yarn", "factor": 2, "mrope_section": [1]}}"#,
                "rope_parameters.mrope_section"
            ),
            (
                #"{"rope_parameters": {"rope_type": "longrope", "short_factor": [1], "long_factor": [1]}}"#,
                "rope_parameters.short_factor"
            ),
            (#"{"partial_rotary_factor": 0.5}"#, "partial_rotary_factor"),
            (
                #"{"original_max_position_embeddings": 32, "rope_parameters": {"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 64}}"#,
                "original_max_position_embeddings"
            ),
            (#"{"rope_scaling": [4]}"#, "rope_scaling"),
            (
                #"{"model_type": "phi3", "rope_scaling": {"type": "linear", "factor": 2}}"#,
                "rope_scaling.rope_type"
            ),
            (
                #"{"model_type": "phi3", "rope_scaling": {"type": "su", "short_factor": [1], "long_factor": [1], "original_max_position_embeddings": 64}}"#,
                "original_max_position_embeddings"
            ),
            (#"{"model_type": "phi3", "partial_rotary_factor": 1.5}"#, "partial_rotary_factor"),
        ])
    func whatIsNotUnderstoodIsRefused(_ config: String, mentioned: String) {
        let error = modelFileError { try rope(config) }
        #expect(
            error?.item?.contains(mentioned) == true
                || error?.description.contains(mentioned) == true, "\(error?.description ?? "")")
    }

    @Test func settingsWithoutEffectAreAccepted() throws {
        let plain = try rope("{}")
        for text in [
            #"{"rope_scaling": null}"#, #"{"rope_scaling": {"rope_type": "default"}}"#,
            #"{"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default", "partial_rotary_factor": 1.0}}"#,
            #"{"rope_parameters": {"type": "default", "original_max_position_embeddings": 64}}"#,
        ] { #expect(try rope(text) == plain) }
    }

    @Test func lengthMattersWhereLongRopeSays() throws {
        let expected = try #require(Self.cases.first { $0.limit != nil })
        var config = ModelConfig(
            family: .llama, hiddenSize: 64, intermediateSize: 64, headCount: 4,
            keyValueHeadCount: 4, headDimension: 16, vocabularySize: 64, maximumPositions: 256,
            layers: [LayerConfig(rope: nil), LayerConfig(rope: try rope(expected.config))],
            normEpsilon: 1e-6, tiedEmbeddings: true)
        #expect(config.rotationDiffers(64, 65) && !config.rotationDiffers(64, 1))
        #expect(!config.rotationDiffers(65, 256))
        config.layers[1].rope = try rope("{}")
        #expect(!config.rotationDiffers(64, 65))
    }
}
