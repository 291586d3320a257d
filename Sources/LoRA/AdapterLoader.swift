import JSONModel
import ModelFiles

/// Reads a PEFT folder and checks it whole against its base model.
public enum AdapterLoader {
    /// The two files of a PEFT LoRA folder.
    public static let configName = "adapter_config.json"
    public static let weightsName = "adapter_model.safetensors"

    /// Reads the tensors of an adapter; every check of an adapter happens here.
    ///
    /// - Parameter checkingBase: compare copies of base matrices in the file (`*.base_layer.weight`)
    ///   with the model's; they may differ by their rounding to bf16.
    /// - Throws: `LoRAError`, naming tensor or key.
    public static func load(
        config: LoRAConfig, tensors source: some TensorSource,
        for inventory: some ModuleInventory, checkingBase: Bool = true
    ) throws -> Adapter {
        let plan = try AdapterPlan(config, for: inventory)
        var loading = try Loading(config, plan, source)
        return try loading.run(inventory, checkingBase)
    }
}

/// One load: takes tensors from the source and crosses their names off.
private struct Loading {
    let config: LoRAConfig
    let plan: AdapterPlan
    let source: any TensorSource
    /// File name by the name PEFT 0.21 would give it.
    var names: [String: String] = [:]

    init(_ config: LoRAConfig, _ plan: AdapterPlan, _ source: any TensorSource) throws {
        self.config = config
        self.plan = plan
        self.source = source
        for tensor in source.tensors {
            let name = Self.current(tensor.name)
            if let other = names.updateValue(tensor.name, forKey: name) {
                throw LoRAError(
                    .tensors, "and \(other) are two names of one tensor", subject: tensor.name)
            }
        }
    }

    /// The current spelling of names that older PEFT versions and raw state dictionaries use.
    static func current(_ name: String) -> String {
        var parts = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        if let index = parts.lastIndex(where: {
            $0 == "lora_A" || $0 == "lora_B" || $0 == "lora_embedding_A"
                || $0 == "lora_embedding_B" || $0 == "lora_magnitude_vector"
                || $0 == "modules_to_save"
        }), index + 1 < parts.count, parts[index + 1] == "default" {
            parts.remove(at: index + 1)
        }
        if let index = parts.lastIndex(of: "modules_to_save") { parts.remove(at: index) }
        let count = parts.count
        if count >= 2, parts[count - 1] == "weight",
            ["lora_magnitude_vector", "lora_embedding_A", "lora_embedding_B"]
                .contains(parts[count - 2])
        {
            parts.removeLast()
        }
        return parts.joined(separator: ".")
    }

    mutating func take(
        _ name: String, _ shape: [Int],
        because reason: String = "although the config targets its module"
    ) throws -> [Float] {
        guard let stored = names.removeValue(forKey: name) else {
            throw LoRAError(.tensors, "is missing from the file " + reason, subject: name)
        }
        return try read(stored, shape)
    }

    func read(_ stored: String, _ shape: [Int]) throws -> [Float] {
        let description = try source.require(stored)
        guard description.shape == shape else {
            throw LoRAError(
                .shape, "has shape \(description.shape), the model and the config need \(shape)",
                subject: stored)
        }
        guard description.elementType.isReadableFloat else {
            throw LoRAError(
                .shape, "has type \(description.elementType.rawValue), which is not supported",
                subject: stored)
        }
        let values = try source.floats(stored)
        guard values.allSatisfy(\.isFinite) else {
            throw LoRAError(.nonFinite, "holds a value that is not finite", subject: stored)
        }
        return values
    }

    mutating func run(_ inventory: some ModuleInventory, _ checkingBase: Bool) throws -> Adapter {
        try explainMissing()
        var modules: [AdaptedModule] = []
        for module in plan.modules {
            let a = try take(module.aName, module.aShape)
            let b = try take(module.bName, module.bShape)
            var magnitude: [Float]?
            if module.usesDoRA {
                magnitude = try take(module.magnitudeName, [module.module.outputs])
            }
            modules.append(AdaptedModule(plan: module, a: a, b: b, magnitude: magnitude))
        }
        var saved: [SavedModule] = []
        for module in plan.saved {
            let weights = try take(
                AdapterNames.tensor(module.path, "weight"), module.weightShape)
            saved.append(SavedModule(module: module, weights: weights))
        }
        let biases = try plan.biases.map { bias in
            TrainedBias(
                plan: bias,
                values: try take(
                    bias.name, [bias.module.outputs],
                    because: "although bias is \"\(config.bias.rawValue)\"; some versions of PEFT "
                        + "do not save biases that were trained with lora_only"))
        }
        try checkCopies(inventory, checkingBase)
        if let name = names.values.filter({ $0.hasSuffix(".bias") }).min() {
            throw LoRAError(
                .tensors,
                "is a bias that bias \"\(config.bias.rawValue)\" does not train, or that the base does not have",
                subject: name)
        }
        if let name = names.values.min() {
            throw LoRAError(
                .tensors,
                "has no place: no module of the model is adapted there by this config"
                    + (names.count > 1 ? " (and \(names.count - 1) more)" : ""), subject: name)
        }
        return Adapter(config: config, modules: modules, saved: saved, biases: biases)
    }

    /// A file whose names all lack PEFT's prefix gets one clear sentence instead of a missing tensor.
    private func explainMissing() throws {
        if names.isEmpty {
            throw LoRAError(.tensors, "the file holds no tensor", subject: source.path)
        }
        if !names.keys.contains(where: { $0.hasPrefix(AdapterNames.prefix) }) {
            throw LoRAError(
                .tensors,
                "does not begin with \(AdapterNames.prefix); save the adapter with PEFT's save_pretrained",
                subject: names.values.min())
        }
    }

    /// PEFT saves the base matrix beside an adapted embedding or head: it must be this base's.
    private mutating func checkCopies(
        _ inventory: some ModuleInventory, _ checkingBase: Bool
    ) throws {
        let adapted = plan.modules.map(\.module) + plan.saved
        for module in adapted {
            for ending in ["base_layer.weight", "original_module.weight"] {
                let name = AdapterNames.tensor(module.path, ending)
                guard let stored = names.removeValue(forKey: name) else { continue }
                let values = try read(stored, module.weightShape)
                guard checkingBase else { continue }
                let base = try inventory.baseWeights(of: module.path)
                guard base.count == values.count else {
                    throw LoRAError(.shape, "does not have the base's size", subject: stored)
                }
                for index in 0..<values.count where values[index] != base[index] {
                    // A base that is kept in bf16 may have been rounded from the copy.
                    if FloatFormat.bfloat16(values[index]) == FloatFormat.bfloat16(base[index]) {
                        continue
                    }
                    throw LoRAError(
                        .base,
                        "differs from the base model at element \(index) (\(values[index]) and \(base[index])): "
                            + "the adapter was made for another base, or the base was changed",
                        subject: stored)
                }
            }
        }
    }
}
