import Foundation
import JSONModel

/// The rotary position embedding of a layer (Su et al. 2021), in Hugging Face's order (rotated halves).
public struct RopeConfig: Sendable, Equatable {
    /// Base of the geometric series of wavelengths.
    public var theta: Double
    /// Leading dimensions of a head that are rotated; the head's dimension unless the rotation is partial. An
    /// odd number is rotated with the dimension behind it.
    public var rotaryDimension: Int
    public var scaling: Scaling
    /// Factor on cosines and sines (YaRN, LongRoPE); 1 otherwise.
    public var attentionFactor = 1.0

    public enum Scaling: Sendable, Equatable {
        case none
        /// All frequencies divided by `factor`.
        case linear(factor: Double)
        /// Llama 3.1's piecewise scaling of the low frequencies.
        case llama3(
            factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double,
            originalMaximumPositions: Int)
        /// Frequencies that turn less than `betaSlow` times in the original length are divided by `factor`, those
        /// that turn more than `betaFast` times are kept, between them goes a ramp (Peng et al. 2023).
        case yarn(
            factor: Double, betaFast: Double, betaSlow: Double, originalMaximumPositions: Int,
            truncates: Bool)
        /// Frequency i divided by `short[i]` in sequences of at most `originalMaximumPositions` tokens, by
        /// `long[i]` in longer ones, from their first token on (LongRoPE, Ding et al. 2024).
        case longRope(short: [Float], long: [Float], originalMaximumPositions: Int)
        /// Frequency i divided by `factors[i]`, as GGUF files carry Llama 3.1's scaling.
        case factors([Float])
    }

    public init(
        theta: Double, rotaryDimension: Int, scaling: Scaling = .none, attentionFactor: Double = 1
    ) {
        self.theta = theta
        self.rotaryDimension = rotaryDimension
        self.scaling = scaling
        self.attentionFactor = attentionFactor
    }

    /// Rotated pairs of a head.
    public var pairCount: Int { (rotaryDimension + 1) / 2 }

    /// Sequences of more tokens turn by `longInverseFrequencies`; nil where the length changes nothing.
    public var shortLimit: Int? {
        guard case .longRope(_, _, let original) = scaling else { return nil }
        return original
    }

    /// The angle per position of each rotated pair, `[pairCount]`, computed in float32 by the steps that
    /// transformers' `ROPE_INIT_FUNCTIONS` take.
    public var inverseFrequencies: [Float] {
        let plain = periods.map { 1 / $0 }
        switch scaling {
        case .none: return plain
        case .linear(let factor): return plain.map { $0 / Float(factor) }
        case .factors(let factors): return zip(plain, factors).map { $0 / $1 }
        case .longRope(let short, _, _): return zip(periods, short).map { 1 / ($1 * $0) }
        case .yarn: return yarnFrequencies
        case .llama3(let factor, let low, let high, let original):
            return plain.map { frequency in
                let length = Float(original)
                let wavelength = 2 * Float.pi / frequency
                if wavelength > length / Float(low) { return frequency / Float(factor) }
                if wavelength < length / Float(high) { return frequency }
                let smooth = (length / wavelength - Float(low)) / Float(high - low)
                return (1 - smooth) * frequency / Float(factor) + smooth * frequency
            }
        }
    }

    /// Those of sequences longer than `shortLimit`.
    public var longInverseFrequencies: [Float] {
        guard case .longRope(_, let long, _) = scaling else { return inverseFrequencies }
        return zip(periods, long).map { 1 / ($1 * $0) }
    }

    /// θ^(2i / rotaryDimension), `[pairCount]`.
    private var periods: [Float] {
        (0..<pairCount).map {
            Float(pow(theta, Double(Float(2 * $0) / Float(rotaryDimension))))
        }
    }

    private var yarnFrequencies: [Float] {
        guard case .yarn(let factor, let fast, let slow, let original, let truncates) = scaling
        else { return [] }
        /// The dimension whose pair turns so many times in the original length.
        func dimension(_ turns: Double) -> Double {
            Double(rotaryDimension) * log(Double(original) / (turns * 2 * .pi)) / (2 * log(theta))
        }
        let bounds = (
            truncates ? dimension(fast).rounded(.down) : dimension(fast),
            truncates ? dimension(slow).rounded(.up) : dimension(slow)
        )
        let low = max(bounds.0, 0)
        var high = min(bounds.1, Double(rotaryDimension - 1))
        if low == high { high += 0.001 }
        return periods.enumerated().map { index, period in
            let ramp = min(max((Float(index) - Float(low)) / Float(high - low), 0), 1)
            let kept = 1 - ramp
            return 1 / (Float(factor) * period) * (1 - kept) + 1 / period * kept
        }
    }

    var canonicalJSON: JSONValue {
        var members: [(key: String, value: JSONValue)] = [
            ("rotary_dimension", .integer(Int64(rotaryDimension))), ("theta", .number(theta)),
        ]
        if attentionFactor != 1 { members.append(("attention_factor", .number(attentionFactor))) }
        func numbers(_ values: [Float]) -> JSONValue {
            .array(values.map { .number(Double($0)) })
        }
        switch scaling {
        case .none: break
        case .linear(let factor): members.append(("linear", .number(factor)))
        case .factors(let factors): members.append(("factors", numbers(factors)))
        case .llama3(let factor, let low, let high, let original):
            members.append(
                (
                    "llama3",
                    [
                        "factor": .number(factor), "low": .number(low), "high": .number(high),
                        "original": .integer(Int64(original)),
                    ]
                ))
        case .yarn(let factor, let fast, let slow, let original, let truncates):
            members.append(
                (
                    "yarn",
                    [
                        "beta_fast": .number(fast), "beta_slow": .number(slow),
                        "factor": .number(factor), "original": .integer(Int64(original)),
                        "truncates": .bool(truncates),
                    ]
                ))
        case .longRope(let short, let long, let original):
            members.append(
                (
                    "longrope",
                    [
                        "long": numbers(long), "original": .integer(Int64(original)),
                        "short": numbers(short),
                    ]
                ))
        }
        return .object(JSONObject(members))
    }
}

extension ModelConfig {
    /// Whether a sequence of one length turns by other frequencies than one of another length, so that keys of
    /// the one cannot be used in the other.
    public func rotationDiffers(_ length: Int, _ other: Int) -> Bool {
        layers.contains {
            guard let limit = $0.rope?.shortLimit else { return false }
            return (length > limit) != (other > limit)
        }
    }
}
