import Datasets
import JSONModel

extension FineTuneRecipe {
    /// PEFT's fields, handed to `LoRAConfig`.
    static let adapterKeys: Set<String> = [
        "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "target_modules",
        "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern",
        "rank_pattern", "alpha_pattern", "bias", "init_lora_weights",
    ]

    /// Reads a recipe object.
    ///
    /// - Throws: `FineTuneError.recipe` naming the field.
    public init(_ value: JSONValue) throws(FineTuneError) {
        guard let object = value.object else {
            throw FineTuneError(.recipe, "the recipe is \(value.kindName), not an object")
        }
        self.init()
        var fields = RecipeFields(object)
        for (key, value) in object.entries where Self.adapterKeys.contains(key) {
            fields.take(key)
            if !value.isNull { adapterFields[key] = value }
        }
        try readOptimizer(&fields)
        try readData(&fields)
        try readReports(&fields)
        try fields.refuseRest()
        guard beta1 < 1, beta2 < 1 else {
            throw FineTuneError(
                .recipe, "must be below 1", field: beta1 < 1 ? "adam_beta2" : "adam_beta1")
        }
    }

    private mutating func readOptimizer(_ fields: inout RecipeFields) throws(FineTuneError) {
        if let word = fields.value("learning_rate")?.string, ["auto", "find"].contains(word) {
            fields.take("learning_rate")
            learningRate = nil
            findsLearningRate = word == "find"
        } else if let value = try fields.number("learning_rate", above: 0) {
            learningRate = value
        }
        loraPlusRatio = try fields.number("loraplus_lr_ratio", above: 0)
        let embeddingRate = try fields.number("loraplus_lr_embedding", above: 0)
        guard embeddingRate == nil || loraPlusRatio != nil else {
            throw FineTuneError(
                .recipe, "means nothing without loraplus_lr_ratio", field: "loraplus_lr_embedding")
        }
        loraPlusEmbeddingRate = embeddingRate ?? loraPlusEmbeddingRate
        sharesB = try fields.flag("share_b") ?? sharesB
        if let name = try fields.text("lr_scheduler_type") {
            guard let kind = LearningRateSchedule.Kind(rawValue: name) else {
                throw FineTuneError(
                    .recipe,
                    "is \(name); there are "
                        + LearningRateSchedule.Kind.allCases.map(\.rawValue).joined(separator: ", "),
                    field: "lr_scheduler_type")
            }
            scheduler = kind
        }
        if let name = try fields.text("optim"), !["adamw", "adamw_torch"].contains(name) {
            throw FineTuneError(.recipe, "is \(name); only adamw is supported", field: "optim")
        }
        warmupSteps = try fields.whole("warmup_steps", from: 0) ?? warmupSteps
        warmupRatio = try fields.number("warmup_ratio", from: 0, to: 1) ?? warmupRatio
        maximumGradientNorm = try fields.number("max_grad_norm", from: 0) ?? maximumGradientNorm
        weightDecay = try fields.number("weight_decay", from: 0) ?? weightDecay
        beta1 = try fields.number("adam_beta1", from: 0, to: 1) ?? beta1
        beta2 = try fields.number("adam_beta2", from: 0, to: 1) ?? beta2
        epsilon = try fields.number("adam_epsilon", above: 0) ?? epsilon
        if let name = try fields.text("dtype") {
            guard ["bfloat16", "float32"].contains(name) else {
                throw FineTuneError(
                    .recipe, "is \(name); there are bfloat16 and float32", field: "dtype")
            }
            elementTypeName = name
        }
    }

    private mutating func readData(_ fields: inout RecipeFields) throws(FineTuneError) {
        epochs = try fields.number("num_train_epochs", above: 0) ?? epochs
        maximumSteps = try fields.whole("max_steps", from: 1)
        batchSize = try fields.whole("per_device_train_batch_size", from: 1) ?? batchSize
        evalBatchSize = try fields.whole("per_device_eval_batch_size", from: 1) ?? evalBatchSize
        accumulation = try fields.whole("gradient_accumulation_steps", from: 1) ?? accumulation
        maximumLength = try fields.whole("max_length", from: 1)
        packing = try fields.flag("packing") ?? packing
        shuffle = try fields.flag("shuffle") ?? shuffle
        seed = try fields.whole("seed", from: 0, to: .max).map { UInt64($0) } ?? seed
        dataSeed = try fields.whole("data_seed", from: 0, to: .max).map { UInt64($0) }
        if let name = try fields.text("train_on") {
            guard let part = TrainedPart(rawValue: name) else {
                throw FineTuneError(
                    .recipe,
                    "is \(name); there are "
                        + TrainedPart.allCases.map(\.rawValue).joined(separator: ", "),
                    field: "train_on")
            }
            trainedPart = part
        }
        // TRL's way of saying it.
        if let only = try fields.flag("assistant_only_loss") {
            let said = fields.value("train_on") != nil
            guard !said || only == (trainedPart != .all) else {
                throw FineTuneError(
                    .recipe, "contradicts train_on \(trainedPart.rawValue)",
                    field: "assistant_only_loss")
            }
            if !only { trainedPart = .all }
        }
        completionOnly = try fields.flag("completion_only_loss") ?? completionOnly
    }

    private mutating func readReports(_ fields: inout RecipeFields) throws(FineTuneError) {
        loggingSteps = try fields.whole("logging_steps", from: 1) ?? loggingSteps
        evalSteps = try fields.whole("eval_steps", from: 1)
        saveSteps = try fields.whole("save_steps", from: 1) ?? saveSteps
        savedLimit = try fields.whole("save_total_limit", from: 1) ?? savedLimit
        startingAdapter = try fields.text("adapter")
    }
}

/// The members of a recipe, with a record of which were looked at.
struct RecipeFields {
    private let object: JSONObject
    private var taken: Set<String> = []

    init(_ object: JSONObject) { self.object = object }

    /// The member; nil if it is absent or null.
    func value(_ key: String) -> JSONValue? {
        guard let value = object[key], !value.isNull else { return nil }
        return value
    }

    mutating func take(_ key: String) { taken.insert(key) }

    private func fault(_ key: String, _ form: String) -> FineTuneError {
        FineTuneError(
            .recipe, "must be \(form), not \(object[key]?.text().prefix(80) ?? "")", field: key)
    }

    mutating func text(_ key: String) throws(FineTuneError) -> String? {
        take(key)
        guard let value = value(key) else { return nil }
        guard let text = value.string else { throw fault(key, "a string") }
        return text
    }

    mutating func flag(_ key: String) throws(FineTuneError) -> Bool? {
        take(key)
        guard let value = value(key) else { return nil }
        guard let flag = value.bool else { throw fault(key, "true or false") }
        return flag
    }

    mutating func whole(
        _ key: String, from least: Int, to most: Int = 1_000_000_000
    ) throws(FineTuneError) -> Int? {
        take(key)
        guard let value = value(key) else { return nil }
        guard let number = value.integer, number >= least, number <= most else {
            throw fault(key, "a whole number of at least \(least)")
        }
        return number
    }

    mutating func number(
        _ key: String, from least: Double, to most: Double = .greatestFiniteMagnitude
    ) throws(FineTuneError) -> Double? {
        take(key)
        guard let value = value(key) else { return nil }
        guard let number = value.double, number >= least, number <= most else {
            throw fault(
                key,
                most == .greatestFiniteMagnitude
                    ? "a number of at least \(least)" : "a number from \(least) to \(most)")
        }
        return number
    }

    mutating func number(_ key: String, above bound: Double) throws(FineTuneError) -> Double? {
        guard let number = try number(key, from: bound) else { return nil }
        guard number > bound else { throw fault(key, "a number above \(bound)") }
        return number
    }

    func refuseRest() throws(FineTuneError) {
        if let unknown = object.keys.first(where: { !taken.contains($0) }) {
            throw FineTuneError(.recipe, "is not a field of a recipe", field: unknown)
        }
    }
}
