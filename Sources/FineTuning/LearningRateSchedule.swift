import Foundation

/// The learning rate of each optimizer step, by transformers' formulas (`optimization.py`).
public struct LearningRateSchedule: Sendable, Equatable {
    public enum Kind: String, Sendable, Equatable, CaseIterable {
        case linear
        case cosine
        case constant
        case constantWithWarmup = "constant_with_warmup"
    }

    public let kind: Kind
    /// The rate after warm-up.
    public let peak: Double
    /// Optimizer steps of warm-up; `constant` has none.
    public let warmupSteps: Int
    /// Optimizer steps of the whole run.
    public let totalSteps: Int

    public init(kind: Kind, peak: Double, warmupSteps: Int, totalSteps: Int) {
        self.kind = kind
        self.peak = peak
        self.warmupSteps = warmupSteps
        self.totalSteps = totalSteps
    }

    /// The rate that step `step` (from 0) uses.
    public func rate(at step: Int) -> Double {
        if kind == .constant { return peak }
        if step < warmupSteps { return peak * Double(step) / Double(max(1, warmupSteps)) }
        let left = Double(max(1, totalSteps - warmupSteps))
        switch kind {
        case .constant, .constantWithWarmup: return peak
        case .linear: return peak * max(0, Double(totalSteps - step) / left)
        case .cosine:
            let progress = Double(step - warmupSteps) / left
            return peak * max(0, 0.5 * (1 + cos(Double.pi * progress)))
        }
    }
}
