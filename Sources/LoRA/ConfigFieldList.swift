/// What becomes of each field of `adapter_config.json`; `docs/formats.md` holds the same as a table.
///
/// Together the three lists name every field that PEFT 0.21 writes, and those of other versions that are known.
public enum ConfigFieldList {
    /// Read by `LoRAConfig.init(parsing:)`: each has its effect, or its value is refused.
    public static let honoured: Set<String> = [
        "peft_type", "task_type", "bias", "r", "lora_alpha", "target_modules", "exclude_modules",
        "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "layers_to_transform",
        "layers_pattern", "modules_to_save", "lora_dropout", "init_lora_weights",
        "base_model_name_or_path", "ensure_weight_tying",
    ]

    /// Without effect on the numbers, and why.
    public static let inert: [String: String] = [
        "inference_mode": "says how PEFT loads it",
        "revision": "says where the base came from",
        "peft_version": "says who wrote it",
        "auto_mapping": "names a Python class",
        "fan_in_fan_out": "says how the base stores its matrices; A and B are stored alike",
        "megatron_core": "a module's name, used only with megatron_config",
        "qalora_group_size": "used only with use_qalora",
        "runtime_config": "says where PEFT computes",
        "loftq_config": "steered how training began",
        "eva_config": "steered how training began",
        "corda_config": "steered how training began",
        "lora_ga_config": "steered how training began",
        "velora_config": "steered how training kept activations",
    ]

    /// Refused when set to anything but null, false or empty, and why.
    public static let refused: [String: String] = [
        "lora_bias": "a bias in lora_B is not supported",
        "target_parameters": "adapters on bare parameters are not supported",
        "trainable_token_indices": "trained single tokens are not supported",
        "layer_replication": "replicated layers are not supported",
        "alora_invocation_tokens": "activated LoRA is not supported",
        "arrow_config": "Arrow routing is not supported",
        "use_bdlora": "block-diagonal LoRA is not supported",
        "use_qalora": "QALoRA is not supported",
        "kasa_config": "KaSA is not supported",
        "monteclora_config": "MonteCLoRA is not supported",
        "megatron_config": "Megatron layers are not supported",
        // Fields of other versions and methods that share the file.
        "layers_to_tie": "tied adapters are not supported",
        "use_mora": "MoRA is not supported",
        "use_vera": "VeRA is not supported",
    ]
}
