import JSONModel
import Kernels
import LoRA
import ModelFiles
import Transformer

/// The adapter that a run starts from, and what follows from its shape.
struct AdapterStart {
    let adapter: Adapter
    let plan: AdapterPlan
    /// The peak rate; of `find`, none yet.
    let rate: RateChoice
    /// How many matrices each entry of the target modules matches.
    let targets: [String: Int]

    /// Rank and alpha where a recipe names none.
    static let defaultRank = 16
    static let defaultAlpha = 32

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
            rate: rate(recipe, plan, decoder: decoder),
            targets: targets)
    }

    private static func rate(
        _ recipe: FineTuneRecipe, _ plan: AdapterPlan, decoder: Decoder
    ) -> RateChoice {
        if let given = recipe.learningRate { return RateChoice(how: .given, rate: given) }
        if recipe.findsLearningRate { return RateChoice(how: .find, rate: 0) }
        return AutomaticRate.choice(plan, decoder: decoder)
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
}
