import JSONModel
import LoRA
import Transformer

/// A warm start: the adapter that training goes on from, with what the recipe adds to it.
///
/// Matrices that it did not adapt begin as in a new adapter (A random, B zero; of embeddings the other way round). Where the rank grows, A gets further random
/// rows and B further columns of zeros. Where the scaling changes, B is divided by as much as that grows. So whatever is added,
/// the adapter computes at first what it computed before.
enum AdapterWidening {
    /// - Throws: `FineTuneError` when the recipe takes something away; `LoRAError` when it does not fit the model.
    static func start(
        from adapter: Adapter, recipe: FineTuneRecipe, decoder: some ModuleInventory,
        config: (JSONObject) throws -> LoRAConfig
    ) throws -> Adapter {
        guard !recipe.adapterFields.entries.isEmpty else { return adapter }
        var fields = adapter.config.peftObject().object ?? JSONObject()
        for (key, value) in recipe.adapterFields.entries { fields[key] = value }
        // Of what is new; how the adapter itself once began says nothing any more.
        fields["init_lora_weights"] = recipe.adapterFields["init_lora_weights"] ?? true
        var wanted = try config(fields)
        wanted.baseModelName = adapter.config.baseModelName
        let plan = try AdapterPlan(wanted, for: decoder)
        try refuseOtherKinds(wanted, adapter.config)
        let old = Dictionary(
            adapter.modules.map { ($0.plan.module.path, $0) },
            uniquingKeysWith: { first, _ in first })
        try refuseLess(plan, old)
        let isSame =
            plan.modules.count == adapter.modules.count
            && plan.modules.allSatisfy { old[$0.module.path]?.plan == $0 }
        if isSame {
            var config = adapter.config
            config.dropout = wanted.dropout
            return Adapter(
                config: config, modules: adapter.modules, saved: adapter.saved,
                biases: adapter.biases)
        }
        if !adapter.saved.isEmpty || wanted.bias != .none {
            throw FineTuneError(
                .recipe, "cannot be widened: it carries whole modules or biases", field: "adapter")
        }
        var widened = try Adapter(new: wanted, for: decoder, seed: recipe.seed)
        for index in widened.modules.indices {
            let path = widened.modules[index].plan.module.path
            if let known = old[path] { fill(&widened.modules[index], from: known) }
        }
        return widened
    }

    /// Puts the known factors into the first rows of A and the first columns of B.
    private static func fill(_ module: inout AdaptedModule, from known: AdaptedModule) {
        module.a.replaceSubrange(0..<known.a.count, with: known.a)
        let (rank, before) = (module.plan.rank, known.plan.rank)
        let ratio = Float(known.plan.scaling / module.plan.scaling)
        for row in 0..<module.plan.module.outputs {
            for column in 0..<before {
                module.b[row * rank + column] = known.b[row * before + column] * ratio
            }
        }
        if let magnitude = known.magnitude { module.magnitude = magnitude }
    }

    private static func refuseOtherKinds(_ wanted: LoRAConfig, _ own: LoRAConfig) throws {
        func refuse(_ field: String) -> FineTuneError {
            FineTuneError(
                .recipe, "is another than that of the adapter to go on from; leave it out",
                field: field)
        }
        if wanted.usesDoRA != own.usesDoRA { throw refuse("use_dora") }
        if wanted.bias != own.bias { throw refuse("bias") }
        if Set(wanted.savedModules) != Set(own.savedModules) { throw refuse("modules_to_save") }
    }

    private static func refuseLess(_ plan: AdapterPlan, _ old: [String: AdaptedModule]) throws {
        let paths = Set(plan.modules.map(\.module.path))
        if let lost = old.keys.filter({ !paths.contains($0) }).min() {
            throw FineTuneError(
                .recipe,
                "leaves out \(lost), which the adapter to go on from changes; name all that it has, or leave this out",
                field: "target_modules")
        }
        for module in plan.modules {
            guard let known = old[module.module.path], known.plan.rank > module.rank else {
                continue
            }
            throw FineTuneError(
                .recipe,
                "gives \(module.module.path) the rank \(module.rank), but the adapter to go on from has "
                    + "\(known.plan.rank) there; `loraq adapters truncate` brings it down first",
                field: "r")
        }
    }
}
