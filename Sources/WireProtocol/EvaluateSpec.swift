import JSONModel

/// `evaluate`: models and adapters on the rows of the input `eval`, side by side.
public struct EvaluateSpec: Codable, Sendable, Equatable {
    /// What can be measured; `regex:` is followed by a pattern.
    public static let metricNames = ["loss", "token_accuracy", "exact_match"]
    public static let patternPrefix = "regex:"
    public static let maximumModels = 16
    public static let maximumMetrics = 16
    public static let maximumLines = 1_000

    /// 1 to 16, `M` or `M:A`; the first is the one that others are compared with.
    public var models: [ArtifactReference]
    /// 1 to 16 of `loss`, `token_accuracy`, `exact_match`, `regex:PATTERN`.
    public var metrics: [String]
    /// Of an answer; nil: as long as the expected one may be, twice over.
    public var maxTokens: Int?
    /// Only the rows at these lines, whose prompts are then in the result too; nil: all.
    public var lines: [Int]?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case models, metrics
        case maxTokens = "max_tokens"
        case lines
    }

    public init(
        models: [ArtifactReference], metrics: [String], maxTokens: Int? = nil, lines: [Int]? = nil
    ) {
        self.lines = lines
        self.models = models
        self.metrics = metrics
        self.maxTokens = maxTokens
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        models = try fields.decode([ArtifactReference].self, forKey: .models)
        metrics = try fields.decode([String].self, forKey: .metrics)
        maxTokens = try fields.decodeIfPresent(Int.self, forKey: .maxTokens)
        lines = try fields.decodeIfPresent([Int].self, forKey: .lines)
        if let lines {
            guard (1...Self.maximumLines).contains(lines.count), lines.allSatisfy({ $0 >= 1 }),
                Set(lines).count == lines.count
            else {
                throw WireError(
                    .invalidSpec, "must be 1 to \(Self.maximumLines) different lines, from 1",
                    key: "lines")
            }
        }
        guard (1...Self.maximumModels).contains(models.count) else {
            throw WireError(
                .invalidSpec, "must have 1 to \(Self.maximumModels) entries, not \(models.count)",
                key: "models")
        }
        for (index, model) in models.enumerated() where models[..<index].contains(model) {
            throw WireError(.invalidSpec, "\(model) is named twice", key: "models[\(index)]")
        }
        guard (1...Self.maximumMetrics).contains(metrics.count) else {
            throw WireError(
                .invalidSpec, "must have 1 to \(Self.maximumMetrics) entries, not \(metrics.count)",
                key: "metrics")
        }
        for (index, metric) in metrics.enumerated() {
            let isPattern = metric.hasPrefix(Self.patternPrefix)
            let pattern = metric.dropFirst(Self.patternPrefix.count)
            guard isPattern ? !pattern.isEmpty : Self.metricNames.contains(metric) else {
                throw WireError(
                    .invalidSpec,
                    "must be loss, token_accuracy, exact_match or regex:PATTERN, not `\(metric.prefix(80))`",
                    key: "metrics[\(index)]")
            }
            if metrics[..<index].contains(metric) {
                throw WireError(
                    .invalidSpec, "\(metric.prefix(80)) is named twice", key: "metrics[\(index)]")
            }
        }
        if let maxTokens, !(1...100_000).contains(maxTokens) {
            throw WireError(
                .invalidSpec, "must be 1 to 100000, not \(maxTokens)", key: "max_tokens")
        }
    }
}

/// What `evaluate` found.
public struct EvaluateResult: Codable, Sendable, Equatable {
    /// A figure with its 95 % confidence interval.
    public struct Figure: Codable, Sendable, Equatable {
        public var value: Double
        public var low: Double
        public var high: Double
        public init(value: Double, low: Double, high: Double) {
            self.value = value
            self.low = low
            self.high = high
        }
    }

    public struct Model: Codable, Sendable, Equatable {
        /// `M@2`, `M:A@3`
        public var model: ArtifactReference
        /// By the metric's name as it was asked for.
        public var metrics: [String: Figure]
        public init(model: ArtifactReference, metrics: [String: Figure]) {
            self.model = model
            self.metrics = metrics
        }
    }

    /// By how much the first model is better than another: positive is better, also of a loss.
    public struct Gain: Codable, Sendable, Equatable {
        public var over: ArtifactReference
        public var metrics: [String: Figure]
        public init(over: ArtifactReference, metrics: [String: Figure]) {
            self.over = over
            self.metrics = metrics
        }
    }

    /// One row.
    public struct Line: Codable, Sendable, Equatable {
        public struct Answer: Codable, Sendable, Equatable {
            /// Mean over the row's labels, in nats.
            public var loss: Double?
            /// Labels that the model finds likeliest.
            public var correct: Int?
            /// Where one was generated.
            public var text: String?
            public var exact: Bool?
            /// Whether each pattern is found, in the order of the metrics.
            public var found: [Bool]?

            public init(
                loss: Double? = nil, correct: Int? = nil, text: String? = nil, exact: Bool? = nil,
                found: [Bool]? = nil
            ) {
                self.loss = loss
                self.correct = correct
                self.text = text
                self.exact = exact
                self.found = found
            }
        }

        /// From 1.
        public var line: Int
        public var labels: Int
        public var expected: String?
        /// What stands before the answer, as the model reads it; only where lines were asked for.
        public var prompt: String?
        /// In the order of the models.
        public var answers: [Answer]

        public init(
            line: Int, labels: Int, expected: String? = nil, prompt: String? = nil,
            answers: [Answer]
        ) {
            self.prompt = prompt
            self.line = line
            self.labels = labels
            self.expected = expected
            self.answers = answers
        }
    }

    public var rows: Int
    /// Rows that every model could be measured on.
    public var usable: Int
    /// Of the first model; the first hundred.
    public var refused: [RefusedRow]
    public var models: [Model]
    public var gains: [Gain]?
    public var lines: [Line]
    /// Lines that did not fit the result.
    public var linesLeftOut: Int?
    public var seconds: Double
    public var numerics: String
    public var warnings: [String]?

    enum CodingKeys: String, CodingKey {
        case rows, usable, refused, models, gains, lines
        case linesLeftOut = "lines_left_out"
        case seconds, numerics, warnings
    }

    public init(
        rows: Int, usable: Int, refused: [RefusedRow] = [], models: [Model], gains: [Gain]? = nil,
        lines: [Line], linesLeftOut: Int? = nil, seconds: Double, numerics: String,
        warnings: [String]? = nil
    ) {
        self.rows = rows
        self.usable = usable
        self.refused = refused
        self.models = models
        self.gains = gains
        self.lines = lines
        self.linesLeftOut = linesLeftOut
        self.seconds = seconds
        self.numerics = numerics
        self.warnings = warnings
    }
}
