import Datasets
import JSONModel
import Kernels
import LinuxSystem
import Testing

@testable import FineTuning

@Suite struct StopRulesTests {
    struct Case: Sendable {
        var patience: Int
        var threshold: Double
        var losses: [Double]
        /// Evaluation (from 1) that ends the run, and the best one until then.
        var stop: Int?
        var best: Int
    }

    /// From `EarlyStoppingCallback` of transformers 5, called with these losses.
    static let transformers: [Case] = [
        Case(patience: 1, threshold: 0, losses: [3, 2, 1, 1.5, 1.2, 1.1], stop: 4, best: 3),
        Case(patience: 1, threshold: 0, losses: [3, 2.5, 2.4, 2.39, 2.385, 2.38], best: 6),
        Case(patience: 1, threshold: 0, losses: [2, 2, 2, 2], stop: 2, best: 1),
        Case(patience: 2, threshold: 0, losses: [3, 2, 1, 1.5, 1.2, 1.1], stop: 5, best: 3),
        Case(patience: 2, threshold: 0, losses: [1, 2, 0.5, 2, 2, 2], stop: 5, best: 3),
        Case(
            patience: 2, threshold: 0.05, losses: [3, 2.5, 2.4, 2.39, 2.385, 2.38], stop: 5, best: 5
        ),
        Case(patience: 2, threshold: 0.05, losses: [5, 4, 3, 2, 1], best: 5),
        Case(patience: 3, threshold: 0.2, losses: [3, 2, 1, 1.5, 1.2, 1.1], stop: 6, best: 3),
        Case(patience: 3, threshold: 0.2, losses: [2, 2, 2, 2], stop: 4, best: 1),
    ]

    @Test(arguments: transformers) func earlyStopIsThatOfTransformers(_ item: Case) {
        var rules = StopRules()
        rules.patience = item.patience
        rules.threshold = item.threshold
        var watch = RunWatch()
        // The untrained model is no candidate.
        watch.evaluated(0, step: 0, rules: rules)
        var stop: Int?
        for (index, loss) in item.losses.enumerated() where stop == nil {
            watch.evaluated(loss, step: 10 * (index + 1), rules: rules)
            // What a checkpoint keeps decides the same.
            watch = RunWatch(json: watch.json)
            if let end = watch.end {
                stop = index + 1
                #expect(end.reason == .earlyStopping && end.step == 10 * (index + 1))
            }
        }
        #expect(stop == item.stop && watch.bestStep == 10 * item.best)
    }

    @Test func divergenceIsALossThatStaysFarAboveItsMinimum() {
        var rules = StopRules()
        rules.divergenceThreshold = 2
        rules.divergencePatience = 3
        func end(_ losses: [Double]) -> Int? {
            var watch = RunWatch()
            for (index, loss) in losses.enumerated() {
                let end = watch.trained(loss, step: index + 1, rules: rules)
                watch = RunWatch(json: watch.json)
                if let end {
                    #expect(end.reason == .divergence && end.message.contains("learning rate"))
                    return end.step
                }
            }
            return nil
        }
        #expect(end([1, 1, 9, 9, 9, 9]) == 5)
        #expect(end([1, 1, 9, 9, 1, 9, 9, 1]) == nil, "single steps are rows that are hard")
        #expect(end([9, 8, 7, 8, 9, 9, 9]) == nil, "no further above than two")
        #expect(end([5, 5, 5, 5, 5, 5]) == nil)
        rules.divergenceThreshold = nil
        #expect(end([1, 1, 9, 9, 9, 9]) == nil)
    }

    @Test func linesThatAreHeldOutFollowFromTheSeedAlone() throws {
        let usable = [1, 2, 4, 5, 7, 8, 9, 12, 13, 20]
        let drawn = try HeldOutRows.share(0.25).lines(of: usable, seed: 42)
        #expect(drawn.count == 3 && drawn == drawn.sorted() && Set(drawn).isSubset(of: usable))
        #expect(try HeldOutRows.count(3).lines(of: usable, seed: 42) == drawn)
        #expect(drawn == [2, 4, 8], "the same on every machine and in every version")
        let others = try (1...20).map { try HeldOutRows.count(3).lines(of: usable, seed: $0) }
        #expect(Set(others).count > 10)
        let error = #expect(throws: FineTuneError.self) {
            _ = try HeldOutRows.count(10).lines(of: usable, seed: 1)
        }
        #expect(error?.field == "val_set_size")
        #expect(HeldOutRows(0.5) == .share(0.5) && HeldOutRows(7) == .count(7))
        #expect(HeldOutRows(1.5) == nil && HeldOutRows(0) == nil)
    }

    static let faults: [(recipe: JSONValue, field: String)] = [
        (["val_set_size": 1.5], "val_set_size"), (["val_set_size": 0], "val_set_size"),
        (["load_best_model_at_end": true], "load_best_model_at_end"),
        (["early_stopping_patience": 3], "early_stopping_patience"),
        (["early_stopping_threshold": 0.1, "eval_steps": 1], "early_stopping_threshold"),
        (["metric_for_best_model": "accuracy"], "metric_for_best_model"),
        (["divergence_patience": 0], "divergence_patience"),
        (["divergence_threshold": -1], "divergence_threshold"),
    ]

    @Test(arguments: faults) func faultNamesTheField(recipe: JSONValue, field: String) {
        let error = #expect(throws: FineTuneError.self) { _ = try FineTuneRecipe(recipe) }
        #expect(error?.code == .recipe && error?.field == field)
    }

    @Test func rulesAreAPartOfTheRecipeAndReadBack() throws {
        let recipe = try FineTuneRecipe([
            "val_set_size": 0.2, "eval_steps": 4, "load_best_model_at_end": true,
            "early_stopping_patience": 2, "early_stopping_threshold": 0.1,
            "metric_for_best_model": "loss", "divergence_threshold": 0,
        ])
        #expect(recipe.heldOut == .share(0.2) && recipe.stopping.keepsBest)
        #expect(recipe.stopping.patience == 2 && recipe.stopping.threshold == 0.1)
        #expect(recipe.stopping.divergenceThreshold == nil)
        #expect(recipe.json["val_set_size"] == 0.2 && recipe.json["divergence_threshold"] == 0)
        #expect(try recipe.digest != FineTuneRecipe(["eval_steps": 4]).digest)
        #expect(try FineTuneRecipe([:]).stopping.divergenceThreshold == 3)
    }
}
