import JSONModel

/// What a run has done so far: everything but the numbers of adapter and optimizer.
struct RunState: Sendable, Equatable {
    /// Windows done: optimizer steps, skipped ones included.
    var step = 0
    /// Steps that AdamW has taken.
    var optimizerStep = 0
    /// Steps left out because a loss or gradient was not finite.
    var skippedSteps: [Int] = []
    /// How many of the last steps were left out in a row.
    var consecutiveSkips = 0
    var tokens = 0
    var labels = 0
    var firstLoss: Double?
    var lastLoss: Double?
    var evalLossBefore: Double?
    /// Seconds of training in all attempts.
    var seconds = 0.0
    /// The range test of `learning_rate: find`, from which the peak rate follows.
    var rateCurve: RateCurve?

    var json: JSONValue {
        func optional(_ value: Double?) -> JSONValue { value.map(JSONValue.number) ?? .null }
        var json: JSONObject = [
            "step": .integer(Int64(step)), "optimizer_step": .integer(Int64(optimizerStep)),
            "skipped_steps": .array(skippedSteps.map { .integer(Int64($0)) }),
            "consecutive_skips": .integer(Int64(consecutiveSkips)),
            "tokens": .integer(Int64(tokens)), "labels": .integer(Int64(labels)),
            "first_loss": optional(firstLoss), "last_loss": optional(lastLoss),
            "eval_loss_before": optional(evalLossBefore), "seconds": .number(seconds),
        ]
        if let rateCurve { json["rate_curve"] = rateCurve.json }
        return .object(json)
    }

    init() {}

    /// Nil if a member is missing or of another form.
    init?(json: JSONValue) {
        guard let step = json["step"]?.integer, step >= 0,
            let optimizerStep = json["optimizer_step"]?.integer, optimizerStep >= 0,
            let skipped = json["skipped_steps"]?.array,
            let consecutive = json["consecutive_skips"]?.integer,
            let tokens = json["tokens"]?.integer, let labels = json["labels"]?.integer,
            let seconds = json["seconds"]?.double
        else { return nil }
        self.step = step
        self.optimizerStep = optimizerStep
        skippedSteps = skipped.compactMap(\.integer)
        consecutiveSkips = consecutive
        self.tokens = tokens
        self.labels = labels
        self.seconds = seconds
        firstLoss = json["first_loss"]?.double
        lastLoss = json["last_loss"]?.double
        evalLossBefore = json["eval_loss_before"]?.double
        if let curve = json["rate_curve"] {
            guard let curve = RateCurve(json: curve) else { return nil }
            rateCurve = curve
        }
    }
}

/// What must be the same for a checkpoint to be continued.
public struct RunIdentity: Sendable, Equatable {
    /// Digest of the base model, where one is known.
    public var base: String
    /// Digest of the recipe.
    public var recipe: String
    /// Digest of all training and evaluation rows as they are trained.
    public var data: String
    /// Digest of the adapter that the run starts from.
    public var start: String
    /// Names the exact way of computing; another one resumes, but not to the same bits.
    public var numerics: String
    public var threads: Int
    /// The most tokens of one pass: decides in which order gradients are summed.
    public var passTokens: Int

    public init(
        base: String, recipe: String, data: String, start: String, numerics: String, threads: Int,
        passTokens: Int
    ) {
        self.base = base
        self.recipe = recipe
        self.data = data
        self.start = start
        self.numerics = numerics
        self.threads = threads
        self.passTokens = passTokens
    }

    var json: JSONValue {
        [
            "base": .string(base), "recipe": .string(recipe), "data": .string(data),
            "start": .string(start), "numerics": .string(numerics),
            "threads": .integer(Int64(threads)), "pass_tokens": .integer(Int64(passTokens)),
        ]
    }

    init?(json: JSONValue) {
        guard let base = json["base"]?.string, let recipe = json["recipe"]?.string,
            let data = json["data"]?.string, let start = json["start"]?.string,
            let numerics = json["numerics"]?.string, let threads = json["threads"]?.integer,
            let passTokens = json["pass_tokens"]?.integer
        else { return nil }
        self.init(
            base: base, recipe: recipe, data: data, start: start, numerics: numerics,
            threads: threads, passTokens: passTokens)
    }

    /// The first thing that makes a checkpoint another run's; nil if it can be continued.
    func obstacle(_ other: RunIdentity) -> String? {
        if base != other.base { return "base model" }
        if recipe != other.recipe { return "recipe" }
        if data != other.data { return "training data" }
        if start != other.start { return "starting adapter" }
        return nil
    }

    /// Why losses after a resume may differ from an uninterrupted run's in the last bits; nil if they cannot.
    func inexactness(_ other: RunIdentity) -> String? {
        if numerics != other.numerics {
            return "the checkpoint was computed with \(numerics), this worker computes with "
                + other.numerics
        }
        if threads != other.threads {
            return
                "the checkpoint was computed with \(threads) threads, this worker has \(other.threads)"
        }
        if passTokens != other.passTokens {
            return
                "the checkpoint was computed with \(passTokens) tokens a pass, this worker takes "
                + "\(other.passTokens)"
        }
        return nil
    }
}
