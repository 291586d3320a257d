import Foundation
import JSONModel
import LinuxSystem
import Testing

@testable import ModelFiles

/// `config.json` of every family as transformers 4.44, 4.57 and 5.24 write it (Fixtures/make_configs.py).
@Suite struct FamilyConfigTests {
    static let configs: [JSONObject] = {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("Fixtures/configs.jsonl").path
        let bytes = (try? FilePath.read(path)) ?? []
        return bytes.split(separator: UInt8(ascii: "\n")).compactMap {
            (try? JSONValue.parse(Array($0)))?.object
        }
    }()

    private func read(_ object: JSONObject) throws -> ModelConfig {
        try ModelConfigReader.read(config: .object(object), generation: nil, path: "config.json")
    }

    @Test func everyDefaultIsRead() throws {
        #expect(Self.configs.count == 28)
        for object in Self.configs {
            let config = try read(object)
            #expect(config.layerCount > 0)
        }
        #expect(
            Set(Self.configs.compactMap { $0["model_type"]?.string })
                == Set(ModelFamily.allCases.map(\.rawValue)))
    }

    /// The versions spell the same defaults differently, and leave different fields out.
    @Test func versionsAgree() throws {
        for family in ModelFamily.allCases {
            // 4.44 had Gemma 2's other size for its default.
            let versions = Self.configs.filter {
                $0["model_type"]?.string == family.rawValue
                    && $0["transformers_version"]?.string != "4.44.2"
            }
            #expect(versions.count == 2)
            let texts = try versions.map { try read($0).canonicalJSON.text() }
            #expect(Set(texts).count == 1, "\(family)")
        }
    }

    /// What is absent has transformers' default.
    @Test func absentFieldsHaveTheirDefaults() throws {
        let shape = [
            "architectures", "model_type", "hidden_size", "intermediate_size", "vocab_size",
            "num_hidden_layers", "num_attention_heads", "n_embd", "n_head", "n_layer",
        ]
        for object in Self.configs where object["transformers_version"] == "5.24.0" {
            let kept = JSONObject(
                object.entries.filter { shape.contains($0.key) }.map { ($0.key, $0.value) })
            #expect(
                try read(kept).canonicalJSON == read(object).canonicalJSON,
                "\(object["model_type"]?.string ?? "")")
        }
    }

    @Test func theArchitectureNamesTheFamilyToo() throws {
        for var object in Self.configs {
            let config = try read(object)
            object["model_type"] = nil
            #expect(try read(object) == config)
            object["architectures"] = ["MambaForCausalLM"]
            let error = modelFileError { try read(object) }
            for family in ModelFamily.allCases {
                #expect(error?.description.contains(family.rawValue) == true)
            }
        }
    }

    @Test func anUnknownFieldIsRefusedInEveryFamily() throws {
        for var object in Self.configs {
            object["attention_sinks"] = 4
            let error = modelFileError { try read(object) }
            #expect(error?.item == "attention_sinks")
        }
    }

    @Test func gemmasOlderFieldsMayStandBesideTheNewerOnes() throws {
        for var object in Self.configs
        where object["model_type"] == "gemma3_text" && object["rope_parameters"] != nil {
            let config = try read(object)
            object["rope_theta"] = 1_000_000.0
            object["rope_local_base_freq"] = 10_000.0
            #expect(try read(object) == config)
            object["rope_local_base_freq"] = 20_000.0
            #expect(modelFileError { try read(object) }?.item == "rope_theta")
        }
    }

    /// Dropout inside the base is told, since PEFT would apply it in training; inference has none.
    @Test func dropoutIsReadAndTold() throws {
        for var object in Self.configs where object["transformers_version"] == "5.24.0" {
            let family = try #require(ModelFamily(rawValue: object["model_type"]?.string ?? ""))
            let fields = ["attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop"]
                .filter { object[$0] != nil }
            #expect(!fields.isEmpty)
            let config = try read(object)
            for field in fields { object[field] = 0.1 }
            #expect(try read(object) == config)
            let told = ModelPreparation.unappliedDropout(.object(object), family)
            #expect(Set(told) == Set(fields))
            for field in fields { object[field] = 0 }
            #expect(ModelPreparation.unappliedDropout(.object(object), family).isEmpty)
        }
    }

    /// Windows and rotations by layer, each as transformers' configuration classes derive them.
    @Test(
        arguments: [
            (
                "qwen2", #"{"use_sliding_window": true, "max_window_layers": 2}"#,
                [nil, nil, 4096, 4096], [true, true, true, true]
            ),
            (
                "qwen3", #"{"use_sliding_window": true, "sliding_window": null}"#,
                [nil, nil, nil, nil], [true, true, true, true]
            ),
            (
                "smollm3",
                #"{"use_sliding_window": true, "sliding_window": 9, "max_window_layers": 1, "no_rope_layer_interval": 3}"#,
                [nil, nil, 9, nil], [true, true, false, true]
            ),
            ("mistral", "{}", [4096, 4096, 4096, 4096], [true, true, true, true]),
            (
                "mistral", #"{"sliding_window": null}"#, [nil, nil, nil, nil],
                [true, true, true, true]
            ),
            ("phi3", #"{"sliding_window": 7}"#, [7, 7, 7, 7], [true, true, true, true]),
            ("gemma2", "{}", [4096, nil, 4096, nil], [true, true, true, true]),
            (
                "gemma3_text", #"{"sliding_window": 5, "sliding_window_pattern": 2}"#,
                [5, nil, 5, nil], [true, true, true, true]
            ),
        ] as [(String, String, [Int?], [Bool])])
    func layersAreThoseOfTransformers(
        family: String, fields: String, windows: [Int?], rotated: [Bool]
    ) throws {
        var object = JSONObject([
            ("model_type", .string(family)), ("hidden_size", 64), ("intermediate_size", 64),
            ("num_attention_heads", 8), ("num_key_value_heads", 8), ("vocab_size", 64),
            ("num_hidden_layers", 4),
        ])
        for entry in try #require(try JSONValue.parse(fields).object).entries {
            object[entry.key] = entry.value
        }
        let config = try read(object)
        #expect(config.layers.map(\.slidingWindow) == windows)
        #expect(config.layers.map { $0.rope != nil } == rotated)
    }
}
