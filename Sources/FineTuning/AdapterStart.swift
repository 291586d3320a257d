import JSONModel
import Kernels
import LoRA
import ModelFiles
import Transformer

/// The adapter that a run starts from, and what follows from its shape.
struct AdapterStart {
    let adapter: Adapter
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
            adapter: adapter,
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
