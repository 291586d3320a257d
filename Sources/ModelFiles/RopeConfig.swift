import Foundation
import JSONModel

/// The rotary position embedding of a layer (Su et al. 2021), in Hugging Face's order (rotated halves).
public struct RopeConfig: Sendable, Equatable {
    /// Base of the geometric series of wavelengths.
    public var theta: Double
    /// Leading dimensions of a head that are rotated; the head's dimension unless the rotation is partial.
    public var rotaryDimension: Int
    public var scaling: Scaling

    public enum Scaling: Sendable, Equatable {
        case none
        /// All frequencies divided by `factor`.
        case linear(factor: Double)
        /// Llama 3.1's piecewise scaling of the low frequencies.
        case llama3(
            factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double,
            originalMaximumPositions: Int)
        /// Frequency i divided by `factors[i]`, as GGUF files carry Llama 3.1's scaling.
        case factors([Float])
    }

    public init(theta: Double, rotaryDimension: Int, scaling: Scaling = .none) {
        self.theta = theta
        self.rotaryDimension = rotaryDimension
        self.scaling = scaling
    }

    /// The angle per position of each rotated pair, `[rotaryDimension / 2]`, computed in float32 by the
    /// steps that transformers' `ROPE_INIT_FUNCTIONS` take.
    public var inverseFrequencies: [Float] {
        let half = rotaryDimension / 2
        let plain = (0..<half).map { index -> Float in
            let exponent = Float(2 * index) / Float(rotaryDimension)
            return 1 / Float(pow(theta, Double(exponent)))
        }
        switch scaling {
        case .none: return plain
        case .linear(let factor): return plain.map { $0 / Float(factor) }
        case .factors(let factors): return zip(plain, factors).map { $0 / $1 }
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

    var canonicalJSON: JSONValue {
        var members: [(key: String, value: JSONValue)] = [
            ("rotary_dimension", .integer(Int64(rotaryDimension))), ("theta", .number(theta)),
        ]
        switch scaling {
        case .none: break
        case .linear(let factor): members.append(("linear", .number(factor)))
        case .factors(let factors):
            members.append(("factors", .array(factors.map { .number(Double($0)) })))
        case .llama3(let factor, let low, let high, let original):
            members.append(
                (
                    "llama3",
                    [
                        "factor": .number(factor), "low": .number(low), "high": .number(high),
                        "original": .integer(Int64(original)),
                    ]
                ))
        }
        return .object(JSONObject(members))
    }
}
