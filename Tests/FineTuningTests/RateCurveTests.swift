import Foundation
import JSONModel
import Testing

@testable import FineTuning

/// A curve with these relative losses, at the rates of a test.
private func curve(_ relative: [Double], diverged: Bool = false) -> RateCurve {
    var curve = RateCurve()
    curve.points = relative.enumerated().map { index, value in
        .init(rate: RateCurve.rate(index), loss: 2 * value, relative: value)
    }
    curve.diverged = diverged
    return curve
}

@Suite struct RateCurveTests {
    /// A fall that is steepest in its middle, then flat, then lost.
    private static let fall: [Double] = (0..<50).map { (index: Int) -> Double in
        if index >= 45 { return Double(index - 44) }
        let steepness: Double = exp(Double(index - 25) / 2)
        return 0.6 + 0.4 / (1 + steepness)
    }

    @Test func ratesGrowEvenlyFromLeastToMost() {
        #expect(abs(RateCurve.rate(0) / RateCurve.leastRate - 1) < 1e-12)
        #expect(abs(RateCurve.rate(RateCurve.steps - 1) / RateCurve.mostRate - 1) < 1e-12)
        #expect(
            abs(RateCurve.rate(3) / RateCurve.rate(2) - RateCurve.rate(2) / RateCurve.rate(1))
                < 1e-12)
    }

    @Test func halfOfTheLowestIsChosen() throws {
        let choice = try curve(Self.fall, diverged: true).choice()
        #expect(abs(choice.rate / RateCurve.rate(44) - 0.5) < 0.005)
        #expect(choice.reason.contains("half of") && choice.reason.contains("came apart"))
        #expect(choice.warning == nil)
        #expect(try curve(Array(Self.fall.prefix(45))).choice().warning?.contains("higher") == true)
    }

    @Test func aRunningMeanHasNoStartOfItsOwn() {
        for value in curve([0.5, 0.5, 0.5]).smoothed { #expect(abs(value - 0.5) < 1e-12) }
    }

    @Test func theTestEndsWhenTheGainIsLost() {
        #expect(!curve([1, 0.9, 0.8, 0.7, 0.65]).isLost)
        #expect(curve([1, 0.7, 0.4, 0.4, 0.4, 3]).isLost)
        #expect(curve([1, 1, 5, 5]).isLost)
    }

    @Test(arguments: [[1, 1, 1, 1], [1, 1.2, 1.5, 2.5], [], [1]])
    func withoutAnyGainThereIsNoRate(relative: [Double]) {
        let error = #expect(throws: FineTuneError.self) { try curve(relative).choice() }
        #expect(error?.code == .nonFinite && error?.field == "learning_rate")
        #expect(error?.message.contains("data check") == true)
    }

    @Test func theFormOfACheckpointIsReadBack() throws {
        let curve = curve(Self.fall, diverged: true)
        let bytes = curve.json.serialized()
        #expect(RateCurve(json: try JSONValue.parse(bytes)) == curve)
        #expect(RateCurve(json: ["diverged": true, "points": [[1, 2]]]) == nil)
        #expect(RateCurve(json: ["points": []]) == nil)
    }
}

/// `learning_rate: find` in a run.
@Suite struct RateSearchTests {
    private func run(_ folder: String) throws -> BigramRun {
        var run = try BigramRun(folder: folder)
        run.recipe.learningRate = nil
        run.recipe.findsLearningRate = true
        run.recipe.shuffle = true
        run.recipe.saveSteps = 1
        return run
    }

    private func finish(_ run: BigramRun, _ control: FineTuneControl = .init()) throws
        -> FineTuneSummary
    {
        guard case .finished(let summary) = try run.run(control) else {
            throw FineTuneError(.compute, "not finished")
        }
        return summary
    }

    /// The test leaves no trace but its rate: steps equal those of a run that was given the rate.
    @Test func theFoundRateIsAsIfGiven() throws {
        try withTemporaryFolder { folder in
            let found = try run(folder + "/found")
            let summary = try finish(found)
            #expect(summary.rate.how == .find)
            #expect(RateCurve.leastRate...RateCurve.mostRate ~= summary.rate.rate)
            #expect(summary.rate.curve?.points.count == RateCurve.steps - 1)
            var given = try run(folder + "/given")
            given.recipe.findsLearningRate = false
            given.recipe.learningRate = summary.rate.rate
            _ = try finish(given)
            #expect(try found.metrics().map(\.loss) == given.metrics().map(\.loss))
            #expect(found.model.parameters.values == given.model.parameters.values)
        }
    }

    /// Stopped in the middle of the test it is made anew; after it, the rate comes from the checkpoint and no step is repeated.
    @Test(arguments: [3, 40, RateCurve.steps - 1])
    func theSearchSurvivesAStop(at point: Int) throws {
        try withTemporaryFolder { folder in
            let whole = try run(folder + "/whole")
            let expected = try finish(whole)
            let first = try run(folder + "/run")
            var searched = 0
            let ending = try first.run(
                FineTuneControl(
                    stopRequested: { searched >= point ? .preempted : nil },
                    report: { if $0.phase == .searching { searched += 1 } }))
            #expect(ending == .stopped(.preempted, step: 0))
            var second = try run(folder + "/run")
            second.model = try Bigram()
            var again = 0
            let summary = try finish(
                second, FineTuneControl(report: { if $0.phase == .searching { again += 1 } }))
            let hadCurve = point == RateCurve.steps - 1
            #expect(again == (hadCurve ? 0 : RateCurve.steps - 1))
            #expect(summary.resumedFromStep == (hadCurve ? 0 : nil))
            #expect(summary.rate == expected.rate)
            #expect(try second.metrics().map(\.loss) == whole.metrics().map(\.loss))
            #expect(second.model.parameters.values == whole.model.parameters.values)
        }
    }

    /// The kill comes after some steps: the rate is that of the checkpoint, whatever a test would find now.
    @Test func theRateIsPartOfTheCheckpoint() throws {
        try withTemporaryFolder { folder in
            let whole = try run(folder + "/whole")
            let expected = try finish(whole)
            let first = try run(folder + "/run")
            var steps = 0
            _ = try first.run(
                FineTuneControl(
                    stopRequested: { steps >= 3 ? .preempted : nil },
                    report: { if $0.phase == .training { steps += 1 } }))
            var second = try run(folder + "/run")
            second.model = try Bigram()
            // A test would now fail.
            second.model.poisonedLosses = []
            let summary = try finish(second)
            #expect(summary.resumedFromStep == 3 && summary.rate == expected.rate)
            #expect(second.model.passes == 3)
            #expect(second.model.parameters.values == whole.model.parameters.values)
        }
    }

    /// A loss that is not finite at the first rate: the run fails and says what to do.
    @Test func aTestThatFindsNothingFails() throws {
        try withTemporaryFolder { folder in
            let run = try run(folder)
            run.model.poisonedLosses = Set(0..<200)
            let error = #expect(throws: FineTuneError.self) { try run.run() }
            #expect(error?.field == "learning_rate")
        }
    }
}

@Suite struct AutomaticRateTests {
    /// The rule of docs/lora.md.
    @Test func aSmallShareAndANarrowModelWantMore() {
        let all = AutomaticRate.choice(share: 1, width: 192)
        let part = AutomaticRate.choice(share: 0.25, width: 192)
        #expect(all.rate == 0.01 && part.rate == 0.014)
        #expect(AutomaticRate.choice(share: 1e-6, width: 192).rate == 0.02)
        #expect(AutomaticRate.choice(share: 1, width: 576).rate < all.rate)
        #expect(part.reason.contains("25 %") && part.reason.contains("192"))
        #expect(part.how == .auto && part.curve == nil)
    }
}
