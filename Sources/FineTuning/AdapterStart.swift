import JSONModel
import Kernels
import LoRA
import ModelFiles
import Transformer

/// The adapter that a run starts from, and what follows from its shape.
struct AdapterStart {
    let adapter: Adapter
    let plan: AdapterPlan
    /// The peak rate.
    let learningRate: Double
    /// How many matrices each entry of the target modules matches.
    let targets: [String: Int]

    /// Rank and alpha where a recipe names none.
    static let defaultRank = 16
    static let defaultAlpha = 32
    /// The rate of `auto` when every linear matrix is adapted.
    static let automaticRate = 2e-4

    /// A new adapter by the recipe, or the one that it goes on from.
    ///
    /// - Throws: `LoRAError` when the recipe does not fit the model; `FineTuneError.recipe`.
    static func make(
        recipe: FineTuneRecipe, startingAdapter: Adapter?, decoder: Decoder, baseModelName: String
    ) throws -> AdapterStart {
        var adapter: Adapter
        if let startingAdapter {
            try checkFields(recipe, against: startingAdapter.config)
            adapter = startingAdapter
        } else {
            guard recipe.startingAdapter == nil else {
                throw FineTuneError(.recipe, "the adapter is not at hand", field: "adapter")
            }
            var config = try config(recipe.adapterFields, decoder: decoder)
            config.baseModelName = baseModelName
            adapter = try Adapter(new: config, for: decoder, seed: recipe.seed)
        }
        let plan = try AdapterPlan(adapter.config, for: decoder)
        var targets: [String: Int] = [:]
        for count in plan.matchCounts where count.field == "target_modules" {
            targets[count.entry, default: 0] += count.count
        }
        return AdapterStart(
            adapter: adapter, plan: plan,
            learningRate: recipe.learningRate ?? automaticRate(plan, decoder: decoder),
            targets: targets)
    }

    /// The recipe's PEFT fields, completed by defaults and checked; `all-linear` and the presets become lists of names, as PEFT writes them.
    static func config(_ fields: JSONObject, decoder: Decoder) throws -> LoRAConfig {
        var object = fields
        object["peft_type"] = "LORA"
        object["task_type"] = "CAUSAL_LM"
        if object["r"] == nil { object["r"] = .integer(Int64(defaultRank)) }
        if object["lora_alpha"] == nil { object["lora_alpha"] = .integer(Int64(defaultAlpha)) }
        let wanted = object["target_modules"] ?? .string(TargetPreset.allLinear.rawValue)
        if let preset = wanted.string.flatMap(TargetPreset.init(rawValue:)) {
            object["target_modules"] = .array(
                preset.entries(for: decoder).map { .string($0) })
        }
        if object["fan_in_fan_out"] == nil, decoder.config.matrixNaming == .conv1D {
            object["fan_in_fan_out"] = true
        }
        if let layer = object["layers_to_transform"]?.integer {
            object["layers_to_transform"] = [.integer(Int64(layer))]
        }
        return try LoRAConfig(parsing: .object(object))
    }

    /// A field that the recipe states must be the starting adapter's own.
    private static func checkFields(_ recipe: FineTuneRecipe, against config: LoRAConfig) throws {
        let own = config.peftObject()
        for (key, value) in recipe.adapterFields.entries {
            let theirs = own[key] ?? .null
            let same: Bool
            if let a = value.array, let b = theirs.array, a.allSatisfy({ $0.string != nil }) {
                same = Set(a.compactMap(\.string)) == Set(b.compactMap(\.string))
            } else {
                same = value == theirs || (value.double != nil && value.double == theirs.double)
            }
            guard same else {
                throw FineTuneError(
                    .recipe,
                    "is \(value.text().prefix(80)), but the adapter to go on from has "
                        + "\(theirs.text().prefix(80)); leave it out",
                    field: key)
            }
        }
    }

    /// A small part of the matrices wants a higher rate (arXiv 2404.05086): 2e-4 for all of them, growing with the square
    /// root of the share that is left out, at most fourfold.
    private static func automaticRate(_ plan: AdapterPlan, decoder: Decoder) -> Double {
        let all = decoder.modules.filter { $0.kind == .linear }
            .reduce(0) { $0 + $1.inputs + $1.outputs }
        let adapted = plan.modules.reduce(0) { $0 + $1.module.inputs + $1.module.outputs }
        guard adapted > 0, all > 0 else { return automaticRate }
        return automaticRate * min(4, max(1, (Double(all) / Double(adapted)).squareRoot()))
    }
}
