import Foundation
import JSONModel

/// A learning-rate range test (Smith 2015, arXiv 1506.01186): optimizer steps at rates that grow exponentially, and what
/// the loss made of each.
///
/// The windows are those of the run's own first steps. Each loss is divided by the loss that the untrained adapter has on
/// the same rows, so that easy and hard rows do not look like good and bad rates. The curve depends on nothing but
/// adapter, rows and recipe.
public struct RateCurve: Sendable, Equatable {
    public struct Point: Sendable, Equatable {
        /// The rate that the step before `loss` was made with.
        public var rate: Double
        /// Mean over the labels of a window, in nats, after the steps at all rates up to `rate`.
        public var loss: Double
        /// `loss` over the loss of the untrained adapter on the same window.
        public var relative: Double

        public init(rate: Double, loss: Double, relative: Double) {
            self.rate = rate
            self.loss = loss
            self.relative = relative
        }
    }

    /// Steps of a whole test, from the least rate to the most.
    public static let steps = 60
    public static let leastRate = 1e-5
    public static let mostRate = 0.1
    /// Weight of what was before in the running mean.
    static let smoothing = 0.8

    public var points: [Point] = []
    /// Whether the test ended because the loss grew or was not finite.
    public var diverged = false

    public init() {}

    /// The rate of step `index`, from 0.
    static func rate(_ index: Int) -> Double {
        leastRate * pow(mostRate / leastRate, Double(index) / Double(steps - 1))
    }

    /// Running means of `relative`, corrected for their start as Adam corrects its own.
    public var smoothed: [Double] {
        var mean = 0.0
        return points.enumerated().map { index, point in
            mean = Self.smoothing * mean + (1 - Self.smoothing) * point.relative
            return mean / (1 - pow(Self.smoothing, Double(index + 1)))
        }
    }

    /// Whether going on would tell nothing more: half of what was gained is lost again, or the loss is twice that of the start.
    var isLost: Bool {
        guard let last = smoothed.last, let least = smoothed.min() else { return false }
        return last > 2 || last - least > max(0.5 * (1 - least), 0.1)
    }

    public struct Choice: Sendable, Equatable {
        public var rate: Double
        public var reason: String
        /// What a person should know of the choice.
        public var warning: String?
    }

    /// Half of the rate at which the smoothed curve is lowest.
    ///
    /// The test meets each rate for one step, a run holds its peak for many; and the running mean is late by some steps. Half, because
    /// on the grids of docs/lora.md it was best; the rate of the steepest descent (Smith 2015) is far too low for adapters.
    ///
    /// - Throws: `FineTuneError.nonFinite` if no rate of the test lowered the loss.
    public func choice() throws(FineTuneError) -> Choice {
        let smoothed = smoothed
        guard let least = smoothed.min(), let lowest = smoothed.firstIndex(of: least), lowest >= 2,
            least < 0.99
        else {
            throw FineTuneError(
                .nonFinite,
                "find: no rate from \(Self.leastRate) to \(Self.mostRate) lowered the loss of the first rows; "
                    + "give a number, and look at the rows with `loraq data check`",
                field: "learning_rate")
        }
        let half = points[lowest].rate / 2
        let end =
            diverged
            ? "it came apart at \(Self.short(points[points.count - 1].rate))"
            : "no rate up to \(Self.short(Self.mostRate)) made it come apart"
        return Choice(
            // Three digits say more than the test knows.
            rate: Double(String(format: "%.2e", half)) ?? half,
            reason:
                "find: half of \(Self.short(points[lowest].rate)), where the loss of a range test was lowest; "
                + end,
            warning: lowest < points.count - 1
                ? nil
                : "learning_rate: find: the loss was lowest at the highest rate tried; the best rate may be higher"
        )
    }

    static func short(_ value: Double) -> String { String(format: "%.2g", value) }
}

extension RateCurve {
    /// What a checkpoint keeps.
    var json: JSONValue {
        [
            "diverged": .bool(diverged),
            "points": .array(
                points.map {
                    [.number($0.rate), .number($0.loss), .number($0.relative)]
                }),
        ]
    }

    /// Nil if a member is missing or of another form.
    init?(json: JSONValue) {
        guard let diverged = json["diverged"]?.bool, let points = json["points"]?.array else {
            return nil
        }
        self.diverged = diverged
        for point in points {
            guard let numbers = point.array?.compactMap(\.double), numbers.count == 3 else {
                return nil
            }
            self.points.append(Point(rate: numbers[0], loss: numbers[1], relative: numbers[2]))
        }
    }
}
