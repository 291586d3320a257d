import Datasets
import JSONModel
import LinuxSystem

/// The hyperparameters of a fine-tune: PEFT's, TRL's and transformers' names, checked.
///
/// Defaults are stated beside each; a field that is not known, or asks for something that is not computed, is refused
/// by name.
public struct FineTuneRecipe: Sendable, Equatable {
    /// PEFT's fields as they were given; completed and checked when the base model is known.
    public var adapterFields: JSONObject
    /// `learning_rate`; nil for `auto` and `find`. Default 2e-4.
    public var learningRate: Double? = 2e-4
    /// `learning_rate: find`: the peak rate comes from a range test.
    public var findsLearningRate = false
    /// `loraplus_lr_ratio`: B learns at this multiple of A's rate (LoRA+). Default: the same rate for all.
    public var loraPlusRatio: Double?
    /// `loraplus_lr_embedding`: with `loraplus_lr_ratio`, the peak rate of an embedding's factors. Default 1e-6, as in PEFT.
    public var loraPlusEmbeddingRate = 1e-6
    /// `share_b`: q, k and v of a layer train one B where their output widths are equal. Default false.
    public var sharesB = false
    /// `lr_scheduler_type`. Default `linear`.
    public var scheduler: LearningRateSchedule.Kind = .linear
    /// `warmup_steps`. Default 0.
    public var warmupSteps = 0
    /// `warmup_ratio`: share of all steps, rounded up; counts where `warmup_steps` is 0. Default 0.
    public var warmupRatio = 0.0
    /// `num_train_epochs`. Default 3; may have a fraction.
    public var epochs = 3.0
    /// `max_steps`: optimizer steps; takes the place of epochs where it is given.
    public var maximumSteps: Int?
    /// `per_device_train_batch_size`, in rows. Default 8.
    public var batchSize = 8
    /// `per_device_eval_batch_size`: accepted, without effect: evaluation is the same for any size.
    public var evalBatchSize = 8
    /// `gradient_accumulation_steps`. Default 1.
    public var accumulation = 1
    /// `max_grad_norm`; 0 for no clipping. Default 1.
    public var maximumGradientNorm = 1.0
    /// `weight_decay`. Default 0.
    public var weightDecay = 0.0
    /// `adam_beta1`. Default 0.9.
    public var beta1 = 0.9
    /// `adam_beta2`. Default 0.999.
    public var beta2 = 0.999
    /// `adam_epsilon`. Default 1e-8.
    public var epsilon = 1e-8
    /// `max_length`, in tokens: a longer row is refused. Default: what the model was made for.
    public var maximumLength: Int?
    /// `packing`: rows of one optimizer step are laid together across its batches. Default true; changes speed only.
    public var packing = true
    /// `shuffle`: rows in a new seeded order each epoch. Default true.
    public var shuffle = true
    /// `seed` of the adapter's start and of a dropout's masks, and of the order unless `data_seed` is given. Default 42.
    public var seed: UInt64 = 42
    public var dataSeed: UInt64?
    /// `train_on`. Default `assistant`.
    public var trainedPart: TrainedPart = .assistant
    /// `completion_only_loss`. Default true.
    public var completionOnly = true
    /// `logging_steps`: how often progress is told; `metrics.jsonl` has every step. Default 1.
    public var loggingSteps = 1
    /// `eval_steps`: between evaluations; nil: before and after only.
    public var evalSteps: Int?
    /// `save_steps`: between checkpoints. Default 50.
    public var saveSteps = 50
    /// `save_total_limit`: checkpoints kept. Default 2.
    public var savedLimit = 2
    /// `dtype`: `bfloat16` or `float32` products; nil: what the model was prepared as.
    public var elementTypeName: String?
    /// `adapter`: the reference of an adapter to go on from.
    public var startingAdapter: String?

    public init(adapterFields: JSONObject = JSONObject()) { self.adapterFields = adapterFields }

    /// Every field with its effective value; what `training.json` beside an adapter keeps.
    public var json: JSONValue {
        func whole(_ value: Int?) -> JSONValue { value.map { .integer(Int64($0)) } ?? .null }
        var members = adapterFields.entries
        members += [
            (
                "learning_rate",
                learningRate.map(JSONValue.number) ?? (findsLearningRate ? "find" : "auto")
            ),
            ("lr_scheduler_type", .string(scheduler.rawValue)),
            ("warmup_steps", whole(warmupSteps)), ("warmup_ratio", .number(warmupRatio)),
            ("num_train_epochs", .number(epochs)), ("max_steps", whole(maximumSteps)),
            ("per_device_train_batch_size", whole(batchSize)),
            ("gradient_accumulation_steps", whole(accumulation)),
            ("max_grad_norm", .number(maximumGradientNorm)),
            ("weight_decay", .number(weightDecay)), ("adam_beta1", .number(beta1)),
            ("adam_beta2", .number(beta2)), ("adam_epsilon", .number(epsilon)),
            ("max_length", whole(maximumLength)), ("packing", .bool(packing)),
            ("shuffle", .bool(shuffle)), ("seed", .string(String(seed))),
            ("data_seed", dataSeed.map { .string(String($0)) } ?? .null),
            ("train_on", .string(trainedPart.rawValue)),
            ("completion_only_loss", .bool(completionOnly)),
            ("dtype", elementTypeName.map(JSONValue.string) ?? .null),
        ]
        // Only where they say something, so that the digest of other recipes is what it was.
        if let loraPlusRatio {
            members += [
                ("loraplus_lr_ratio", .number(loraPlusRatio)),
                ("loraplus_lr_embedding", .number(loraPlusEmbeddingRate)),
            ]
        }
        if sharesB { members.append(("share_b", true)) }
        members += [("adapter", startingAdapter.map(JSONValue.string) ?? .null)]
        return .object(JSONObject(members))
    }

    /// Names what is computed: two recipes with equal values have one digest, however they were written. How often
    /// something is saved or told is not in it.
    public var digest: ContentDigest { ContentDigest(of: json.serialized(sortedKeys: true)) }

    /// Warm-up steps of a run of `total` optimizer steps.
    public func warmup(of total: Int) -> Int {
        warmupSteps > 0 ? warmupSteps : Int((Double(total) * warmupRatio).rounded(.up))
    }

    /// Optimizer steps of the run.
    public func totalSteps(stepsPerEpoch: Int) -> Int {
        if let maximumSteps { return maximumSteps }
        return Int((epochs * Double(stepsPerEpoch)).rounded(.up))
    }
}
