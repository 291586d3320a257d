import LoRA

/// Names for groups of matrices that a recipe may give as `target_modules`, beside PEFT's lists and patterns.
///
/// A preset becomes a list of names when the base is known, since PEFT knows but one of them.
public enum TargetPreset: String, Sendable, CaseIterable {
    /// Every linear of the attention blocks.
    case attention
    /// What makes queries, keys and values.
    case qkv
    /// Every linear of the feed-forward blocks.
    case mlp
    /// Every linear but the head: PEFT's own preset.
    case allLinear = "all-linear"
    /// The token embedding, and the head where it has a matrix of its own.
    case embeddings
    /// `all-linear` and `embeddings`.
    case all

    /// The shortest entries of a `target_modules` list that select these modules of the base and no others, in model
    /// order: last parts of paths, with the part before where that is needed to tell them apart.
    public func entries(for inventory: some ModuleInventory) -> [String] {
        let modules = inventory.modules.filter { $0.kind != .other }
        let chosen = modules.filter { selects($0, hasTiedHead: inventory.hasTiedHead) }
        var result: [String] = []
        for module in chosen {
            let isAlone = modules.allSatisfy {
                $0.name != module.name || selects($0, hasTiedHead: inventory.hasTiedHead)
            }
            let parts = module.path.split(separator: ".")
            let entry = isAlone ? String(module.name) : parts.suffix(2).joined(separator: ".")
            if !result.contains(entry) { result.append(entry) }
        }
        return result
    }

    private static let queryKeyValueNames: Set<Substring> = [
        "q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn",
    ]

    private func selects(_ module: AdaptableModule, hasTiedHead: Bool) -> Bool {
        let isEnd = module.kind == .embedding || module.kind == .head && !hasTiedHead
        guard module.kind == .linear else {
            return (self == .embeddings || self == .all) && isEnd
        }
        let parent = module.path.split(separator: ".").dropLast().last ?? ""
        switch self {
        case .attention: return parent.hasSuffix("attn")
        case .qkv:
            return parent.hasSuffix("attn") && Self.queryKeyValueNames.contains(module.name)
        case .mlp: return parent == "mlp"
        case .allLinear, .all: return true
        case .embeddings: return false
        }
    }
}
