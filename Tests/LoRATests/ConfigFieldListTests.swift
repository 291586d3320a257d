import Foundation
import JSONModel
import Testing

@testable import LoRA

@Suite struct ConfigFieldListTests {
    /// `LoraConfig().to_dict()` of PEFT 0.21.2.
    static let written = [
        "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path",
        "revision", "inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha",
        "lora_dropout", "fan_in_fan_out", "bias", "use_rslora", "modules_to_save",
        "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern",
        "alpha_pattern", "megatron_config", "megatron_core", "trainable_token_indices",
        "loftq_config", "eva_config", "corda_config", "lora_ga_config", "use_dora",
        "velora_config", "alora_invocation_tokens", "use_qalora", "qalora_group_size",
        "monteclora_config", "layer_replication", "lora_bias", "target_parameters", "use_bdlora",
        "arrow_config", "kasa_config", "ensure_weight_tying",
    ]

    @Test func everyFieldThatPEFTWritesIsInOneList() {
        for name in Self.written {
            let places =
                (ConfigFieldList.honoured.contains(name) ? 1 : 0)
                + (ConfigFieldList.inert[name] == nil ? 0 : 1)
                + (ConfigFieldList.refused[name] == nil ? 0 : 1)
            #expect(places == 1, "\(name)")
        }
    }

    @Test func whatIsWrittenHasPEFTsFields() {
        let config = LoRAConfig(rank: 2, alpha: 4, targets: .allLinear)
        let names = config.peftObject().object?.entries.map(\.key) ?? []
        let unknown = Set(names).subtracting(Self.written)
        #expect(unknown.isEmpty, "\(unknown)")
        #expect(Set(Self.written).subtracting(names).isEmpty)
    }

    /// The table of docs/formats.md says of each field what the code does.
    @Test func theTableInTheDocumentsIsTheLists() throws {
        let page = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("docs/formats.md")
        var table: [String: String] = [:]
        for line in try String(contentsOf: page, encoding: .utf8).split(separator: "\n") {
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            guard cells.count == 3, ["honoured", "inert", "refused when set"].contains(cells[1])
            else { continue }
            table[cells[0].replacingOccurrences(of: "`", with: "")] = cells[1]
        }
        var lists: [String: String] = [:]
        for name in ConfigFieldList.honoured { lists[name] = "honoured" }
        for name in ConfigFieldList.inert.keys { lists[name] = "inert" }
        for name in ConfigFieldList.refused.keys { lists[name] = "refused when set" }
        #expect(table == lists)
    }

    @Test(arguments: ConfigFieldList.refused.keys.sorted())
    func refusedWhenSet(_ key: String) throws {
        let error = #expect(throws: LoRAError.self) {
            try LoRAConfig(parsing: configObject([key: [1]]))
        }
        #expect(error?.subject == key)
        for off: JSONValue in [.null, .bool(false), [], "", [:]] {
            _ = try LoRAConfig(parsing: configObject([key: off]))
        }
    }
}
