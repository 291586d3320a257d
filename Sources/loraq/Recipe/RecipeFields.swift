/// What a recipe's field may hold.
enum RecipeValueKind: Equatable {
    case integer(ClosedRange<Int>)
    /// A finite number, with the least value and whether that value itself is allowed.
    case number(atLeast: Double, inclusive: Bool, atMost: Double)
    case boolean
    case text
    case word([String])
    case booleanOrWord([String])
    /// A number above 0, or a word.
    case numberOrWord([String])
    /// A list of module names, a regular expression, or `all-linear` and the like.
    case modules
    /// One layer or a list of layers, from 0.
    case layers
    /// A mapping from module pattern to a number; whole numbers only where `whole`.
    case pattern(whole: Bool)
}

struct RecipeField {
    let name: String
    let kind: RecipeValueKind
}

/// The recipe's fields, by the names of PEFT's `LoraConfig` and TRL's `SFTConfig`, with what YAML may say for
/// each. The names are those of `WireProtocol.Recipe` (a test holds both to it), which has the last word.
enum RecipeFields {
    static let positive = RecipeValueKind.number(atLeast: 0, inclusive: false, atMost: 1e9)
    static let notNegative = RecipeValueKind.number(atLeast: 0, inclusive: true, atMost: 1e9)
    static let share = RecipeValueKind.number(atLeast: 0, inclusive: true, atMost: 1)
    static let steps = RecipeValueKind.integer(1...1_000_000_000)

    static let all: [RecipeField] = [
        RecipeField(name: "adapter", kind: .text),
        RecipeField(name: "r", kind: .integer(1...4096)),
        RecipeField(name: "lora_alpha", kind: positive),
        RecipeField(name: "lora_dropout", kind: share),
        RecipeField(name: "use_rslora", kind: .boolean),
        RecipeField(name: "use_dora", kind: .boolean),
        RecipeField(name: "target_modules", kind: .modules),
        RecipeField(name: "exclude_modules", kind: .modules),
        RecipeField(name: "modules_to_save", kind: .modules),
        RecipeField(name: "layers_to_transform", kind: .layers),
        RecipeField(name: "layers_pattern", kind: .modules),
        RecipeField(name: "rank_pattern", kind: .pattern(whole: true)),
        RecipeField(name: "alpha_pattern", kind: .pattern(whole: false)),
        RecipeField(name: "bias", kind: .word(["none", "all", "lora_only"])),
        RecipeField(name: "init_lora_weights", kind: .booleanOrWord(["gaussian"])),
        RecipeField(name: "share_b", kind: .boolean),
        RecipeField(name: "num_train_epochs", kind: positive),
        RecipeField(name: "max_steps", kind: steps),
        RecipeField(name: "per_device_train_batch_size", kind: .integer(1...65_536)),
        RecipeField(name: "per_device_eval_batch_size", kind: .integer(1...65_536)),
        RecipeField(name: "gradient_accumulation_steps", kind: .integer(1...65_536)),
        RecipeField(name: "max_length", kind: .integer(1...10_000_000)),
        RecipeField(name: "packing", kind: .boolean),
        RecipeField(name: "shuffle", kind: .boolean),
        RecipeField(name: "train_on", kind: .word(["assistant", "all", "last"])),
        RecipeField(name: "assistant_only_loss", kind: .boolean),
        RecipeField(name: "completion_only_loss", kind: .boolean),
        RecipeField(name: "optim", kind: .word(["adamw_torch", "adamw"])),
        RecipeField(name: "learning_rate", kind: .numberOrWord(["auto", "find"])),
        RecipeField(name: "loraplus_lr_ratio", kind: positive),
        RecipeField(name: "loraplus_lr_embedding", kind: positive),
        RecipeField(
            name: "lr_scheduler_type",
            kind: .word(["linear", "cosine", "constant", "constant_with_warmup"])),
        RecipeField(name: "warmup_steps", kind: .integer(0...1_000_000_000)),
        RecipeField(name: "warmup_ratio", kind: share),
        RecipeField(name: "weight_decay", kind: notNegative),
        RecipeField(name: "adam_beta1", kind: share),
        RecipeField(name: "adam_beta2", kind: share),
        RecipeField(name: "adam_epsilon", kind: positive),
        RecipeField(name: "max_grad_norm", kind: notNegative),
        RecipeField(name: "eval_steps", kind: steps),
        RecipeField(name: "logging_steps", kind: steps),
        RecipeField(name: "save_steps", kind: steps),
        RecipeField(name: "save_total_limit", kind: .integer(1...10_000)),
        RecipeField(name: "seed", kind: .integer(0...Int.max)),
        RecipeField(name: "data_seed", kind: .integer(0...Int.max)),
        RecipeField(name: "dtype", kind: .word(["bfloat16", "float32"])),
    ]

    static func field(named name: String) -> RecipeField? { all.first { $0.name == name } }

    /// What people write from habit, and the field that does the same here.
    static let otherNames: [String: String] = [
        "rank": "r", "lora_r": "r", "lora_rank": "r",
        "alpha": "lora_alpha", "scaling": "lora_alpha",
        "dropout": "lora_dropout", "rslora": "use_rslora", "dora": "use_dora",
        "targets": "target_modules", "lora_target_modules": "target_modules",
        "lora_target": "target_modules", "modules": "target_modules",
        "lr": "learning_rate", "lora_plus_ratio": "loraplus_lr_ratio",
        "loraplus_ratio": "loraplus_lr_ratio", "shared_b": "share_b",
        "scheduler": "lr_scheduler_type",
        "lr_scheduler": "lr_scheduler_type", "warmup": "warmup_steps",
        "epochs": "num_train_epochs", "num_epochs": "num_train_epochs",
        "n_epochs": "num_train_epochs", "train_epochs": "num_train_epochs",
        "steps": "max_steps", "batch_size": "per_device_train_batch_size",
        "train_batch_size": "per_device_train_batch_size",
        "micro_batch_size": "per_device_train_batch_size",
        "accumulation_steps": "gradient_accumulation_steps",
        "grad_accum": "gradient_accumulation_steps",
        "clip_grad_norm": "max_grad_norm", "grad_clip": "max_grad_norm",
        "beta1": "adam_beta1", "beta2": "adam_beta2", "epsilon": "adam_epsilon",
        "eps": "adam_epsilon", "max_seq_length": "max_length", "max_seq_len": "max_length",
        "sequence_len": "max_length", "cutoff_len": "max_length", "seq_length": "max_length",
        "block_size": "max_length", "sample_packing": "packing", "random_seed": "seed",
        "torch_dtype": "dtype", "precision": "dtype",
        "init_adapter": "adapter", "lora_model_dir": "adapter", "resume_from_adapter": "adapter",
        "train_on_inputs": "train_on",
    ]

    /// Names of PEFT, TRL and transformers that are well known but mean nothing here, with the reason.
    static let elsewhere: [String: String] = [
        "fan_in_fan_out": "the layout is taken from the model",
        "task_type": "it is always CAUSAL_LM", "peft_type": "it is always LORA",
        "base_model_name_or_path": "the model is named on the command line",
        "inference_mode": "it says nothing about training",
        "lora_bias": "biases are not trained",
        "output_dir": "the adapter is registered under --name; `loraq adapters export` writes it",
        "bf16": "set dtype: bfloat16 (the default)", "fp16": "set dtype: bfloat16 or float32",
        "gradient_checkpointing": "the trainer recomputes when memory asks for it",
        "eval_strategy": "set eval_steps, and give a file by --eval",
        "evaluation_strategy": "set eval_steps, and give a file by --eval",
        "save_strategy": "set save_steps", "logging_strategy": "set logging_steps",
        "report_to": "read the metrics by `loraq status --json` or `loraq events`",
        "neftune_noise_alpha": "NEFTune is not available",
        "dataset_text_field": "the format of each line is recognized from its keys",
        "label_smoothing_factor": "label smoothing is not available",
        "resume_from_checkpoint": "an interrupted job resumes by itself",
        "run_name": "set --label", "padding_free": "there is never any padding",
    ]
}
