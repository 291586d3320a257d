import Datasets
import JSONModel

/// `val_set_size`: rows of the training file that are kept out of training and evaluated instead.
public enum HeldOutRows: Sendable, Equatable {
    /// Of the usable rows, rounded up; above 0 and below 1.
    case share(Double)
    case count(Int)

    init?(_ value: Double) {
        if value > 0, value < 1 {
            self = .share(value)
        } else if let count = Int(exactly: value), count >= 1 {
            self = .count(count)
        } else {
            return nil
        }
    }

    var json: JSONValue {
        switch self {
        case .share(let share): .number(share)
        case .count(let count): .integer(Int64(count))
        }
    }

    /// The lines that are held out: drawn without replacement among the usable ones, by the seed alone, so that the same
    /// file and seed always hold out the same rows. In the order of the file.
    ///
    /// - Parameter usable: Lines of the rows that can be trained.
    /// - Throws: `FineTuneError.recipe` if nothing would be left to train.
    func lines(of usable: [Int], seed: UInt64) throws(FineTuneError) -> [Int] {
        let count: Int
        switch self {
        case .share(let share): count = Int((share * Double(usable.count)).rounded(.up))
        case .count(let number): count = number
        }
        guard count < usable.count else {
            throw FineTuneError(
                .recipe,
                "holds out \(count) of \(usable.count) usable rows: none would be left to train",
                field: "val_set_size")
        }
        // The order of an epoch that no training reaches.
        let order = BatchPlan(
            exampleCount: usable.count, batchSize: 1, accumulation: 1, shuffleSeed: seed
        ).order(epoch: .max)
        return order.prefix(count).sorted().map { usable[$0] }
    }
}

extension FineTuneJob {
    /// The rows to train and those to evaluate, if any.
    ///
    /// - Throws: `FineTuneError.recipe` where the recipe asks for evaluation rows in two ways, or asks for what needs them
    ///   and there are none; `DatasetError`.
    func readRows(
        _ control: FineTuneControl
    ) throws -> (training: TrainingDataset, evaluation: TrainingDataset?) {
        guard let heldOut = recipe.heldOut else {
            let rules = recipe.stopping
            guard evaluationPath != nil || !(rules.keepsBest || rules.patience != nil) else {
                throw FineTuneError(
                    .recipe, "needs evaluation rows: give an evaluation file or val_set_size",
                    field: rules.keepsBest ? "load_best_model_at_end" : "early_stopping_patience")
            }
            let training = try read(trainingPath, control)
            try training.requireLabels()
            let evaluation = try evaluationPath.map { try read($0, control) }
            try evaluation?.requireLabels()
            return (training, evaluation)
        }
        guard evaluationPath == nil else {
            throw FineTuneError(
                .recipe, "and an evaluation file cannot both be given", field: "val_set_size")
        }
        let all = try read(trainingPath, control)
        try all.requireLabels()
        let lines = Set(
            try heldOut.lines(
                of: all.examples.map(\.line), seed: recipe.dataSeed ?? recipe.seed))
        // Read again in two parts, so that each has an account of its own.
        return (
            try read(trainingPath, control) { !lines.contains($0) },
            try read(trainingPath, control) { lines.contains($0) }
        )
    }

    /// Training rows that are evaluated too.
    static func overlapWarnings(
        _ training: TrainingDataset, _ evaluation: TrainingDataset?
    ) -> [String] {
        guard let evaluation else { return [] }
        let known = Set(evaluation.examples.map(\.tokens))
        let count = training.examples.count { known.contains($0.tokens) }
        guard count > 0 else { return [] }
        return [
            "\(count) training row\(count == 1 ? " is" : "s are") equal to an evaluation row: "
                + "the evaluation loss is too good by them"
        ]
    }
}
