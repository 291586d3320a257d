import LinuxSystem

/// The tensors of one adapted module, float32.
public struct AdaptedModule: Sendable {
    public let plan: ModulePlan
    /// `[rank, inputs]`, row-major as PEFT stores `lora_A` (for an embedding: `[rank, tokens]`).
    public var a: [Float]
    /// `[outputs, rank]`, row-major as PEFT stores `lora_B` (for an embedding: `[width, rank]`).
    public var b: [Float]
    /// DoRA's magnitudes, `[outputs]`.
    public var magnitude: [Float]?

    public init(plan: ModulePlan, a: [Float], b: [Float], magnitude: [Float]? = nil) {
        self.plan = plan
        self.a = a
        self.b = b
        self.magnitude = magnitude
    }
}

/// A module that the adapter carries whole (`modules_to_save`).
public struct SavedModule: Sendable {
    public let module: AdaptableModule
    /// Row-major as the checkpoint holds it: `[outputs, inputs]` of a head, `[tokens, width]` of an
    /// embedding.
    public var weights: [Float]

    public init(module: AdaptableModule, weights: [Float]) {
        self.module = module
        self.weights = weights
    }

    /// As PEFT names its tensor.
    public var name: String { AdapterNames.tensor(module.path, "weight") }
    /// Of `weights`.
    public var shape: [Int] { module.weightShape }
}

/// A bias in place of the base's.
public struct TrainedBias: Sendable {
    public let plan: BiasPlan
    /// `[outputs]`
    public var values: [Float]

    public init(plan: BiasPlan, values: [Float]) {
        self.plan = plan
        self.values = values
    }
}

/// An adapter in memory: whole, finite and fitting its base model.
public struct Adapter: Sendable {
    public let config: LoRAConfig
    /// In model order.
    public var modules: [AdaptedModule]
    public var saved: [SavedModule]
    public var biases: [TrainedBias]

    public init(
        config: LoRAConfig, modules: [AdaptedModule], saved: [SavedModule],
        biases: [TrainedBias] = []
    ) {
        self.config = config
        self.modules = modules
        self.saved = saved
        self.biases = biases
    }

    /// The plan that this adapter follows.
    public var plans: [ModulePlan] { modules.map(\.plan) }

    /// Bytes of all tensors in float32.
    public var byteCount: Int {
        modules.reduce(0) { $0 + 4 * ($1.a.count + $1.b.count + ($1.magnitude?.count ?? 0)) }
            + saved.reduce(0) { $0 + 4 * $1.weights.count }
            + biases.reduce(0) { $0 + 4 * $1.values.count }
    }

    /// Every tensor under the name that PEFT gives it, in bytewise order of names.
    public var tensors: [(name: String, shape: [Int], values: [Float])] {
        var result: [(name: String, shape: [Int], values: [Float])] = []
        for module in modules {
            result.append((module.plan.aName, module.plan.aShape, module.a))
            result.append((module.plan.bName, module.plan.bShape, module.b))
            if let magnitude = module.magnitude {
                result.append((module.plan.magnitudeName, [magnitude.count], magnitude))
            }
        }
        for module in saved { result.append((module.name, module.shape, module.weights)) }
        for bias in biases { result.append((bias.plan.name, [bias.values.count], bias.values)) }
        return result.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    }

    /// Names the adapter by what it computes: effective numbers per module and all tensors, sorted.
    ///
    /// Two folders with the same effect (another order of keys, a pattern spelled otherwise, copies of
    /// base matrices left in or out) have the same digest.
    public func digest() -> ContentDigest {
        var builder = DigestBuilder()
        func add(_ text: String) { builder.update(Array(text.utf8)) }
        add("loraq adapter 1\n")
        let ordered = modules.sorted {
            $0.plan.module.path.utf8.lexicographicallyPrecedes($1.plan.module.path.utf8)
        }
        for module in ordered {
            let plan = module.plan
            add(
                "\(plan.module.path)\t\(plan.rank)\t\(plan.scaling.bitPattern)\t\(plan.usesDoRA)\n")
        }
        for tensor in tensors {
            add("\(tensor.name)\t\(tensor.shape)\n")
            tensor.values.withUnsafeBytes { builder.update($0) }
        }
        return builder.finish()
    }
}
