import Kernels

/// What this engine is called where results must be told apart.
enum EngineNumerics {
    /// The release of the worker.
    static let version = "0.1.0"
    /// Grows when the same instructions would give other bits: another order of a sum, another rounding.
    static let revision = 1

    /// The name of one exact way to compute: revision and instruction set. The element type is the model's own.
    static func name(_ compute: Compute) -> String {
        "lora-\(revision)/\(compute.instructionSet.rawValue)"
    }
}
