import JSONModel

extension LoRAConfig {
    /// `adapter_config.json` as PEFT 0.21 writes it: every field, keys sorted.
    public func peftObject(inferenceMode: Bool = true) -> JSONValue {
        func selection(_ value: Selection?) -> JSONValue {
            switch value {
            case nil: .null
            case .list(let names): .array(names.map { .string($0) })
            case .pattern(let source): .string(source)
            case .allLinear: .string("all-linear")
            }
        }
        func number(_ value: Double) -> JSONValue {
            value == value.rounded() && abs(value) < 1e15
                ? .integer(Int64(value)) : .number(value)
        }
        var ranks = JSONObject()
        for entry in rankPattern { ranks[entry.pattern] = .integer(Int64(entry.value)) }
        var alphas = JSONObject()
        for entry in alphaPattern { alphas[entry.pattern] = number(entry.value) }
        let start: JSONValue =
            switch initialization {
            case .kaiming: .bool(true)
            case .gaussian: .string("gaussian")
            case .other: .bool(false)
            }
        var object = JSONObject()
        for name in [
            "alora_invocation_tokens", "arrow_config", "auto_mapping", "corda_config",
            "eva_config", "kasa_config", "layer_replication", "lora_ga_config", "megatron_config",
            "monteclora_config", "revision", "target_parameters", "trainable_token_indices",
            "use_bdlora", "velora_config",
        ] {
            object[name] = .null
        }
        object["alpha_pattern"] = .object(alphas)
        object["base_model_name_or_path"] = baseModelName.map { .string($0) } ?? .null
        object["bias"] = .string(bias.rawValue)
        object["ensure_weight_tying"] = .bool(ensuresWeightTying)
        object["exclude_modules"] = selection(excluded)
        object["fan_in_fan_out"] = .bool(fanInFanOut)
        object["inference_mode"] = .bool(inferenceMode)
        object["init_lora_weights"] = start
        object["layers_pattern"] =
            layersPatterns.isEmpty ? .null : .array(layersPatterns.map { .string($0) })
        object["layers_to_transform"] =
            layers.map { .array($0.map { .integer(Int64($0)) }) } ?? .null
        object["loftq_config"] = .object(JSONObject())
        object["lora_alpha"] = number(alpha)
        object["lora_bias"] = .bool(false)
        object["lora_dropout"] = .number(dropout)
        object["megatron_core"] = .string("megatron.core")
        object["modules_to_save"] =
            savedModules.isEmpty ? .null : .array(savedModules.map { .string($0) })
        object["peft_type"] = .string("LORA")
        object["peft_version"] = .string("0.21.2")
        object["qalora_group_size"] = .integer(16)
        object["r"] = .integer(Int64(rank))
        object["rank_pattern"] = .object(ranks)
        object["target_modules"] = selection(targets)
        object["task_type"] = .string("CAUSAL_LM")
        object["use_dora"] = .bool(usesDoRA)
        object["use_qalora"] = .bool(false)
        object["use_rslora"] = .bool(usesRankStabilizedScaling)
        return .object(object)
    }
}
