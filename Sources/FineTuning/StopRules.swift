import JSONModel

/// Which state of a run becomes the adapter, and what ends a run before its planned steps.
///
/// The names are those of transformers' `TrainingArguments` and `EarlyStoppingCallback`; the two fields on divergence have
/// no name there.
public struct StopRules: Sendable, Equatable {
    /// `load_best_model_at_end`: the adapter is the state with the lowest evaluation loss, not the last one. Default false.
    public var keepsBest = false
    /// `early_stopping_patience`: evaluations in a row without a gain that end the run; nil: none do.
    public var patience: Int?
    /// `early_stopping_threshold`: what an evaluation must be below the best one to be a gain, in nats. Default 0.
    public var threshold = 0.0
    /// `divergence_threshold`: how far above its lowest smoothed value the loss counts as diverged, in nats; nil (0 in a
    /// recipe): never. Default 3.
    public var divergenceThreshold: Double? = 3
    /// `divergence_patience`: steps in a row as far above as that which end the run. Default 10.
    public var divergencePatience = 10

    public init() {}

    /// Nothing ends a run early.
    static var none: StopRules {
        var rules = StopRules()
        rules.divergenceThreshold = nil
        return rules
    }

    /// Nobody waits for a better evaluation after the last step.
    var withoutPatience: StopRules {
        var rules = self
        rules.patience = nil
        return rules
    }

    mutating func read(_ fields: inout RecipeFields, evalSteps: Int?) throws(FineTuneError) {
        keepsBest = try fields.flag("load_best_model_at_end") ?? keepsBest
        patience = try fields.whole("early_stopping_patience", from: 1)
        if let value = try fields.number("early_stopping_threshold", from: 0) {
            guard patience != nil else {
                throw FineTuneError(
                    .recipe, "says nothing without early_stopping_patience",
                    field: "early_stopping_threshold")
            }
            threshold = value
        }
        if let name = try fields.text("metric_for_best_model"),
            !["eval_loss", "loss"].contains(name)
        {
            throw FineTuneError(
                .recipe,
                "is \(name.prefix(40)); a fine-tune measures eval_loss (`loraq evaluate` has the other metrics)",
                field: "metric_for_best_model")
        }
        if let value = try fields.number("divergence_threshold", from: 0) {
            divergenceThreshold = value == 0 ? nil : value
        }
        divergencePatience = try fields.whole("divergence_patience", from: 1) ?? divergencePatience
        guard evalSteps == nil else { return }
        if keepsBest || patience != nil {
            throw FineTuneError(
                .recipe, "needs eval_steps: how many steps lie between evaluations",
                field: keepsBest ? "load_best_model_at_end" : "early_stopping_patience")
        }
    }

    var members: [(key: String, value: JSONValue)] {
        [
            ("load_best_model_at_end", .bool(keepsBest)),
            ("early_stopping_patience", patience.map { .integer(Int64($0)) } ?? .null),
            ("early_stopping_threshold", patience == nil ? .null : .number(threshold)),
            ("divergence_threshold", .number(divergenceThreshold ?? 0)),
            ("divergence_patience", .integer(Int64(divergencePatience))),
        ]
    }
}

/// Why and where a run ended before its planned steps.
public struct EarlyEnd: Sendable, Equatable {
    public enum Reason: String, Sendable {
        /// Evaluations did not get better any more.
        case earlyStopping = "early_stopping"
        /// The loss rose far above its minimum and stayed there.
        case divergence
        /// Losses, gradients or weights were not finite.
        case nonFinite = "non_finite"
    }

    public var reason: Reason
    /// Optimizer steps done.
    public var step: Int
    /// In a sentence.
    public var message: String

    public init(_ reason: Reason, step: Int, _ message: String) {
        self.reason = reason
        self.step = step
        self.message = message
    }

    var json: JSONValue {
        [
            "reason": .string(reason.rawValue), "step": .integer(Int64(step)),
            "message": .string(message),
        ]
    }

    init?(json: JSONValue) {
        guard let reason = json["reason"]?.string.flatMap(Reason.init(rawValue:)),
            let step = json["step"]?.integer, let message = json["message"]?.string
        else { return nil }
        self.init(reason, step: step, message)
    }
}

/// What the rules remember of a run: a part of its state, kept in checkpoints, so that a resumed run decides the same.
struct RunWatch: Sendable, Equatable {
    /// The lowest evaluation loss after a step of this run, and the step.
    var bestLoss: Double?
    var bestStep: Int?
    /// The newest evaluation.
    var evaluatedStep: Int?
    var evaluatedLoss: Double?
    var evaluationsWithoutGain = 0
    /// Exponential mean of the steps' losses, a tenth from each new one, and the lowest it has been.
    var smoothedLoss: Double?
    var lowestLoss: Double?
    var stepsAbove = 0
    /// The newest checkpoint that was written while the loss was not far above its minimum.
    var goodCheckpoint: Int?
    var end: EarlyEnd?

    static let smoothing = 0.1

    /// Takes a finite evaluation loss in. As `EarlyStoppingCallback`, what is compared is the best loss before.
    mutating func evaluated(_ loss: Double, step: Int, rules: StopRules) {
        evaluatedStep = step
        evaluatedLoss = loss
        guard step > 0 else { return }
        let gain = bestLoss.map { $0 - loss }
        let isGain = gain.map { $0 > rules.threshold } ?? true
        evaluationsWithoutGain = isGain ? 0 : evaluationsWithoutGain + 1
        if gain.map({ $0 > 0 }) ?? true {
            bestLoss = loss
            bestStep = step
        }
        guard let patience = rules.patience, evaluationsWithoutGain >= patience,
            let bestStep, let bestLoss
        else { return }
        let times = patience == 1 ? "an evaluation was" : "\(patience) evaluations in a row were"
        let margin = rules.threshold > 0 ? " by more than \(rules.threshold)" : ""
        end = EarlyEnd(
            .earlyStopping, step: step,
            "\(times) not below the best one\(margin), which was \(Self.shown(bestLoss)) at step \(bestStep)"
        )
    }

    /// Takes the finite loss of a step in.
    ///
    /// - Returns: The end of the run, where this step makes it one that has diverged.
    mutating func trained(_ loss: Double, step: Int, rules: StopRules) -> EarlyEnd? {
        let smoothed = smoothedLoss.map { $0 + Self.smoothing * (loss - $0) } ?? loss
        smoothedLoss = smoothed
        let lowest = min(lowestLoss ?? smoothed, smoothed)
        lowestLoss = lowest
        guard let threshold = rules.divergenceThreshold else { return nil }
        stepsAbove = loss > lowest + threshold ? stepsAbove + 1 : 0
        guard stepsAbove >= rules.divergencePatience else { return nil }
        return EarlyEnd(
            .divergence, step: step,
            "the loss was \(Self.shown(loss)) at step \(step), where it had been down to "
                + "\(Self.shown(lowest)), and lay more than \(threshold) above that for "
                + "\(stepsAbove) steps in a row; lower the learning rate")
    }

    private static func shown(_ loss: Double) -> String {
        let scaled = (loss * 10_000).rounded() / 10_000
        return "\(scaled)"
    }

    var json: JSONValue {
        func number(_ value: Double?) -> JSONValue { value.map(JSONValue.number) ?? .null }
        func whole(_ value: Int?) -> JSONValue { value.map { .integer(Int64($0)) } ?? .null }
        return [
            "best_loss": number(bestLoss), "best_step": whole(bestStep),
            "evaluated_step": whole(evaluatedStep), "evaluated_loss": number(evaluatedLoss),
            "evaluations_without_gain": whole(evaluationsWithoutGain),
            "smoothed_loss": number(smoothedLoss), "lowest_loss": number(lowestLoss),
            "steps_above": whole(stepsAbove), "good_checkpoint": whole(goodCheckpoint),
            "end": end?.json ?? .null,
        ]
    }

    init() {}

    init(json: JSONValue) {
        bestLoss = json["best_loss"]?.double
        bestStep = json["best_step"]?.integer
        evaluatedStep = json["evaluated_step"]?.integer
        evaluatedLoss = json["evaluated_loss"]?.double
        evaluationsWithoutGain = json["evaluations_without_gain"]?.integer ?? 0
        smoothedLoss = json["smoothed_loss"]?.double
        lowestLoss = json["lowest_loss"]?.double
        stepsAbove = json["steps_above"]?.integer ?? 0
        goodCheckpoint = json["good_checkpoint"]?.integer
        end = json["end"].flatMap(EarlyEnd.init(json:))
    }
}
