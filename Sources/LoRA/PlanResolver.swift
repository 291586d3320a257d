import PatternMatching

/// Walks the modules of a model and decides for each what the config makes of it.
struct PlanResolver {
    /// One entry of a selecting field, and how many modules it has matched.
    final class Entry {
        let field: String
        let entry: String
        /// Modules that it selects and that the adapter changes.
        var count = 0
        /// Modules that it selects and `exclude_modules` leaves out: PEFT writes `all-linear` as the list of all
        /// names, whatever is excluded.
        var excludedCount = 0
        /// Modules that it selects in layers that `layers_to_transform` leaves out.
        var otherLayerCount = 0
        init(_ field: String, _ entry: String) {
            self.field = field
            self.entry = entry
        }
    }

    /// A list or a regular expression, with a counter per entry.
    struct Matcher {
        enum Form {
            case list([Entry])
            case pattern(PythonPattern, Entry)
            case allLinear(Entry)
        }
        let form: Form

        init(_ selection: LoRAConfig.Selection, field: String) throws {
            switch selection {
            case .list(let names): form = .list(names.map { Entry(field, $0) })
            case .pattern(let source):
                form = .pattern(try Self.pattern(source, field), Entry(field, source))
            case .allLinear: form = .allLinear(Entry(field, "all-linear"))
            }
        }

        static func pattern(_ source: String, _ field: String) throws -> PythonPattern {
            do {
                return try PythonPattern(source)
            } catch {
                throw LoRAError(.config, "\(error)", subject: field)
            }
        }

        var entries: [Entry] {
            switch form {
            case .list(let entries): entries
            case .pattern(_, let entry), .allLinear(let entry): [entry]
            }
        }

        /// The entries that match, and whether one names the whole path.
        func matches(_ path: String, _ kind: AdaptableModule.Kind?) throws -> ([Entry], whole: Bool)
        {
            switch form {
            case .list(let entries):
                let hits = entries.filter {
                    PlanResolver.isEqual($0.entry, path) || PlanResolver.ends(path, ".\($0.entry)")
                }
                return (hits, hits.contains { PlanResolver.isEqual($0.entry, path) })
            case .pattern(let pattern, let entry):
                return try pattern.fullMatches(path) ? ([entry], false) : ([], false)
            case .allLinear(let entry):
                return kind == .linear ? ([entry], false) : ([], false)
            }
        }
    }

    let config: LoRAConfig
    let modules: [AdaptableModule]
    let hasTiedHead: Bool
    let targets: Matcher
    let excluded: Matcher?
    let savedEntries: [(entry: Entry, pattern: PythonPattern)]
    let rankEntries: [(entry: Entry, pattern: PythonPattern, value: Int)]
    let alphaEntries: [(entry: Entry, pattern: PythonPattern, value: Double)]
    let layerEntries: [(entry: Entry, index: Int)]
    let layerPatterns: [(entry: Entry?, pattern: PythonPattern)]

    var plans: [ModulePlan] = []
    var saved: [AdaptableModule] = []

    init(_ config: LoRAConfig, _ modules: [AdaptableModule], hasTiedHead: Bool) throws {
        self.config = config
        self.hasTiedHead = hasTiedHead
        self.modules = modules
        targets = try Matcher(config.targets, field: "target_modules")
        excluded = try config.excluded.map { try Matcher($0, field: "exclude_modules") }
        savedEntries = try config.savedModules.map {
            (
                Entry("modules_to_save", $0),
                try Matcher.pattern("(^|.*\\.)\($0)($|\\..*)", "modules_to_save")
            )
        }
        rankEntries = try config.rankPattern.map {
            (
                Entry("rank_pattern", $0.pattern),
                try Matcher.pattern("(.*\\.)?(\($0.pattern))$", "rank_pattern"), $0.value
            )
        }
        alphaEntries = try config.alphaPattern.map {
            (
                Entry("alpha_pattern", $0.pattern),
                try Matcher.pattern("(.*\\.)?(\($0.pattern))$", "alpha_pattern"), $0.value
            )
        }
        layerEntries = (config.layers ?? []).map { (Entry("layers_to_transform", "\($0)"), $0) }
        layerPatterns =
            config.layersPatterns.isEmpty
            ? [(nil, try PythonPattern(".*?\\.[^.]*\\.(\\d+)\\."))]
            : try config.layersPatterns.map {
                (
                    Entry("layers_pattern", $0),
                    try Matcher.pattern("(?:^|.*?\\.)\($0)\\.(\\d+)\\.", "layers_pattern")
                )
            }
    }

    /// Every entry with its count, in the order of the config.
    var counts: [Entry] {
        targets.entries + (excluded?.entries ?? []) + savedEntries.map(\.entry)
            + rankEntries.map(\.entry) + alphaEntries.map(\.entry) + layerEntries.map(\.entry)
            + layerPatterns.compactMap(\.entry)
    }

    mutating func resolve() throws {
        for (path, module) in allPaths() {
            if let excluded {
                let (hits, _) = try excluded.matches(path, module?.kind)
                for hit in hits { hit.count += 1 }
                if !hits.isEmpty {
                    for hit in try targets.matches(path, module?.kind).0 { hit.excludedCount += 1 }
                    continue
                }
            }
            if try resolveSaved(path, module) { continue }
            guard try isTargeted(path, module) else { continue }
            guard let module, module.kind != .other else {
                throw LoRAError(
                    .targets,
                    "selects \(path), which is no linear and no token embedding; \(whatThereIs)",
                    subject: "target_modules")
            }
            if module.kind == .embedding, config.usesDoRA {
                throw LoRAError(
                    .unsupported, "on the embedding \(path) is not supported", subject: "use_dora")
            }
            plans.append(try plan(module))
        }
        tieHead()
        let unused = counts.filter { $0.count == 0 && $0.excludedCount == 0 }
        // A target that is there, in other layers only, is not what is wrong: the layers are named first.
        if let entry = unused.first(where: { $0.otherLayerCount == 0 }) ?? unused.first {
            throw LoRAError(
                .targets, "entry \"\(entry.entry)\" matches no module; \(whatThereIs)",
                subject: entry.field)
        }
        if plans.isEmpty && saved.isEmpty {
            throw LoRAError(
                .targets, "no module is adapted; \(whatThereIs)", subject: "target_modules")
        }
    }

    /// `ensure_weight_tying`: on a tied base PEFT does to the head what the config does to the embedding.
    private mutating func tieHead() {
        guard config.ensuresWeightTying, hasTiedHead,
            let head = modules.first(where: { $0.kind == .head })
        else { return }
        if saved.contains(where: { $0.kind == .embedding }), !saved.contains(head) {
            plans.removeAll { $0.module == head }
            saved.append(head)
        }
        if let plan = plans.first(where: { $0.module.kind == .embedding }),
            !plans.contains(where: { $0.module == head })
        {
            plans.append(
                ModulePlan(
                    module: head, rank: plan.rank, alpha: plan.alpha, scaling: plan.scaling,
                    usesDoRA: plan.usesDoRA))
        }
    }

    private mutating func resolveSaved(_ path: String, _ module: AdaptableModule?) throws -> Bool {
        var isSaved = false
        for (entry, pattern) in savedEntries where try pattern.match(path) != nil {
            entry.count += 1
            isSaved = true
            guard let module else {
                throw LoRAError(
                    .unsupported, "\"\(entry.entry)\" selects the group of modules \(path)",
                    subject: "modules_to_save")
            }
            guard module.kind == .head || module.kind == .embedding else {
                throw LoRAError(
                    .unsupported,
                    "\"\(entry.entry)\" selects \(path); only the embedding and the head can be saved whole",
                    subject: "modules_to_save")
            }
            if !saved.contains(module) { saved.append(module) }
        }
        return isSaved
    }

    private func isTargeted(_ path: String, _ module: AdaptableModule?) throws -> Bool {
        let (hits, whole) = try targets.matches(path, module?.kind)
        if hits.isEmpty { return false }
        // An entry that is the whole path goes before the layer filter, as in PEFT.
        if !whole, !layerEntries.isEmpty {
            var index: Int?
            for (entry, pattern) in layerPatterns {
                guard let groups = try pattern.match(path) else { continue }
                index = groups.last.flatMap { $0 }.flatMap { Int($0) }
                entry?.count += 1
                break
            }
            guard let index else { return false }
            let layerHits = layerEntries.filter { $0.index == index }
            guard !layerHits.isEmpty else {
                for hit in hits { hit.otherLayerCount += 1 }
                return false
            }
            for hit in layerHits { hit.entry.count += 1 }
        }
        for hit in hits { hit.count += 1 }
        return true
    }

    private func plan(_ module: AdaptableModule) throws -> ModulePlan {
        var rank = config.rank
        for (entry, pattern, value) in rankEntries where try pattern.match(module.path) != nil {
            entry.count += 1
            rank = value
            break
        }
        var alpha = config.alpha
        for (entry, pattern, value) in alphaEntries where try pattern.match(module.path) != nil {
            entry.count += 1
            alpha = value
            break
        }
        let scaling =
            config.usesRankStabilizedScaling
            ? alpha / Double(rank).squareRoot() : alpha / Double(rank)
        return ModulePlan(
            module: module, rank: rank, alpha: alpha, scaling: scaling, usesDoRA: config.usesDoRA)
    }

    /// Every module and every group of modules, a group before what it holds.
    private func allPaths() -> [(String, AdaptableModule?)] {
        var seen = Set<String>()
        var result: [(String, AdaptableModule?)] = []
        for module in modules {
            var group = ""
            for part in module.path.split(separator: ".").dropLast() {
                group += group.isEmpty ? "\(part)" : ".\(part)"
                if seen.insert(group).inserted { result.append((group, nil)) }
            }
            result.append((module.path, module))
        }
        return result
    }

    /// The names that can be targeted, for messages.
    private var whatThereIs: String {
        var names: [String] = []
        for module in modules where module.kind != .other {
            let name = String(module.name)
            if !names.contains(name) { names.append(name) }
        }
        var layers = 0
        for module in modules {
            for part in module.path.split(separator: ".") {
                if let index = Int(part) { layers = max(layers, index + 1) }
            }
        }
        return "the model has \(names.joined(separator: ", ")) in layers 0…\(max(layers - 1, 0))"
    }

    /// Byte equality: Swift's `==` on strings follows Unicode equivalence, paths do not.
    static func isEqual(_ a: String, _ b: String) -> Bool { a.utf8.elementsEqual(b.utf8) }

    static func ends(_ text: String, _ ending: String) -> Bool {
        text.utf8.count >= ending.utf8.count
            && text.utf8.suffix(ending.utf8.count).elementsEqual(ending.utf8)
    }
}
