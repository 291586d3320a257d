import LinuxSystem

/// A kind of work that a `Compute` does.
public enum ComputeOperation: String, Sendable, CaseIterable {
    case linear = "product"
    case linearBackward = "product backward"
    /// The `x Aᵀ` of several adapters side by side.
    case adapterProjections = "projections of adapters"
    case transpose
    case pack
    case unpack
    case gather
    case norm
    case normBackward = "norm backward"
    case normWeightBackward = "norm weight backward"
    case rope = "rotation"
    case activation
    case activationBackward = "activation backward"
    case combine = "copy and add"
    case softCap = "soft cap"
    case softmax
    case logitLoss = "loss of logits"
    case headLoss = "head and loss"
    case append = "keys and values kept"
    case attend = "attention"
    case spanAttention = "attention of spans"
    case spanAttentionBackward = "attention backward"
    case contract = "LoRA gradients"
    case adamw = "AdamW"
    case squareSum = "gradient norm"
    case finite = "check for finite numbers"
    case peak
}

/// Where the time of a `Compute` goes, operation by operation, while it is set as its `profile`.
///
/// Seconds are those of the calling thread, from an operation's start on all threads to its end.
public final class ComputeProfile {
    /// An operation on one shape of matrix.
    public struct Phase: Hashable, Sendable {
        public let operation: ComputeOperation
        /// Of the matrix; 0 where there is none.
        public let outputs: Int
        public let inputs: Int
    }

    public struct Total: Sendable {
        public var seconds = 0.0
        public var calls = 0
        /// Floating-point operations; 0 where they are not counted.
        public var flops = 0.0

        public init() {}
    }

    public private(set) var totals: [Phase: Total] = [:]

    public init() {}

    public func reset() { totals.removeAll(keepingCapacity: true) }

    /// Takes away what another stretch of work cost.
    public func subtract(_ other: [Phase: Total]) {
        for (phase, total) in other {
            totals[phase]?.seconds -= total.seconds
            totals[phase]?.calls -= total.calls
            totals[phase]?.flops -= total.flops
        }
    }

    func add(_ phase: Phase, seconds: Double, flops: Int) {
        totals[phase, default: Total()].seconds += seconds
        totals[phase, default: Total()].calls += 1
        totals[phase, default: Total()].flops += Double(flops)
    }
}

extension Compute {
    /// Runs `body`, and counts its time as that operation's if there is a profile.
    public func timed<Failure: Error>(
        _ operation: ComputeOperation, outputs: Int = 0, inputs: Int = 0,
        flops: @autoclosure () -> Int = 0, _ body: () throws(Failure) -> Void
    ) throws(Failure) {
        guard let profile, !isInsideRun else { return try body() }
        let start = MonotonicTime.now()
        try body()
        profile.add(
            ComputeProfile.Phase(operation: operation, outputs: outputs, inputs: inputs),
            seconds: (MonotonicTime.now() - start).seconds, flops: flops())
    }
}
