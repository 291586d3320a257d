import JSONModel

/// `choose`: the best of what jobs before this one made becomes an adapter under a name of its own.
///
/// The job comes after those that its candidates name, whatever their end, and is told of it (`tell` in `after`).
public struct ChooseSpec: Codable, Sendable, Equatable {
    public enum Goal: String, Codable, Sendable, CaseIterable, WireEnumeration {
        case min, max
    }

    /// One that may be chosen, or a place that was left out from the start.
    public struct Candidate: Codable, Sendable, Equatable {
        /// `M:A`; nil where it is left out.
        public var adapter: ArtifactReference?
        /// The job that makes it.
        public var finetune: JobID?
        /// The job whose metrics decide; nil: the adapter is there, and the only candidate.
        public var evaluation: JobID?
        /// What a person calls it, such as `r=8 learning_rate=1e-3`.
        public var title: String?
        /// What is different about it, by name.
        public var settings: JSONValue?
        /// Why it was never tried.
        public var leftOut: String?

        enum CodingKeys: String, CodingKey, CaseIterable {
            case adapter, finetune, evaluation, title, settings
            case leftOut = "left_out"
        }

        public init(
            adapter: ArtifactReference? = nil, finetune: JobID? = nil, evaluation: JobID? = nil,
            title: String? = nil, settings: JSONValue? = nil, leftOut: String? = nil
        ) {
            self.adapter = adapter
            self.finetune = finetune
            self.evaluation = evaluation
            self.title = title
            self.settings = settings
            self.leftOut = leftOut
        }
    }

    /// The candidates are stages, each begun from the one before; what ended them.
    public struct Stages: Codable, Sendable, Equatable {
        /// A stage that reaches it is the last.
        public var target: Double
        /// A stage that gains less than this over the one before is the last; from the second on.
        public var minimumGain: Double

        enum CodingKeys: String, CodingKey, CaseIterable {
            case target
            case minimumGain = "minimum_gain"
        }

        public init(target: Double, minimumGain: Double) {
            self.target = target
            self.minimumGain = minimumGain
        }
    }

    public static let maximumCandidates = 32

    /// Of the adapter that it registers.
    public var name: WireName
    /// By which one is better; nil with a single candidate that nothing evaluates.
    public var metric: String?
    public var goal: Goal?
    /// 1 to 32, of one model. Where two are as good, the one of less loss; then the earlier one.
    public var candidates: [Candidate]
    public var stages: Stages?

    enum CodingKeys: String, CodingKey, CaseIterable { case name, metric, goal, candidates, stages }

    public init(
        name: WireName, metric: String? = nil, goal: Goal? = nil, candidates: [Candidate],
        stages: Stages? = nil
    ) {
        self.name = name
        self.metric = metric
        self.goal = goal
        self.candidates = candidates
        self.stages = stages
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        name = try fields.decode(WireName.self, forKey: .name)
        metric = try fields.decodeIfPresent(String.self, forKey: .metric)
        goal = try fields.decodeIfPresent(Goal.self, forKey: .goal)
        candidates = try fields.decode([Candidate].self, forKey: .candidates)
        stages = try fields.decodeIfPresent(Stages.self, forKey: .stages)
        try check()
    }

    private func check() throws(WireError) {
        guard (1...Self.maximumCandidates).contains(candidates.count) else {
            throw WireError(
                .invalidSpec,
                "must have 1 to \(Self.maximumCandidates) entries, not \(candidates.count)",
                key: "candidates")
        }
        if let metric, !(1...200).contains(metric.utf8.count) {
            throw WireError(.invalidSpec, "must have 1 to 200 bytes", key: "metric")
        }
        if stages != nil, metric == nil {
            throw WireError(.invalidSpec, "needs a `metric`", key: "stages")
        }
        for (index, candidate) in candidates.enumerated() {
            try check(candidate, "candidates[\(index)]")
        }
        let adapters = candidates.compactMap(\.adapter)
        guard let first = adapters.first else {
            throw WireError(.invalidSpec, "names no adapter", key: "candidates")
        }
        for (index, adapter) in adapters.enumerated() {
            if adapter.model != first.model {
                throw WireError(
                    .invalidSpec, "\(adapter) and \(first) belong to different models",
                    key: "candidates")
            }
            if adapters[..<index].contains(adapter) {
                throw WireError(.invalidSpec, "\(adapter) is named twice", key: "candidates")
            }
        }
    }

    private func check(_ candidate: Candidate, _ key: String) throws(WireError) {
        guard (candidate.adapter == nil) == (candidate.leftOut != nil) else {
            throw WireError(.invalidSpec, "must have either `adapter` or `left_out`", key: key)
        }
        if let adapter = candidate.adapter, adapter.adapter == nil {
            throw WireError(
                .invalidSpec, "must name an adapter `M:A`, not the model \(adapter)",
                key: "\(key).adapter")
        }
        guard candidate.leftOut == nil else { return }
        if (candidate.evaluation == nil) != (metric == nil) {
            throw WireError(
                .invalidSpec,
                metric == nil
                    ? "needs a `metric` beside it" : "is missing: what gives `\(metric ?? "")`?",
                key: "\(key).evaluation")
        }
        if metric == nil, candidates.count > 1 {
            throw WireError(
                .invalidSpec, "is missing: several candidates are told apart by it", key: "metric")
        }
    }

    /// What it registers, without version.
    var product: ArtifactReference {
        let model = candidates.compactMap(\.adapter).first?.model ?? name
        return ArtifactReference(model: model, adapter: name)
    }

    /// The metrics of an evaluation that the choice by `metric` and its table need: what `tell` asks for.
    public static func evaluationMetrics(_ metric: String) -> [String] {
        var names = ["", "_low", "_high", "_gain", "_gain_low"].map { metric + $0 }
        if metric != "loss" { names += ["loss", "loss_low", "loss_high"] }
        return names
    }

    /// The same of a fine-tune.
    public static let trainingMetrics = [
        "last_loss", "eval_loss", "seconds", "steps", "trainable_parameters",
    ]

    /// The metric as people know it: the loss on held-out rows is `eval_loss`.
    public var metricTitle: String? { metric == "loss" ? "eval_loss" : metric }
}

/// What `choose` found: the table that led to it, and what it registered.
public struct ChooseResult: Codable, Sendable, Equatable {
    /// Registered as the next version of this name.
    public var adapter: ArtifactReference
    public var digest: BlobDigest
    public var bytes: Int
    /// The candidate, `M:A@3`.
    public var chosen: ArtifactReference
    public var metric: String?
    public var goal: ChooseSpec.Goal?
    public var candidates: [Choice.Row]
    /// Why this one, and what ended the stages, in a sentence.
    public var conclusion: String

    public init(
        adapter: ArtifactReference, digest: BlobDigest, bytes: Int, chosen: ArtifactReference,
        metric: String?, goal: ChooseSpec.Goal?, candidates: [Choice.Row], conclusion: String
    ) {
        self.adapter = adapter
        self.digest = digest
        self.bytes = bytes
        self.chosen = chosen
        self.metric = metric
        self.goal = goal
        self.candidates = candidates
        self.conclusion = conclusion
    }
}
