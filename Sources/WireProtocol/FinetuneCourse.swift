extension FinetuneResult {
    /// The rows that were evaluated, and which state of the run was best on them.
    public struct Evaluation: Codable, Sendable, Equatable {
        public static let maximumLines = 1_000

        public var rows: Int
        /// Their lines, in the evaluation file or, where rows were held out, in the training file; the first thousand.
        public var lines: [Int]
        /// They were held out of the training file (`val_set_size`).
        public var heldOut: Bool
        /// The step with the lowest loss among the evaluations after a step, and that loss.
        public var bestStep: Int?
        public var bestLoss: Double?
        /// The step whose state is the adapter.
        public var adapterStep: Int

        enum CodingKeys: String, CodingKey {
            case rows, lines
            case heldOut = "held_out"
            case bestStep = "best_step"
            case bestLoss = "best_loss"
            case adapterStep = "adapter_step"
        }

        public init(
            rows: Int, lines: [Int], heldOut: Bool, bestStep: Int?, bestLoss: Double?,
            adapterStep: Int
        ) {
            self.rows = rows
            self.lines = lines
            self.heldOut = heldOut
            self.bestStep = bestStep
            self.bestLoss = bestLoss
            self.adapterStep = adapterStep
        }
    }

    /// Why a run ended before the steps that its recipe asks for.
    public struct Stopped: Codable, Sendable, Equatable {
        public enum Reason: String, Codable, Sendable {
            case earlyStopping = "early_stopping"
            case divergence
            case nonFinite = "non_finite"
        }

        public var reason: Reason
        public var step: Int
        public var plannedSteps: Int
        public var message: String

        enum CodingKeys: String, CodingKey {
            case reason, step
            case plannedSteps = "planned_steps"
            case message
        }

        public init(reason: Reason, step: Int, plannedSteps: Int, message: String) {
            self.reason = reason
            self.step = step
            self.plannedSteps = plannedSteps
            self.message = message
        }
    }
}
