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
        let adapter: Adapter
        if let startingAdapter {
            adapter = try AdapterWidening.start(
                from: startingAdapter, recipe: recipe, decoder: decoder
            ) { try config($0, decoder: decoder) }
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
        object["target_modules"] = targets(
            object["target_modules"] ?? .string(TargetPreset.allLinear.rawValue), decoder)
        if object["fan_in_fan_out"] == nil, decoder.config.matrixNaming == .conv1D {
            object["fan_in_fan_out"] = true
        }
        if let layer = object["layers_to_transform"]?.integer {
            object["layers_to_transform"] = [.integer(Int64(layer))]
        }
        return try LoRAConfig(parsing: .object(object))
    }

    /// Presets, alone or in a list, become the names that they stand for.
    private static func targets(_ wanted: JSONValue, _ decoder: Decoder) -> JSONValue {
        guard let words = wanted.array ?? wanted.string.map({ [.string($0)] }) else {
            return wanted
        }
        let presets = words.map { $0.string.flatMap(TargetPreset.init(rawValue:)) }
        guard presets.contains(where: { $0 != nil }) else { return wanted }
        var result: [JSONValue] = []
        for (word, preset) in zip(words, presets) {
            let entries = preset?.entries(for: decoder).map { JSONValue.string($0) } ?? [word]
            for entry in entries where !result.contains(entry) { result.append(entry) }
        }
        return .array(result)
    }
}
