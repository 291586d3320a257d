import PatternMatching

/// What one adapter does to one module: the effective numbers after all patterns are resolved.
public struct ModulePlan: Sendable, Equatable {
    public let module: AdaptableModule
    public let rank: Int
    public let alpha: Double
    /// alpha/r, or alpha/sqrt(r) for rank-stabilized LoRA: the one number that every use goes by.
    public let scaling: Double
    public let usesDoRA: Bool

    /// Rows of A: the rank. Columns: the module's inputs (for an embedding: the tokens).
    public var aShape: [Int] { [rank, module.inputs] }
    /// Rows of B: the module's outputs. Columns: the rank.
    public var bShape: [Int] { [module.outputs, rank] }
    public var aName: String {
        AdapterNames.tensor(
            module.path, module.kind == .embedding ? "lora_embedding_A" : "lora_A.weight")
    }
    public var bName: String {
        AdapterNames.tensor(
            module.path, module.kind == .embedding ? "lora_embedding_B" : "lora_B.weight")
    }
    public var magnitudeName: String { AdapterNames.tensor(module.path, "lora_magnitude_vector") }
}

/// A bias that the adapter carries in place of the base's (`bias`: `all` or `lora_only`).
public struct BiasPlan: Sendable, Equatable {
    public let module: AdaptableModule
    /// Whether A and B change the same module, which PEFT then wraps: its bias is the base layer's.
    public let isAdapted: Bool

    public var name: String {
        AdapterNames.tensor(module.path, isAdapted ? "base_layer.bias" : "bias")
    }
}

/// How PEFT names the tensors of an adapter file.
enum AdapterNames {
    static let prefix = "base_model.model."
    static func tensor(_ path: String, _ ending: String) -> String { "\(prefix)\(path).\(ending)" }
}

/// An adapter config resolved against a base model: every module that it adapts, in model order.
public struct AdapterPlan: Sendable, Equatable {
    public let modules: [ModulePlan]
    /// Modules whose whole weight the adapter carries (`modules_to_save`).
    public let saved: [AdaptableModule]
    /// Biases that the adapter carries, in model order.
    public let biases: [BiasPlan]
    /// How many modules each entry of the config matched, as `target_modules "q_proj": 30`.
    public let matchCounts: [MatchCount]

    public struct MatchCount: Sendable, Equatable {
        public let field: String
        public let entry: String
        public let count: Int
    }

    /// Trainable numbers in A, B, magnitudes, biases and modules saved whole.
    public var parameterCount: Int {
        modules.reduce(0) {
            $0 + $1.rank * ($1.module.inputs + $1.module.outputs)
                + ($1.usesDoRA ? $1.module.outputs : 0)
        } + biases.reduce(0) { $0 + $1.module.outputs }
            + saved.reduce(0) { $0 + $1.inputs * $1.outputs }
    }

    /// Matches modules as PEFT 0.21's `check_target_module_exists` and `get_pattern_key` do.
    ///
    /// - Throws: `LoRAError` `.targets` when an entry matches nothing or something that cannot be
    ///   adapted, with what there is.
    public init(_ config: LoRAConfig, for inventory: some ModuleInventory) throws(LoRAError) {
        do {
            var resolver = try PlanResolver(
                config, inventory.modules, hasTiedHead: inventory.hasTiedHead)
            try resolver.resolve()
            modules = resolver.plans
            saved = resolver.saved
            let adapted = Set(resolver.plans.map(\.module.path))
            biases = inventory.modules.compactMap { module in
                let isAdapted = adapted.contains(module.path)
                guard module.hasBias, config.bias == .all || (config.bias == .loraOnly && isAdapted)
                else { return nil }
                return BiasPlan(module: module, isAdapted: isAdapted)
            }
            matchCounts = resolver.counts.map {
                MatchCount(field: $0.field, entry: $0.entry, count: $0.count)
            }
        } catch let error as LoRAError {
            throw error
        } catch {
            throw LoRAError(.config, "\(error)")
        }
    }
}
