import JSONModel
import Kernels

/// Adapters out of adapters: weighted sums, scaling, and reduction to a smaller rank.
///
/// What is summed is the update itself, ΔW = Σ weight · scaling · B A per matrix, never the factors one by one (which
/// PEFT calls `linear` and which adds terms across adapters). Without reduction the factors are concatenated, as PEFT's
/// `cat` does: exact, and of the sum of the ranks. With reduction each matrix's update is replaced by its best
/// approximation (PEFT's `svd`).
public struct AdapterCombination {
    /// One adapter of the sum.
    public struct Part: Sendable {
        public let adapter: Adapter
        public let weight: Double
        /// For messages: `M:A@3`.
        public let name: String
        public init(adapter: Adapter, weight: Double, name: String) {
            self.adapter = adapter
            self.weight = weight
            self.name = name
        }
    }

    /// How far each matrix's rank is brought down.
    public enum Reduction: Sendable, Equatable {
        /// To at most this rank.
        case rank(Int)
        /// To the smallest rank that keeps this share of the squared singular values, in (0, 1].
        case energy(Double)
    }

    /// What a reduction kept: shares of Σσ², the squared Frobenius norm of the updates.
    public struct Energy: Sendable, Equatable {
        /// Over all matrices together.
        public var kept = 1.0
        /// The least of any matrix, and which.
        public var lowest = 1.0
        public var lowestPath = ""
    }

    public let parts: [Part]
    public let reduction: Reduction?

    /// - Throws: `LoRAError` when an adapter cannot be part of a sum: DoRA, modules saved whole and trained biases (which
    ///   a reduction of one adapter keeps as they are), a weight of zero.
    public init(_ parts: [Part], reduction: Reduction? = nil) throws(LoRAError) {
        self.parts = parts
        self.reduction = reduction
        guard !parts.isEmpty else { throw LoRAError(.config, "there is no adapter to combine") }
        for part in parts {
            guard part.weight.isFinite, part.weight != 0, abs(part.weight) <= 1e6 else {
                throw LoRAError(
                    .config,
                    "has the weight \(part.weight); it must be neither zero nor beyond a million",
                    subject: part.name)
            }
            if part.adapter.config.usesDoRA || part.adapter.modules.contains(where: \.plan.usesDoRA)
            {
                throw LoRAError(
                    .unsupported,
                    "uses DoRA, whose magnitudes multiply the changed base matrix, so that its update is not a product "
                        + "of two factors and does not add up; train it without use_dora",
                    subject: part.name)
            }
            if let bias = part.adapter.biases.first, parts.count > 1 || part.weight != 1 {
                throw LoRAError(
                    .unsupported,
                    "carries the bias of \(bias.plan.module.path) (bias is "
                        + "\"\(part.adapter.config.bias.rawValue)\"), which is no update that could be weighted",
                    subject: part.name)
            }
            if let saved = part.adapter.saved.first, parts.count > 1 || part.weight != 1 {
                throw LoRAError(
                    .unsupported,
                    "carries \(saved.module.path) whole (modules_to_save), which is no update that could be weighted",
                    subject: part.name)
            }
        }
        if case .rank(let rank) = reduction, !(1...LoRAConfig.maximumRank).contains(rank) {
            throw LoRAError(
                .config, "is \(rank); a rank lies in 1…\(LoRAConfig.maximumRank)", subject: "rank")
        }
        if case .energy(let energy) = reduction, !(energy > 0 && energy <= 1) {
            throw LoRAError(
                .config, "is \(energy); it must be above 0 and at most 1", subject: "energy")
        }
    }

    /// Computes the new adapter.
    ///
    /// One adapter without reduction keeps its configuration, ranks and scalings, and only B changes. Otherwise every
    /// scaling becomes 1 (alpha = rank), and ranks that differ are written as `rank_pattern` and `alpha_pattern`.
    ///
    /// - Parameter progress: Called after each matrix with how many are done and how many there are.
    /// - Returns: The adapter, and what a reduction kept of it.
    /// - Throws: `LoRAError`, `KernelError`, or what `progress` throws.
    public func run(
        for inventory: some ModuleInventory, progress: (Int, Int) throws -> Void = { _, _ in }
    ) throws -> (adapter: Adapter, energy: Energy?) {
        if parts.count == 1, reduction == nil {
            return (try parts[0].adapter.scaled(by: parts[0].weight), nil)
        }
        let known = inventory.modules
        var sums: [(module: AdaptableModule, rank: Int, a: [Float], b: [Float])] = []
        var (total, kept) = (0.0, 0.0)
        var energy = Energy()
        let changed = known.filter { module in
            parts.contains { $0.adapter.modules.contains { $0.plan.module == module } }
        }
        for (index, module) in changed.enumerated() {
            var sum = try concatenated(module)
            if let reduction {
                let spectrum = try LowRankSpectrum(
                    a: sum.a, b: sum.b, rank: sum.rank, inputs: module.inputs,
                    outputs: module.outputs, factor: 1)
                let values = spectrum.singularValues
                let rank = Self.rank(reduction, values)
                let all = Self.energy(values[...])
                var left = all
                if rank < sum.rank {
                    left = Self.energy(values.prefix(rank))
                    let factors = spectrum.factors(rank: rank)
                    sum = (rank, factors.a, factors.b)
                }
                total += all
                kept += left
                if all > 0, left / all < energy.lowest {
                    (energy.lowest, energy.lowestPath) = (left / all, module.path)
                }
            }
            guard sum.a.allSatisfy(\.isFinite), sum.b.allSatisfy(\.isFinite) else {
                throw LoRAError(
                    .nonFinite, "is beyond what float32 holds; use smaller weights",
                    subject: module.path)
            }
            sums.append((module, sum.rank, sum.a, sum.b))
            try progress(index + 1, changed.count)
        }
        if total > 0 { energy.kept = kept / total }
        let config = self.config(sums.map { ($0.module, $0.rank) }, among: known)
        let modules = sums.map { sum in
            AdaptedModule(
                plan: ModulePlan(
                    module: sum.module, rank: sum.rank, alpha: Double(sum.rank), scaling: 1,
                    usesDoRA: false),
                a: sum.a, b: sum.b)
        }
        let adapter = Adapter(
            config: config, modules: modules, saved: parts[0].adapter.saved,
            biases: parts[0].adapter.biases)
        // The configuration must say just what was computed.
        guard try AdapterPlan(config, for: inventory).modules == adapter.plans else {
            throw LoRAError(
                .config, "the combined configuration does not name the matrices that it should")
        }
        return (adapter, reduction == nil ? nil : energy)
    }

    /// All parts of one matrix side by side: A `[rank, inputs]` with weight and scaling in it, B `[outputs, rank]`.
    private func concatenated(
        _ module: AdaptableModule
    ) throws(LoRAError) -> (rank: Int, a: [Float], b: [Float]) {
        var pieces: [(factor: Double, module: AdaptedModule)] = []
        for part in parts {
            for adapted in part.adapter.modules where adapted.plan.module == module {
                pieces.append((part.weight * adapted.plan.scaling, adapted))
            }
        }
        let rank = pieces.reduce(0) { $0 + $1.module.plan.rank }
        guard reduction != nil || rank <= LoRAConfig.maximumRank else {
            throw LoRAError(
                .config,
                "would have rank \(rank), more than \(LoRAConfig.maximumRank); reduce it to a rank or an energy",
                subject: module.path)
        }
        var a: [Float] = []
        a.reserveCapacity(rank * module.inputs)
        var b = [Float](repeating: 0, count: module.outputs * rank)
        var start = 0
        for piece in pieces {
            let width = piece.module.plan.rank
            // As PEFT does it, the factor goes into A.
            a += piece.module.a.map { Float(Double($0) * piece.factor) }
            for row in 0..<module.outputs {
                for column in 0..<width {
                    b[row * rank + start + column] = piece.module.b[row * width + column]
                }
            }
            start += width
        }
        return (rank, a, b)
    }

    private static func energy(_ values: ArraySlice<Double>) -> Double {
        values.reduce(0) { $0 + $1 * $1 }
    }

    /// The rank that a matrix with these singular values gets, at least 1.
    private static func rank(_ reduction: Reduction, _ values: [Double]) -> Int {
        switch reduction {
        case .rank(let rank): return rank
        case .energy(let share):
            let all = energy(values[...])
            var sum = 0.0
            for (index, value) in values.enumerated() {
                sum += value * value
                if sum >= share * all { return index + 1 }
            }
            return max(1, values.count)
        }
    }

    /// The configuration that gives each matrix its rank and the scaling 1, in as few words as it takes.
    private func config(
        _ ranks: [(module: AdaptableModule, rank: Int)], among known: [AdaptableModule]
    ) -> LoRAConfig {
        var counts: [Int: Int] = [:]
        for entry in ranks { counts[entry.rank, default: 0] += 1 }
        // The commonest rank, the smaller one of two that are as common.
        let usual = counts.max { ($0.value, -$0.key) < ($1.value, -$1.key) }?.key ?? 1
        var targets: [String] = []
        var patterns: [LoRAConfig.PatternEntry<Int>] = []
        var done = Set<String>()
        for entry in ranks {
            let name = String(entry.module.name)
            let alike = ranks.filter { $0.module.name == entry.module.name }
            let isWhole = known.count { $0.name == entry.module.name } == alike.count
            let isEven = isWhole && alike.allSatisfy { $0.rank == entry.rank }
            if done.insert(isWhole ? name : entry.module.path).inserted {
                targets.append(isWhole ? name : entry.module.path)
            }
            guard entry.rank != usual else { continue }
            let pattern = isEven ? name : entry.module.path
            if !patterns.contains(where: { $0.pattern == pattern }) {
                patterns.append(.init(pattern, entry.rank))
            }
        }
        var config = LoRAConfig(
            rank: usual, alpha: Double(usual), targets: .list(targets))
        config.rankPattern = patterns
        config.alphaPattern = patterns.map { .init($0.pattern, Double($0.value)) }
        config.savedModules = parts[0].adapter.saved.map(\.module.path)
        config.bias = parts[0].adapter.config.bias
        config.fanInFanOut = parts[0].adapter.config.fanInFanOut
        config.baseModelName = parts[0].adapter.config.baseModelName
        return config
    }
}

extension Adapter {
    /// The same adapter with its update multiplied: B changes, configuration and A stay.
    public func scaled(by factor: Double) throws(LoRAError) -> Adapter {
        if factor == 1 { return self }
        var result = self
        for index in result.modules.indices {
            result.modules[index].b = modules[index].b.map { Float(Double($0) * factor) }
            guard result.modules[index].b.allSatisfy(\.isFinite) else {
                throw LoRAError(
                    .nonFinite, "is beyond what float32 holds; use a smaller factor",
                    subject: modules[index].plan.module.path)
            }
        }
        return result
    }
}
