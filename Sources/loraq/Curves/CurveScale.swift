import Foundation

/// From values to a share of an axis: linear, or logarithmic where values above 0 lie far apart.
struct CurveScale: Equatable {
    let low: Double
    let high: Double
    let isLogarithmic: Bool

    /// Greatest over least value beyond which small ones would lie on the axis.
    static let ratioForLogarithm = 40.0

    /// - Parameters:
    ///   - values: Not finite ones are left out.
    ///   - includesZero: The axis begins at 0, as for amounts.
    init(_ values: [Double], includesZero: Bool = false) {
        let finite = values.filter(\.isFinite)
        var low = finite.min() ?? 0
        var high = finite.max() ?? 1
        isLogarithmic = !includesZero && low > 0 && high / low > Self.ratioForLogarithm
        if includesZero { low = min(0, low) }
        if low == high {
            let room = low == 0 ? 1 : abs(low) * 0.1
            low -= includesZero && low == 0 ? 0 : room
            high += room
        } else if !isLogarithmic {
            high += (high - low) * 0.04
            if !includesZero { low -= (high - low) * 0.04 }
        }
        self.low = low
        self.high = high
    }

    init(low: Double, high: Double) {
        self.low = low
        self.high = high > low ? high : low + 1
        isLogarithmic = false
    }

    /// 0 at the low end, 1 at the high one; outside where the value is.
    func share(_ value: Double) -> Double {
        isLogarithmic
            ? (log(max(value, .leastNormalMagnitude)) - log(low)) / (log(high) - log(low))
            : (value - low) / (high - low)
    }

    func value(_ share: Double) -> Double {
        isLogarithmic
            ? exp(log(low) + share * (log(high) - log(low))) : low + share * (high - low)
    }

    /// Round values on the axis, about `count` of them.
    func ticks(_ count: Int) -> [Double] {
        guard count > 0, high > low else { return [] }
        if isLogarithmic {
            let first = Int(log10(low).rounded(.up))
            let last = Int(log10(high).rounded(.down))
            if last - first >= 1 {
                let every = (last - first + 1 + count) / (count + 1)
                return stride(from: first, through: last, by: every).map { pow(10, Double($0)) }
            }
            return (0..<count).map { value((Double($0) + 0.5) / Double(count)) }
        }
        let rough = (high - low) / Double(count)
        let power = pow(10, floor(log10(rough)))
        let step = [1.0, 2, 5, 10].map { $0 * power }.first { $0 >= 0.7 * rough } ?? rough
        var ticks: [Double] = []
        var tick = (low / step).rounded(.up) * step
        while tick <= high * (1 + 1e-12), ticks.count < 4 * count {
            ticks.append(abs(tick) < step * 1e-9 ? 0 : tick)
            tick += step
        }
        return ticks
    }
}

/// Many points as few: equal parts of the x axis, each with the mean and the range of its points.
enum CurveThinning {
    struct Part: Equatable {
        var x: Double
        var mean: Double
        var least: Double
        var greatest: Double
    }

    /// - Returns: At most `count` parts, in order; those without a finite point are left out.
    static func parts(_ points: [CurvePoint], count: Int, from low: Double, to high: Double)
        -> [Part]
    {
        guard count > 0, high > low else { return [] }
        var parts: [Part] = []
        var place = -1
        var sum = (x: 0.0, y: 0.0, count: 0.0)
        for point in points where point.y.isFinite && point.x.isFinite {
            let own = min(count - 1, max(0, Int((point.x - low) / (high - low) * Double(count))))
            if own != place || parts.isEmpty {
                parts.append(Part(x: point.x, mean: point.y, least: point.y, greatest: point.y))
                place = own
                sum = (point.x, point.y, 1)
                continue
            }
            sum = (sum.x + point.x, sum.y + point.y, sum.count + 1)
            parts[parts.count - 1].x = sum.x / sum.count
            parts[parts.count - 1].mean = sum.y / sum.count
            parts[parts.count - 1].least = min(parts[parts.count - 1].least, point.y)
            parts[parts.count - 1].greatest = max(parts[parts.count - 1].greatest, point.y)
        }
        return parts
    }
}
