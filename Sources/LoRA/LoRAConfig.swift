import JSONModel

/// The part of PEFT's `adapter_config.json` that has an effect, checked.
///
/// Every field that PEFT 0.21 writes is honoured, inert (it only steers how training starts or where
/// files came from), or refused by name when it is set to something that matters. A field that is not
/// known is refused unless it is null, false or empty.
public struct LoRAConfig: Sendable, Equatable {
    /// Which modules a list, a regular expression or a preset selects.
    public enum Selection: Sendable, Equatable {
        /// Module names or path endings, as PEFT matches them: equal, or preceded by a dot.
        case list([String])
        /// A Python regular expression that must match the whole path.
        case pattern(String)
        /// Every linear module but the output head.
        case allLinear
    }

    /// One entry of `rank_pattern` or `alpha_pattern`, in file order: the first match wins.
    public struct PatternEntry<Value: Sendable & Equatable>: Sendable, Equatable {
        public var pattern: String
        public var value: Value
        public init(_ pattern: String, _ value: Value) {
            self.pattern = pattern
            self.value = value
        }
    }

    /// `init_lora_weights`, for new adapters: all but these need a changed base and are refused.
    public enum Initialization: String, Sendable, Equatable {
        /// A uniform in ±1/sqrt(in), B zero (PEFT's `true`).
        case kaiming
        /// A normal with standard deviation 1/r, B zero.
        case gaussian
        /// Another start that leaves the base as it is (`false`, `orthogonal`, `eva`, `mica`): fine to
        /// serve and to continue, not to begin with.
        case other
    }

    /// `bias`: the biases that PEFT trained beside A and B.
    public enum Bias: String, Sendable, Equatable {
        case none
        case all
        case loraOnly = "lora_only"
    }

    /// r
    public var rank: Int
    /// lora_alpha
    public var alpha: Double
    public var targets: Selection
    public var excluded: Selection?
    /// Scaling alpha/sqrt(r) instead of alpha/r (Kalajdzievski 2023).
    public var usesRankStabilizedScaling: Bool
    /// Weight-decomposed LoRA (Liu et al. 2024).
    public var usesDoRA: Bool
    public var rankPattern: [PatternEntry<Int>]
    public var alphaPattern: [PatternEntry<Double>]
    /// `layers_to_transform`; nil means all layers.
    public var layers: [Int]?
    public var layersPatterns: [String]
    /// `modules_to_save`
    public var savedModules: [String]
    /// `bias`: which biases are trained. Their values stand in the adapter's file; a base without biases has none.
    public var bias: Bias
    /// `ensure_weight_tying`: on a base with a tied head, what is done to the embedding is done to the head.
    public var ensuresWeightTying: Bool
    /// `fan_in_fan_out`: the base stores its matrices `[in, out]` (GPT-2), which PEFT wants to know. A and B are
    /// stored alike in any case.
    public var fanInFanOut: Bool
    /// `lora_dropout`, a probability; matters in training only.
    public var dropout: Double
    public var initialization: Initialization
    /// `base_model_name_or_path`, a label without effect.
    public var baseModelName: String?

    /// A config as PEFT makes it for causal language models.
    public init(
        rank: Int, alpha: Double, targets: Selection, usesRankStabilizedScaling: Bool = false,
        dropout: Double = 0, initialization: Initialization = .kaiming
    ) {
        self.rank = rank
        self.alpha = alpha
        self.targets = targets
        self.excluded = nil
        self.usesRankStabilizedScaling = usesRankStabilizedScaling
        self.usesDoRA = false
        self.rankPattern = []
        self.alphaPattern = []
        self.layers = nil
        self.layersPatterns = []
        self.savedModules = []
        self.bias = .none
        self.ensuresWeightTying = false
        self.fanInFanOut = false
        self.dropout = dropout
        self.initialization = initialization
        self.baseModelName = nil
    }

    /// The largest rank that is accepted.
    public static let maximumRank = 4096

    /// - Throws: `LoRAError` `.config` or `.unsupported`, naming the key.
    public init(parsing value: JSONValue) throws(LoRAError) {
        guard case .object(let object) = value else {
            throw LoRAError(.config, "adapter_config.json must hold an object")
        }
        let fields = ConfigFields(object)
        try fields.refuseWhatMatters()

        rank = try fields.rank("r", fields.integer("r"))
        alpha = try fields.scale("lora_alpha", fields.number("lora_alpha"))
        usesRankStabilizedScaling = try fields.bool("use_rslora")
        usesDoRA = try fields.bool("use_dora")
        dropout = try fields.number("lora_dropout", default: 0)
        guard dropout >= 0, dropout < 1 else {
            throw LoRAError(.config, "must be at least 0 and below 1", subject: "lora_dropout")
        }
        guard let targets = try fields.selection("target_modules") else {
            throw LoRAError(
                .config, "missing; name the target modules (PEFT's defaults are not guessed)",
                subject: "target_modules")
        }
        if case .list(let names) = targets, names.isEmpty {
            throw LoRAError(.config, "empty: no module is adapted", subject: "target_modules")
        }
        self.targets = targets
        excluded = try fields.selection("exclude_modules")
        if case .allLinear = excluded { excluded = .pattern("all-linear") }
        rankPattern = try fields.patterns("rank_pattern").map { (key, value) throws(LoRAError) in
            let place = "rank_pattern.\(key)"
            return PatternEntry(key, try fields.rank(place, fields.integer(value, place)))
        }
        alphaPattern = try fields.patterns("alpha_pattern").map { (key, value) throws(LoRAError) in
            let place = "alpha_pattern.\(key)"
            return PatternEntry(key, try fields.scale(place, fields.number(value, place)))
        }
        layers = try fields.layers("layers_to_transform")
        layersPatterns = try fields.strings("layers_pattern")
        savedModules = try fields.strings("modules_to_save")
        bias = try fields.bias()
        ensuresWeightTying = try fields.bool("ensure_weight_tying")
        fanInFanOut = try fields.bool("fan_in_fan_out")
        initialization = try fields.initialization()
        baseModelName = object["base_model_name_or_path"]?.string
        try checkCombinations()
    }

    private func checkCombinations() throws(LoRAError) {
        if case .list = targets {
        } else {
            if layers != nil {
                throw LoRAError(
                    .config, "cannot be combined with target_modules given as a string",
                    subject: "layers_to_transform")
            }
            if !layersPatterns.isEmpty {
                throw LoRAError(
                    .config, "cannot be combined with target_modules given as a string",
                    subject: "layers_pattern")
            }
        }
        if !layersPatterns.isEmpty, layers == nil {
            throw LoRAError(
                .config, "needs layers_to_transform beside it", subject: "layers_pattern")
        }
    }
}
