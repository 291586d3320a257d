import JSONModel
import Testing

@testable import LoRA

/// PEFT's defaults, with some keys replaced; nil takes a key away.
func configObject(_ changes: [String: JSONValue?] = [:]) -> JSONValue {
    var config = LoRAConfig(rank: 4, alpha: 8, targets: .list(["q_proj", "v_proj"]))
    config.baseModelName = "test"
    var members = config.peftObject().object?.entries ?? []
    for (key, value) in changes {
        members.removeAll { $0.key == key }
        if let value { members.append((key, value)) }
    }
    return .object(JSONObject(members))
}

@Suite struct LoRAConfigTests {
    @Test func readsItsOwnWriting() throws {
        var config = LoRAConfig(
            rank: 16, alpha: 24.5, targets: .list(["q_proj", "down_proj"]),
            usesRankStabilizedScaling: true, dropout: 0.05)
        config.rankPattern = [.init("q_proj", 4)]
        config.alphaPattern = [.init("layers\\.1\\.mlp\\.down_proj", 2)]
        config.layers = [0, 1]
        config.layersPatterns = ["layers"]
        config.savedModules = ["lm_head"]
        config.excluded = .pattern(".*x")
        let read = try LoRAConfig(parsing: JSONValue.parse(config.peftObject().text()))
        #expect(read == config)
    }

    static let unsupported: [(String, JSONValue)] = [
        ("lora_bias", true), ("use_qalora", true),
        ("target_parameters", ["experts.weight"]), ("trainable_token_indices", [1, 2]),
        ("layer_replication", [[0, 1]]), ("alora_invocation_tokens", [3]),
        ("megatron_config", ["a": 1]), ("init_lora_weights", "pissa"),
        ("init_lora_weights", "pissa_niter_16"), ("init_lora_weights", "olora"),
        ("init_lora_weights", "loftq"), ("init_lora_weights", "corda"),
        ("peft_type", "LOHA"), ("task_type", "SEQ_CLS"),
        ("a_field_of_next_year", 3), ("kasa_config", ["a": 1]),
    ]

    @Test(arguments: unsupported)
    func refusesWhatItDoesNotCompute(_ key: String, _ value: JSONValue) {
        let error = #expect(throws: LoRAError.self) {
            try LoRAConfig(parsing: configObject([key: value]))
        }
        #expect(error?.code == .unsupported)
        #expect(error?.subject == key)
    }

    static let wrong: [(String, JSONValue)] = [
        ("r", 0), ("r", 4.5), ("r", "8"), ("r", true), ("r", 5000),
        ("lora_alpha", "x"), ("lora_alpha", 0), ("target_modules", nil), ("target_modules", []),
        ("target_modules", [1]), ("rank_pattern", ["q_proj": 0]), ("rank_pattern", [1]),
        ("alpha_pattern", ["q_proj": "a"]), ("layers_to_transform", ["a"]),
        ("layers_pattern", ["layers"]), ("bias", "some"), ("use_dora", 1), ("lora_dropout", 1),
    ]

    @Test(arguments: wrong)
    func refusesWrongValues(_ key: String, _ value: JSONValue) {
        let error = #expect(throws: LoRAError.self) {
            try LoRAConfig(parsing: configObject([key: value]))
        }
        #expect(error?.code == .config)
        #expect(error?.subject?.hasPrefix(key) == true)
    }

    @Test(arguments: ["r", "lora_alpha", "peft_type", "target_modules"])
    func refusesMissing(_ key: String) {
        #expect(throws: LoRAError.self) { try LoRAConfig(parsing: configObject([key: .some(nil)])) }
    }

    @Test func inertFieldsAreReadOver() throws {
        let config = try LoRAConfig(
            parsing: configObject([
                "eva_config": ["rho": 2], "init_lora_weights": "eva", "peft_version": "0.6.0",
                "fan_in_fan_out": true, "unknown_but_off": false,
            ]))
        #expect(config.initialization == .other)
    }

    @Test func layersNeedALisOfTargets() {
        #expect(throws: LoRAError.self) {
            try LoRAConfig(
                parsing: configObject(["target_modules": ".*q_proj", "layers_to_transform": [1]]))
        }
    }
}
