import JSONModel

/// `action: rebase`: an adapter of one base moves to another.
///
/// It is scored on the rows that it was made with (input `eval`, otherwise `train`): on its own base; unchanged on the new one,
/// where it fits; and, where that is worse, trained anew for the new one from `train` by its kept recipe. The first of the two that
/// is no worse is registered under the new base; none is where both are worse.
public struct AdapterRebase: Codable, Sendable, Equatable {
    public static let standardTolerance = 0.02

    public var action = AdapterSpec.Action.rebase
    /// The adapter to move; it brings its own base along.
    public var adapter: ArtifactReference
    /// The new base. A version is named where it is one of the adapter's own model: `M@2`.
    public var model: ArtifactReference
    /// The adapter's name under the new base.
    public var name: WireName
    /// By how much of the old loss the new one may be higher and still count as no worse, from 0 to 1.
    public var tolerance: Double?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case action, adapter, model, name, tolerance
    }

    public init(
        adapter: ArtifactReference, model: ArtifactReference, name: WireName,
        tolerance: Double? = nil
    ) {
        self.adapter = adapter
        self.model = model
        self.name = name
        self.tolerance = tolerance
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        adapter = try fields.decode(ArtifactReference.self, forKey: .adapter)
        model = try fields.decode(ArtifactReference.self, forKey: .model)
        name = try fields.decode(WireName.self, forKey: .name)
        tolerance = try fields.decodeIfPresent(Double.self, forKey: .tolerance)
        guard adapter.adapter != nil else {
            throw WireError(
                .invalidSpec, "must name an adapter `M:A`, not the model \(adapter)", key: "adapter"
            )
        }
        try BuiltInSpec.requireModel(model, key: "model")
        if model.model == adapter.model, model.selector == .newest {
            throw WireError(
                .invalidSpec,
                "must name a version (`\(model)@2`): \(adapter) is an adapter of another version of it",
                key: "model")
        }
        if let tolerance, !(0...1).contains(tolerance) {
            throw WireError(.invalidSpec, "must be 0 to 1, not \(tolerance)", key: "tolerance")
        }
    }

    /// What is registered where the new one is no worse.
    public var product: ArtifactReference { ArtifactReference(model: model.model, adapter: name) }
}

/// What `adapter` with `rebase` found and did.
public struct RebaseResult: Codable, Sendable, Equatable {
    public enum Decision: String, Codable, Sendable, CaseIterable, WireEnumeration {
        /// Unchanged it is no worse on the new base, and is registered there.
        case carried
        /// Trained anew it is no worse, and is registered there.
        case retrained
        /// Both are worse: nothing is registered.
        case kept
    }

    /// Losses over the same rows, in nats per label of the old base's tokenizer, so that they compare between tokenizers.
    public struct Losses: Codable, Sendable, Equatable {
        /// The adapter on its own base.
        public var old: Double
        /// Unchanged on the new base; nil where it does not fit there.
        public var carried: Double?
        /// Trained anew; nil where that was not needed.
        public var retrained: Double?

        public init(old: Double, carried: Double? = nil, retrained: Double? = nil) {
            self.old = old
            self.carried = carried
            self.retrained = retrained
        }
    }

    /// `M:A@3`, the adapter as it was.
    public var adapter: ArtifactReference
    /// `M@2`, the new base.
    public var model: ArtifactReference
    public var decision: Decision
    public var loss: Losses
    public var tolerance: Double
    /// Rows that all losses are over.
    public var rows: Int
    /// Whether they are rows that the adapter was not trained on.
    public var heldOut: Bool
    /// What was registered.
    public var product: FinetuneResult.Product?
    /// Of the new training.
    public var steps: Int?
    public var learningRate: Double?
    public var seconds: Double
    public var warnings: [String]?

    enum CodingKeys: String, CodingKey {
        case adapter, model, decision, loss, tolerance, rows
        case heldOut = "held_out"
        case product, steps
        case learningRate = "learning_rate"
        case seconds, warnings
    }

    public init(
        adapter: ArtifactReference, model: ArtifactReference, decision: Decision, loss: Losses,
        tolerance: Double, rows: Int, heldOut: Bool, product: FinetuneResult.Product? = nil,
        steps: Int? = nil, learningRate: Double? = nil, seconds: Double, warnings: [String]? = nil
    ) {
        self.adapter = adapter
        self.model = model
        self.decision = decision
        self.loss = loss
        self.tolerance = tolerance
        self.rows = rows
        self.heldOut = heldOut
        self.product = product
        self.steps = steps
        self.learningRate = learningRate
        self.seconds = seconds
        self.warnings = warnings
    }
}
