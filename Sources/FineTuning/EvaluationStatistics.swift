import Datasets

/// A figure of an evaluation with its 95 % confidence interval.
public struct EvaluationFigure: Sendable, Equatable {
    public var value: Double
    public var low: Double
    public var high: Double

    public init(value: Double, low: Double, high: Double) {
        self.value = value
        self.low = low
        self.high = high
    }
}

/// Figures over the rows of an evaluation, each row a sum and a weight: summed losses over labels, matches over one.
///
/// The value is Σ sum / Σ weight. Intervals are percentiles of 1,000 bootstrap samples of rows (Efron 1979), drawn from a fixed
/// stream, so that the same rows give the same interval; rows, not tokens, are what is drawn, since tokens of a row go together.
public enum EvaluationStatistics {
    /// One row: what it adds to the sum and to the weight.
    public struct Row: Sendable, Equatable {
        public var sum: Double
        public var weight: Double
        public init(sum: Double, weight: Double) {
            self.sum = sum
            self.weight = weight
        }
    }

    static let samples = 1_000

    /// - Returns: Nil without any weight.
    public static func figure(_ rows: [Row]) -> EvaluationFigure? {
        guard let value = ratio(rows) else { return nil }
        var drawn = bootstrap(count: rows.count) { picks in
            ratio(picks.lazy.map { rows[$0] }) ?? value
        }
        return interval(value, &drawn)
    }

    /// Of 0 and 1 rows: the interval of Wilson (1927), which holds at few rows and at shares of 0 and 1.
    public static func share(_ matches: Int, of count: Int) -> EvaluationFigure? {
        guard count > 0, (0...count).contains(matches) else { return nil }
        let z = 1.959_964
        let n = Double(count)
        let p = Double(matches) / n
        let middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        let half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)).squareRoot()
        return EvaluationFigure(
            value: p, low: min(p, max(0, middle - half)), high: max(p, min(1, middle + half)))
    }

    /// The difference of two figures over the same rows, drawn together: what both find hard cancels out.
    ///
    /// - Returns: First minus second; nil unless both have the same rows and weight.
    public static func difference(_ first: [Row], _ second: [Row]) -> EvaluationFigure? {
        guard first.count == second.count, let a = ratio(first), let b = ratio(second) else {
            return nil
        }
        var drawn = bootstrap(count: first.count) { picks in
            guard let a = ratio(picks.lazy.map { first[$0] }),
                let b = ratio(picks.lazy.map { second[$0] })
            else { return 0 }
            return a - b
        }
        return interval(a - b, &drawn)
    }

    private static func ratio(_ rows: some Sequence<Row>) -> Double? {
        var (sum, weight) = (0.0, 0.0)
        for row in rows {
            sum += row.sum
            weight += row.weight
        }
        return weight > 0 ? sum / weight : nil
    }

    private static func bootstrap(count: Int, _ statistic: ([Int]) -> Double) -> [Double] {
        var random = SeededGenerator(seed: 1, stream: UInt64(count))
        var picks = [Int](repeating: 0, count: count)
        return (0..<samples).map { _ in
            for index in picks.indices { picks[index] = Int(random.below(UInt64(count))) }
            return statistic(picks)
        }
    }

    private static func interval(_ value: Double, _ drawn: inout [Double]) -> EvaluationFigure {
        drawn.sort()
        let tail = samples / 40
        return EvaluationFigure(
            value: value, low: min(value, drawn[tail]), high: max(value, drawn[samples - 1 - tail]))
    }
}
