import Testing

@testable import Datasets

@Suite struct BatchPlanTests {
    @Test("KINDS 1 and 5: partial batches and windows are trained and counted")
    func partialWindowsAreTrained() {
        let plan = BatchPlan(exampleCount: 11, batchSize: 2, accumulation: 2, shuffleSeed: nil)
        #expect(plan.stepsPerEpoch == 3)
        let order = plan.order(epoch: 0)
        #expect(
            (0..<3).map { Array(plan.window($0, of: order)) } == [
                [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10],
            ])
    }

    @Test func shuffleIsSeededAndWhole() {
        let plan = BatchPlan(exampleCount: 100, batchSize: 8, accumulation: 1, shuffleSeed: 7)
        let first = plan.order(epoch: 0)
        #expect(first == plan.order(epoch: 0))
        #expect(first != plan.order(epoch: 1))
        #expect(first.sorted() == Array(0..<100))
        let other = BatchPlan(exampleCount: 100, batchSize: 8, accumulation: 1, shuffleSeed: 8)
        #expect(other.order(epoch: 0) != first)
    }

    /// The order must not change with versions: a resumed run depends on it.
    @Test func orderIsFixed() {
        let plan = BatchPlan(exampleCount: 8, batchSize: 1, accumulation: 1, shuffleSeed: 42)
        #expect(plan.order(epoch: 0) == Self.fixed)
    }
    static let fixed = [6, 7, 2, 0, 1, 5, 4, 3]

    @Test func numbersBelowABoundAreEven() {
        var random = SeededGenerator(seed: 1)
        var counts = [Int](repeating: 0, count: 7)
        for _ in 0..<70_000 { counts[Int(random.below(7))] += 1 }
        #expect(counts.allSatisfy { abs($0 - 10_000) < 500 })
    }

    @Test func groupsRespectBatchesAndTokens() {
        let plan = BatchPlan(exampleCount: 6, batchSize: 2, accumulation: 3, shuffleSeed: nil)
        let lengths = [3, 3, 3, 9, 1, 1]
        func groups(_ packing: Bool, _ limit: Int) -> [Range<Int>] {
            plan.groups(
                (0..<6).map { $0 }[...], lengths: { lengths[$0] }, maximumTokens: limit,
                packing: packing)
        }
        #expect(groups(true, 100) == [0..<6])
        #expect(groups(false, 100) == [0..<2, 2..<4, 4..<6])
        #expect(groups(true, 9) == [0..<3, 3..<4, 4..<6])
        #expect(groups(false, 5) == [0..<1, 1..<2, 2..<3, 3..<4, 4..<6])
    }

    @Test func packedRowsKeepTheirSpans() {
        let rows = PackedRows([
            TrainingExample(line: 1, tokens: [1, 2, 3], labelled: [0..<1, 2..<3]),
            TrainingExample(line: 2, tokens: [4, 5], labelled: [1..<2]),
        ])
        #expect(rows.tokens == [1, 2, 3, 4, 5] && rows.spanLengths == [3, 2])
        #expect(rows.labels == [1, -100, 3, -100, 5])
        // The first token of a span is never predicted.
        #expect(rows.labelCount == 2)
    }
}
