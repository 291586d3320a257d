/// What is told while a fine-tune runs.
public struct FineTuneProgress: Sendable, Equatable {
    public enum Phase: String, Sendable { case searching, evaluating, training }
    public var phase: Phase
    /// Optimizer steps done, and of the whole run.
    public var step: Int
    public var totalSteps: Int
    /// Passes over the rows so far.
    public var epoch: Double
    /// Mean over the labels of the step's rows, before the step's update; nil for a skipped step.
    public var loss: Double?
    /// Before clipping.
    public var gradientNorm: Double?
    public var learningRate: Double
    /// Tokens trained so far.
    public var tokens: Int
    /// Tokens a second since the run or resume began.
    public var tokensPerSecond: Double
    public var evalLoss: Double?
}

/// Why a run should end before its time.
public enum FineTuneStop: String, Sendable, Equatable {
    /// A person does not want it any more.
    case cancelled
    /// The worker is needed for something else; the run goes on later.
    case preempted
}

/// How a run talks with who started it; all calls come from the run's own thread.
public struct FineTuneControl {
    /// Asked before each step and between evaluation batches.
    public var stopRequested: () -> FineTuneStop?
    /// Called every `logging_steps` steps and after each evaluation.
    public var report: (FineTuneProgress) -> Void
    /// Called after each pass over some rows, with the tokens of it: a sign of life.
    public var advanced: (Int) -> Void

    public init(
        stopRequested: @escaping () -> FineTuneStop? = { nil },
        report: @escaping (FineTuneProgress) -> Void = { _ in },
        advanced: @escaping (Int) -> Void = { _ in }
    ) {
        self.stopRequested = stopRequested
        self.report = report
        self.advanced = advanced
    }
}

/// How a run ended.
public enum FineTuneEnding: Sendable, Equatable {
    case finished(FineTuneSummary)
    /// A checkpoint of `step` was written; a later run goes on from it.
    case stopped(FineTuneStop, step: Int)
}

/// What a finished run did.
public struct FineTuneSummary: Sendable, Equatable {
    /// Optimizer steps, skipped ones included.
    public var steps: Int
    /// Steps left out because a loss or gradient was not finite.
    public var skippedSteps: [Int]
    public var epochs: Double
    /// Tokens and labels computed over the whole run.
    public var tokens: Int
    public var labels: Int
    /// Mean label loss of the first and last step that was not skipped.
    public var firstLoss: Double
    public var lastLoss: Double
    public var evalLossBefore: Double?
    public var evalLossAfter: Double?
    /// Of training, in all attempts.
    public var seconds: Double
    public var tokensPerSecond: Double
    public var peakBytes: Int?
    /// The peak rate and how it came about.
    public var rate: RateChoice
    public var trainableParameters: Int
    /// The checkpoint that this attempt went on from.
    public var resumedFromStep: Int?
    public var warnings: [String]
}
