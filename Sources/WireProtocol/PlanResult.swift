import JSONModel

/// What `check` with `plan` found: what a fine-tune would take.
public struct PlanResult: Codable, Sendable, Equatable {
    /// Bytes of the worker's memory while it trains; the base is mapped and shared with other workers.
    public struct Memory: Codable, Sendable, Equatable {
        public var base: Int
        /// Activations, gradients, optimizer.
        public var training: Int
        /// All, with the process itself.
        public var peak: Int
        public init(base: Int, training: Int, peak: Int) {
            self.base = base
            self.training = training
            self.peak = peak
        }
    }

    public struct Disk: Codable, Sendable, Equatable {
        public var adapter: Int
        /// While it trains.
        public var checkpoints: Int
        public init(adapter: Int, checkpoints: Int) {
            self.adapter = adapter
            self.checkpoints = checkpoints
        }
    }

    /// Matrices that would be adapted.
    public var matrices: Int
    /// How many each entry of the target modules matches.
    public var targets: [String: Int]
    public var trainableParameters: Int
    /// Of the base.
    public var parameters: Int
    /// The peak rate.
    public var learningRate: Double
    /// Where the recipe said `auto` or `find`.
    public var learningRateChoice: LearningRateChoice?
    public var rows: Int
    public var usable: Int
    /// Of all usable rows, once.
    public var tokens: Int
    public var labels: Int
    public var steps: Int
    public var epochs: Double
    /// Steps run to measure.
    public var measuredSteps: Int
    public var tokensPerSecond: Double
    public var secondsPerStep: Double
    /// Training and evaluations.
    public var seconds: Double
    public var memoryBytes: Memory
    public var diskBytes: Disk
    public var numerics: String
    public var warnings: [String]?

    enum CodingKeys: String, CodingKey {
        case matrices, targets
        case trainableParameters = "trainable_parameters"
        case parameters
        case learningRate = "learning_rate"
        case learningRateChoice = "learning_rate_choice"
        case rows, usable, tokens, labels, steps, epochs
        case measuredSteps = "measured_steps"
        case tokensPerSecond = "tokens_per_second"
        case secondsPerStep = "seconds_per_step"
        case seconds
        case memoryBytes = "memory_bytes"
        case diskBytes = "disk_bytes"
        case numerics, warnings
    }

    public init(
        matrices: Int, targets: [String: Int], trainableParameters: Int, parameters: Int,
        learningRate: Double, learningRateChoice: LearningRateChoice? = nil, rows: Int, usable: Int,
        tokens: Int, labels: Int, steps: Int,
        epochs: Double, measuredSteps: Int, tokensPerSecond: Double, secondsPerStep: Double,
        seconds: Double, memoryBytes: Memory, diskBytes: Disk, numerics: String,
        warnings: [String]? = nil
    ) {
        self.matrices = matrices
        self.targets = targets
        self.trainableParameters = trainableParameters
        self.parameters = parameters
        self.learningRate = learningRate
        self.learningRateChoice = learningRateChoice
        self.rows = rows
        self.usable = usable
        self.tokens = tokens
        self.labels = labels
        self.steps = steps
        self.epochs = epochs
        self.measuredSteps = measuredSteps
        self.tokensPerSecond = tokensPerSecond
        self.secondsPerStep = secondsPerStep
        self.seconds = seconds
        self.memoryBytes = memoryBytes
        self.diskBytes = diskBytes
        self.numerics = numerics
        self.warnings = warnings
    }
}
