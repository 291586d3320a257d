import JSONModel

// Result objects of the built-in kinds of one task. Every worker that serves these kinds writes at
// least these fields; more may stand beside them.

/// What a fine-tune did: the rows it saw and left out, and how it ended.
public struct FinetuneResult: Codable, Sendable, Equatable {
    /// An adapter by reference without version, `M:A`, and digest.
    public struct Product: Codable, Sendable, Equatable {
        public var name: ArtifactReference
        public var digest: BlobDigest
        public init(name: ArtifactReference, digest: BlobDigest) {
            self.name = name
            self.digest = digest
        }
    }

    /// The adapter that was made.
    public var adapter: Product
    /// Rows read.
    public var rows: Int
    /// Rows that have at least one label and were trained.
    public var trainedRows: Int
    /// Rows left out, by line and reason; the first hundred.
    public var refused: [RefusedRow]
    /// How many were left out, where `refused` is cut short.
    public var refusedRows: Int?
    /// Messages of the trained rows, and their assistant messages that are trained and that are not.
    public var turns: Int?
    public var trainedAnswers: Int?
    public var untrainedAnswers: Int?
    /// Tokens computed, over the whole run.
    public var tokens: Int
    /// Tokens with a label, over the whole run.
    public var labelTokens: Int
    /// Optimizer steps.
    public var steps: Int
    /// Steps left out because a loss or gradient was not finite.
    public var skippedSteps: Int?
    public var epochs: Double
    public var firstLoss: Double
    public var lastLoss: Double
    public var evalLossBefore: Double?
    public var evalLossAfter: Double?
    /// The peak rate.
    public var learningRate: Double
    /// Where the recipe said `auto` or `find`.
    public var learningRateChoice: LearningRateChoice?
    public var trainableParameters: Int
    /// How many matrices each entry of the target modules matches.
    public var targets: [String: Int]
    public var seconds: Double
    public var tokensPerSecond: Double
    public var peakBytes: Int?
    public var dtype: String
    public var numerics: String
    /// The checkpoint that this attempt went on from; nil if it began at the start.
    public var resumedFromStep: Int?
    public var warnings: [String]?

    enum CodingKeys: String, CodingKey {
        case adapter
        case rows
        case trainedRows = "trained_rows"
        case refused
        case refusedRows = "refused_rows"
        case turns
        case trainedAnswers = "trained_answers"
        case untrainedAnswers = "untrained_answers"
        case tokens
        case labelTokens = "label_tokens"
        case steps
        case skippedSteps = "skipped_steps"
        case epochs
        case firstLoss = "first_loss"
        case lastLoss = "last_loss"
        case evalLossBefore = "eval_loss_before"
        case evalLossAfter = "eval_loss_after"
        case learningRate = "learning_rate"
        case learningRateChoice = "learning_rate_choice"
        case trainableParameters = "trainable_parameters"
        case targets
        case seconds
        case tokensPerSecond = "tokens_per_second"
        case peakBytes = "peak_bytes"
        case dtype
        case numerics
        case resumedFromStep = "resumed_from_step"
        case warnings
    }

    public init(
        adapter: Product, rows: Int, trainedRows: Int, refused: [RefusedRow],
        refusedRows: Int? = nil, turns: Int? = nil, trainedAnswers: Int? = nil,
        untrainedAnswers: Int? = nil, tokens: Int, labelTokens: Int, steps: Int,
        skippedSteps: Int? = nil, epochs: Double, firstLoss: Double, lastLoss: Double,
        evalLossBefore: Double? = nil, evalLossAfter: Double? = nil, learningRate: Double,
        learningRateChoice: LearningRateChoice? = nil, trainableParameters: Int,
        targets: [String: Int], seconds: Double, tokensPerSecond: Double,
        peakBytes: Int? = nil, dtype: String, numerics: String, resumedFromStep: Int? = nil,
        warnings: [String]? = nil
    ) {
        self.adapter = adapter
        self.rows = rows
        self.trainedRows = trainedRows
        self.refused = refused
        self.refusedRows = refusedRows
        self.turns = turns
        self.trainedAnswers = trainedAnswers
        self.untrainedAnswers = untrainedAnswers
        self.tokens = tokens
        self.labelTokens = labelTokens
        self.steps = steps
        self.skippedSteps = skippedSteps
        self.epochs = epochs
        self.firstLoss = firstLoss
        self.lastLoss = lastLoss
        self.evalLossBefore = evalLossBefore
        self.evalLossAfter = evalLossAfter
        self.learningRate = learningRate
        self.learningRateChoice = learningRateChoice
        self.trainableParameters = trainableParameters
        self.targets = targets
        self.seconds = seconds
        self.tokensPerSecond = tokensPerSecond
        self.peakBytes = peakBytes
        self.dtype = dtype
        self.numerics = numerics
        self.resumedFromStep = resumedFromStep
        self.warnings = warnings
    }
}

/// A row of training data that is not trained, and why.
public struct RefusedRow: Codable, Sendable, Equatable {
    /// From 1.
    public var line: Int
    public var code: ErrorCode
    public var message: String
    public init(line: Int, code: ErrorCode, message: String) {
        self.line = line
        self.code = code
        self.message = message
    }
}

/// What `prepare` made.
public struct PrepareResult: Codable, Sendable, Equatable {
    /// `M`.
    public var model: ArtifactReference
    public var digest: BlobDigest
    public var family: String
    public var parameters: Int
    public var dtype: PrepareSpec.DType
    public var bytes: Int
    public var seconds: Double
    public var hasTemplate: Bool
    public var contextLength: Int?
    public var warnings: [String]?

    enum CodingKeys: String, CodingKey {
        case model, digest, family, parameters, dtype, bytes, seconds
        case hasTemplate = "has_template"
        case contextLength = "context_length"
        case warnings
    }

    public init(
        model: ArtifactReference, digest: BlobDigest, family: String, parameters: Int,
        dtype: PrepareSpec.DType, bytes: Int, seconds: Double, hasTemplate: Bool,
        contextLength: Int? = nil, warnings: [String]? = nil
    ) {
        self.model = model
        self.digest = digest
        self.family = family
        self.parameters = parameters
        self.dtype = dtype
        self.bytes = bytes
        self.seconds = seconds
        self.hasTemplate = hasTemplate
        self.contextLength = contextLength
        self.warnings = warnings
    }
}

/// The adapter that `adapter` registered or made.
public struct AdapterResult: Codable, Sendable, Equatable {
    /// What a reduction to a smaller rank kept of the update: shares of the squared singular values.
    public struct Energy: Codable, Sendable, Equatable {
        /// Over all matrices.
        public var kept: Double
        /// The least of any matrix.
        public var lowest: Double
        /// That matrix; nil where nothing was lost.
        public var lowestModule: String?

        enum CodingKeys: String, CodingKey {
            case kept, lowest
            case lowestModule = "lowest_module"
        }

        public init(kept: Double, lowest: Double, lowestModule: String? = nil) {
            self.kept = kept
            self.lowest = lowest
            self.lowestModule = lowestModule
        }
    }

    /// `M:A`.
    public var adapter: ArtifactReference
    public var digest: BlobDigest
    /// The commonest, where matrices differ.
    public var rank: Int
    public var alpha: Double
    public var targetModules: [String]
    public var parameters: Int
    public var bytes: Int
    /// The smallest and the largest, where matrices differ.
    public var ranks: [Int]?
    /// Of a reduction.
    public var energy: Energy?
    public var warnings: [String]?

    enum CodingKeys: String, CodingKey {
        case adapter, digest, rank, alpha
        case targetModules = "target_modules"
        case parameters, bytes, ranks, energy, warnings
    }

    public init(
        adapter: ArtifactReference, digest: BlobDigest, rank: Int, alpha: Double,
        targetModules: [String], parameters: Int, bytes: Int, ranks: [Int]? = nil,
        energy: Energy? = nil, warnings: [String]? = nil
    ) {
        self.adapter = adapter
        self.digest = digest
        self.rank = rank
        self.alpha = alpha
        self.targetModules = targetModules
        self.parameters = parameters
        self.bytes = bytes
        self.ranks = ranks
        self.energy = energy
        self.warnings = warnings
    }
}

/// What `check` with `data` found.
public struct CheckResult: Codable, Sendable, Equatable {
    /// Tokens per row.
    public struct Lengths: Codable, Sendable, Equatable {
        public var min: Int
        public var median: Int
        public var p95: Int
        public var max: Int
        /// Rows by length, in ascending bins.
        public var histogram: [Bin]?

        /// Rows of at most `upto` tokens that no bin before counts.
        public struct Bin: Codable, Sendable, Equatable {
            public var upto: Int
            public var rows: Int
            public init(upto: Int, rows: Int) {
                self.upto = upto
                self.rows = rows
            }
        }

        public init(min: Int, median: Int, p95: Int, max: Int, histogram: [Bin]? = nil) {
            self.min = min
            self.median = median
            self.p95 = p95
            self.max = max
            self.histogram = histogram
        }
    }

    /// A row as the model sees it: runs of text, each trained or not.
    public struct Shown: Codable, Sendable, Equatable {
        public struct Span: Codable, Sendable, Equatable {
            public var text: String
            public var tokens: Int
            /// Whether the loss counts it.
            public var trained: Bool
            /// Its tokens one by one; left out where too many are shown.
            public var pieces: [Piece]?
            public init(text: String, tokens: Int, trained: Bool, pieces: [Piece]? = nil) {
                self.text = text
                self.tokens = tokens
                self.trained = trained
                self.pieces = pieces
            }

            /// One token: its id, and what it adds to the text (`\xNN` for parts of characters).
            public struct Piece: Codable, Sendable, Equatable {
                public var id: Int
                public var text: String
                public init(id: Int, text: String) {
                    self.id = id
                    self.text = text
                }
            }
        }
        /// From 1.
        public var line: Int
        public var spans: [Span]
        public init(line: Int, spans: [Span]) {
            self.line = line
            self.spans = spans
        }
    }

    public var rows: Int
    public var usable: Int
    /// Usable rows by form.
    public var forms: [String: Int]?
    /// Messages of the usable rows, and their assistant messages that are trained and that are not.
    public var turns: Int?
    public var trainedAnswers: Int?
    public var untrainedAnswers: Int?
    public var tokens: Int
    public var labels: Int
    /// Always 0: rows longer than `max_length` are refused, never cut.
    public var truncated: Int
    public var duplicates: Int
    /// Nil when no row is usable.
    public var lengths: Lengths?
    /// The first hundred.
    public var refused: [RefusedRow]
    public var shown: [Shown]?
    public var warnings: [String]?

    enum CodingKeys: String, CodingKey {
        case rows, usable, forms, turns
        case trainedAnswers = "trained_answers"
        case untrainedAnswers = "untrained_answers"
        case tokens, labels, truncated, duplicates, lengths, refused, shown, warnings
    }

    public init(
        rows: Int, usable: Int, forms: [String: Int]? = nil, turns: Int? = nil,
        trainedAnswers: Int? = nil, untrainedAnswers: Int? = nil, tokens: Int, labels: Int,
        truncated: Int, duplicates: Int,
        lengths: Lengths? = nil, refused: [RefusedRow] = [], shown: [Shown]? = nil,
        warnings: [String]? = nil
    ) {
        self.rows = rows
        self.usable = usable
        self.forms = forms
        self.turns = turns
        self.trainedAnswers = trainedAnswers
        self.untrainedAnswers = untrainedAnswers
        self.tokens = tokens
        self.labels = labels
        self.truncated = truncated
        self.duplicates = duplicates
        self.lengths = lengths
        self.refused = refused
        self.shown = shown
        self.warnings = warnings
    }
}
