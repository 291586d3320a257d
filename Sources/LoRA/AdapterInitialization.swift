import Glibc

/// Random numbers for a new adapter: SplitMix64 (Steele et al. 2014), one stream per module.
struct SplitMix64 {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// In [0, 1), 53 bits.
    mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

    /// Of mean 0 and variance 1.
    mutating func normal() -> Double {
        // Box and Muller 1958; 1 - u lies in (0, 1].
        let radius = (-2 * log(1 - uniform())).squareRoot()
        return radius * cos(2 * Double.pi * uniform())
    }
}

extension Adapter {
    /// A new adapter: A random, B zero, so that it starts as the base model; of an embedding, as in PEFT, A zero and B
    /// normal. Modules saved whole and biases begin as the base's.
    ///
    /// Each module draws from its own stream, named by seed and path: the numbers of one do not depend
    /// on which others are adapted. The distributions are PEFT's: uniform in ±1/sqrt(inputs), which is
    /// Kaiming's with a = sqrt(5), or normal with standard deviation 1/r.
    ///
    /// - Throws: `LoRAError` when the config does not fit the model or cannot be begun with; what the model throws
    ///   for its weights.
    public init(
        new config: LoRAConfig, for inventory: some ModuleInventory, seed: UInt64
    ) throws {
        let plan = try AdapterPlan(config, for: inventory)
        if config.initialization == .other {
            throw LoRAError(
                .unsupported, "only true and \"gaussian\" can begin an adapter",
                subject: "init_lora_weights")
        }
        var modules: [AdaptedModule] = []
        for module in plan.modules {
            var generator = SplitMix64(state: seed)
            for byte in module.module.path.utf8 {
                generator.state = (generator.state ^ UInt64(byte)) &* 0x100_0000_01B3
                _ = generator.next()
            }
            var adapted = Self.start(module, config.initialization, &generator)
            if module.usesDoRA {
                // Liu et al. 2024: magnitudes begin as the norms of the base's rows.
                adapted.magnitude = adapted.rowNorms(
                    base: try inventory.baseWeights(of: module.module.path))
            }
            modules.append(adapted)
        }
        let biases = try plan.biases.map {
            TrainedBias(plan: $0, values: try inventory.baseBias(of: $0.module.path))
        }
        let saved = try plan.saved.map {
            SavedModule(module: $0, weights: try inventory.baseWeights(of: $0.path))
        }
        self.init(config: config, modules: modules, saved: saved, biases: biases)
    }

    private static func start(
        _ module: ModulePlan, _ kind: LoRAConfig.Initialization, _ generator: inout SplitMix64
    ) -> AdaptedModule {
        let (aCount, bCount) = (
            module.rank * module.module.inputs, module.rank * module.module.outputs
        )
        func zeros(_ count: Int) -> [Float] { [Float](repeating: 0, count: count) }
        if module.module.kind == .embedding {
            return AdaptedModule(
                plan: module, a: zeros(aCount),
                b: (0..<bCount).map { _ in Float(generator.normal()) })
        }
        let a: [Float]
        if kind == .gaussian {
            a = (0..<aCount).map { _ in Float(generator.normal() / Double(module.rank)) }
        } else {
            let bound = 1 / Double(module.module.inputs).squareRoot()
            a = (0..<aCount).map { _ in Float((2 * generator.uniform() - 1) * bound) }
        }
        return AdaptedModule(plan: module, a: a, b: zeros(bCount))
    }
}
