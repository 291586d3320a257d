import Foundation
import LoRA
import Transformer

/// How a run's peak learning rate came about.
public struct RateChoice: Sendable, Equatable {
    public enum How: String, Sendable { case given, auto, find }
    public var how: How
    public var rate: Double
    /// In words, for a person; empty where the rate was given.
    public var reason: String
    /// The range test of `find`.
    public var curve: RateCurve?

    public init(how: How, rate: Double, reason: String = "", curve: RateCurve? = nil) {
        self.how = how
        self.rate = rate
        self.reason = reason
        self.curve = curve
    }
}

/// `learning_rate: auto`: a formula over the model's width and the share of its matrices that is adapted.
///
/// A small subset wants a higher rate (arXiv 2404.05086), and a narrow model too. The numbers of the share come from the grids in
/// `Benchmarks/lora-note/learning-rate.md`; docs/lora.md tells how.
enum AutomaticRate {
    /// The rate of all linear matrices of a model as wide as `referenceWidth`.
    static let referenceRate = 1e-2
    static let referenceWidth = 192.0
    /// A rule of thumb: the grids are of one width.
    static let widthExponent = 1.0
    static let shareExponent = 0.25
    /// The most that a small share makes of the rate; nothing was measured below a share of 1/16.
    static let shareLimit = 2.0

    /// Only linear matrices were measured: where an embedding or head alone is adapted the share changes nothing.
    static func choice(_ plan: AdapterPlan, decoder: Decoder) -> RateChoice {
        func size(_ modules: [AdaptableModule]) -> Double {
            Double(
                modules.filter { $0.kind == .linear }.reduce(0) { $0 + $1.inputs + $1.outputs })
        }
        let adapted = size(plan.modules.map(\.module))
        let share = adapted > 0 ? min(1, adapted / size(decoder.modules)) : 1
        return choice(share: share, width: decoder.config.hiddenSize)
    }

    static func choice(share: Double, width: Int) -> RateChoice {
        let base = referenceRate * pow(referenceWidth / Double(width), widthExponent)
        let factor = min(shareLimit, pow(1 / share, shareExponent))
        // Two digits say as much as the rule knows.
        let rate = Double(String(format: "%.1e", base * factor)) ?? base * factor
        let percent = String(format: share < 0.1 ? "%.1f" : "%.0f", 100 * share)
        return RateChoice(
            how: .auto, rate: rate,
            reason:
                "auto: \(RateCurve.short(base)) for all linear matrices of a model of width \(width), "
                + "times \(String(format: "%.2f", factor)) because \(percent) % of them are adapted"
        )
    }
}
