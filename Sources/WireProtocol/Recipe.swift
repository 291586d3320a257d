import JSONModel

/// The hyperparameters of a fine-tune, by the names of PEFT, TRL and transformers.
///
/// Here only names and kinds of values are checked, so that a typing error is refused when the job
/// is submitted; what the values mean is the worker's. Nothing is filled in.
public struct Recipe: Codable, Sendable, Equatable {
    public let fields: JSONObject

    public init() { fields = JSONObject() }

    /// - Throws: `INVALID_SPEC` that names the key.
    public init(_ value: JSONValue) throws(WireError) {
        guard let object = value.object else {
            throw WireError(.invalidSpec, "must be an object, not \(value.kindName)")
        }
        for (key, value) in object.entries {
            guard let rule = Self.rules.first(where: { $0.key == key })?.value else {
                throw WireError(
                    .invalidSpec, "is not a field of a recipe; \(Self.advice(for: key))",
                    key: String(key.prefix(80)))
            }
            try rule.check(value, key: key)
        }
        fields = object
    }

    public init(from decoder: any Decoder) throws {
        try self.init(try decoder.singleValueContainer().decode(JSONValue.self))
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(JSONValue.object(fields))
    }

    /// An adapter to go on from.
    public var adapter: ArtifactReference? {
        fields["adapter"]?.string.flatMap(ArtifactReference.init(text:))
    }

    /// Every field and what it may be. `schemas/v1/recipe.schema.json` says the same.
    static let rules: KeyValuePairs<String, Rule> = [
        // What is trained
        "adapter": .reference,
        "r": .integer(1...4_096),
        "lora_alpha": .positive,
        "lora_dropout": .fraction,
        "use_rslora": .flag,
        "use_dora": .flag,
        "target_modules": .modules,
        "exclude_modules": .modules,
        "modules_to_save": .names,
        "layers_to_transform": .layers,
        "layers_pattern": .modules,
        "rank_pattern": .numbersByName,
        "alpha_pattern": .numbersByName,
        "bias": .word(["none", "all", "lora_only"]),
        "init_lora_weights": .flagOrWord(["gaussian"]),
        "share_b": .flag,
        // How long, and with how much at a time
        "num_train_epochs": .positive,
        "max_steps": .integer(1...1_000_000_000),
        "per_device_train_batch_size": .integer(1...65_536),
        "per_device_eval_batch_size": .integer(1...65_536),
        "gradient_accumulation_steps": .integer(1...65_536),
        "max_length": .integer(1...10_000_000),
        "packing": .flag,
        "shuffle": .flag,
        "train_on": .word(["assistant", "all", "last"]),
        "assistant_only_loss": .flag,
        "completion_only_loss": .flag,
        // Optimizer and schedule
        "optim": .word(["adamw_torch", "adamw"]),
        "learning_rate": .positiveOrWord(["auto", "find"]),
        "loraplus_lr_ratio": .positive,
        "loraplus_lr_embedding": .positive,
        "lr_scheduler_type": .word(["linear", "cosine", "constant", "constant_with_warmup"]),
        "warmup_steps": .integer(0...1_000_000_000),
        "warmup_ratio": .fraction,
        "weight_decay": .nonNegative,
        "adam_beta1": .fraction,
        "adam_beta2": .fraction,
        "adam_epsilon": .positive,
        "max_grad_norm": .nonNegative,
        // Reports and checkpoints
        "eval_steps": .integer(1...1_000_000_000),
        "logging_steps": .integer(1...1_000_000_000),
        "save_steps": .integer(1...1_000_000_000),
        "save_total_limit": .integer(1...10_000),
        // Numbers
        "seed": .integer(0...Int(Int64.max)),
        "data_seed": .integer(0...Int(Int64.max)),
        "dtype": .word(["bfloat16", "float32"]),
    ]

    public static var names: [String] { rules.map(\.key) }

    private static func advice(for key: String) -> String {
        let wanted = key.lowercased().filter { $0 != "_" && $0 != "-" }
        let near = names.filter {
            let name = $0.filter { $0 != "_" }
            return name.contains(wanted) || wanted.contains(name) && name.count > 2
        }
        return near.isEmpty
            ? "there are \(names.joined(separator: ", "))"
            : "did you mean \(near.joined(separator: " or "))?"
    }
}

extension Recipe {
    /// What a field's value may be.
    enum Rule: Sendable {
        case flag
        case integer(ClosedRange<Int>)
        case positive
        case nonNegative
        /// From 0, and less than or equal to 1.
        case fraction
        case word([String])
        case flagOrWord([String])
        case positiveOrWord([String])
        /// A word or pattern, or a list of them.
        case modules
        case names
        /// A number or a list of numbers from 0.
        case layers
        case numbersByName
        case reference

        func check(_ value: JSONValue, key: String) throws(WireError) {
            guard !matches(value) else { return }
            let found =
                value.string.map { "`\($0.prefix(80))`" } ?? value.double.map { "\($0)" }
                ?? value.kindName
            throw WireError(.invalidSpec, "must be \(form), not \(found)", key: key)
        }

        private var form: String {
            switch self {
            case .flag: "true or false"
            case .integer(let range):
                range.upperBound > 1_000_000
                    ? "a whole number of at least \(range.lowerBound)"
                    : "a whole number from \(range.lowerBound) to \(range.upperBound)"
            case .positive: "a number above 0"
            case .nonNegative: "a number of at least 0"
            case .fraction: "a number from 0 to 1"
            case .word(let words): words.map { "`\($0)`" }.joined(separator: " or ")
            case .flagOrWord(let words):
                "true, false or \(words.map { "`\($0)`" }.joined(separator: " or "))"
            case .positiveOrWord(let words):
                "a number above 0 or \(words.map { "`\($0)`" }.joined(separator: " or "))"
            case .modules: "a name or a list of names"
            case .names: "a list of names"
            case .layers: "a layer's number or a list of them"
            case .numbersByName: "an object of whole numbers above 0 by name"
            case .reference: ArtifactReference.form
            }
        }

        private func matches(_ value: JSONValue) -> Bool {
            switch self {
            case .flag: return value.bool != nil
            case .integer(let range): return value.integer.map(range.contains) ?? false
            case .positive: return value.double.map { $0 > 0 && $0.isFinite } ?? false
            case .nonNegative: return value.double.map { $0 >= 0 && $0.isFinite } ?? false
            case .fraction: return value.double.map { (0...1).contains($0) } ?? false
            case .word(let words): return value.string.map(words.contains) ?? false
            case .flagOrWord(let words):
                return value.bool != nil || value.string.map(words.contains) ?? false
            case .positiveOrWord(let words):
                return value.double.map { $0 > 0 } ?? value.string.map(words.contains) ?? false
            case .modules:
                return value.string.map { !$0.isEmpty } ?? Rule.names.matches(value)
            case .names:
                guard let list = value.array, !list.isEmpty else { return false }
                return list.allSatisfy { $0.string.map { !$0.isEmpty } ?? false }
            case .layers:
                let list = value.array ?? [value]
                return !list.isEmpty && list.allSatisfy { $0.integer.map { $0 >= 0 } ?? false }
            case .numbersByName:
                guard let object = value.object else { return false }
                return object.entries.allSatisfy { $0.value.double.map { $0 > 0 } ?? false }
            case .reference:
                guard let text = value.string, let reference = ArtifactReference(text: text) else {
                    return false
                }
                return reference.adapter != nil
            }
        }
    }
}
