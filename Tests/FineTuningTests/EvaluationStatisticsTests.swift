import Testing

@testable import FineTuning

@Suite struct EvaluationStatisticsTests {
    private typealias Row = EvaluationStatistics.Row

    @Test func aShareHasWilsonsInterval() throws {
        // Of 10 in 20: 0.299 to 0.701 (Wilson 1927, as in statsmodels' proportion_confint).
        let half = try #require(EvaluationStatistics.share(10, of: 20))
        #expect(half.value == 0.5)
        #expect(abs(half.low - 0.29930) < 1e-4 && abs(half.high - 0.70070) < 1e-4)
        let all = try #require(EvaluationStatistics.share(20, of: 20))
        #expect(all.value == 1 && all.high == 1)
        #expect(abs(all.low - 0.83887) < 1e-4)
        let none = try #require(EvaluationStatistics.share(0, of: 20))
        #expect(none.low == 0 && abs(none.high - 0.16113) < 1e-4)
        #expect(EvaluationStatistics.share(0, of: 0) == nil)
    }

    @Test func aRatioWeighsRowsByTheirLabels() throws {
        let rows = [Row(sum: 2, weight: 1), Row(sum: 3, weight: 9)]
        let figure = try #require(EvaluationStatistics.figure(rows))
        #expect(figure.value == 0.5)
        #expect(figure.low < 0.5 && figure.high > 0.5)
        #expect(EvaluationStatistics.figure(rows) == figure, "the stream is fixed")
        #expect(EvaluationStatistics.figure([]) == nil)
        #expect(EvaluationStatistics.figure([Row(sum: 1, weight: 0)]) == nil)
    }

    /// The normal interval of a mean, which a bootstrap of many rows comes near.
    @Test func anIntervalHasTheWidthOfTheNormalOne() throws {
        let rows = (0..<400).map { Row(sum: Double($0 % 4), weight: 1) }
        let figure = try #require(EvaluationStatistics.figure(rows))
        let half = 1.96 * (1.25 / 400.0).squareRoot()
        #expect(figure.value == 1.5)
        #expect(abs((figure.high - figure.low) / 2 - half) < 0.1 * half)
    }

    /// Rows differ much, models by little and always: drawn together, the difference is certain.
    @Test func aDifferenceIsPaired() throws {
        let second = (0..<60).map { Row(sum: Double($0 % 10), weight: 1) }
        let first = second.map { Row(sum: $0.sum + 0.1, weight: 1) }
        let gain = try #require(EvaluationStatistics.difference(first, second))
        #expect(abs(gain.value - 0.1) < 1e-9 && abs(gain.low - 0.1) < 1e-9)
        let alone = try #require(EvaluationStatistics.figure(second))
        #expect(alone.high - alone.low > 1)
        #expect(EvaluationStatistics.difference(first, Array(second.dropLast())) == nil)
    }
}
