import JSONModel

/// `adapter`: registers, combines or writes out adapters, by its `action`.
public enum AdapterSpec: Codable, Sendable, Equatable {
    case register(AdapterRegistration)
    case merge(AdapterMerge)
    case export(AdapterExport)
    case rebase(AdapterRebase)

    /// What there is to do.
    public enum Action: String, Codable, Sendable, CaseIterable, WireEnumeration {
        case register, merge, export, rebase
    }

    private enum ActionKey: String, CodingKey { case action }

    /// - Throws: `INVALID_SPEC`, also for keys that the action does not know.
    init(spec: JSONValue) throws(WireError) {
        switch try WireDecoder.decode(ActionOnly.self, from: spec).action {
        case .register:
            try UnknownKeys.refuse(in: spec, except: AdapterRegistration.CodingKeys.self)
        case .merge: try UnknownKeys.refuse(in: spec, except: AdapterMerge.CodingKeys.self)
        case .export: try UnknownKeys.refuse(in: spec, except: AdapterExport.CodingKeys.self)
        case .rebase: try UnknownKeys.refuse(in: spec, except: AdapterRebase.CodingKeys.self)
        }
        self = try WireDecoder.decode(AdapterSpec.self, from: spec)
    }

    private struct ActionOnly: Decodable { var action: Action }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: ActionKey.self)
        switch try fields.decode(Action.self, forKey: .action) {
        case .register: self = .register(try AdapterRegistration(from: decoder))
        case .merge: self = .merge(try AdapterMerge(from: decoder))
        case .export: self = .export(try AdapterExport(from: decoder))
        case .rebase: self = .rebase(try AdapterRebase(from: decoder))
        }
    }

    public func encode(to encoder: any Encoder) throws {
        switch self {
        case .register(let spec): try spec.encode(to: encoder)
        case .merge(let spec): try spec.encode(to: encoder)
        case .export(let spec): try spec.encode(to: encoder)
        case .rebase(let spec): try spec.encode(to: encoder)
        }
    }

    /// The adapter that the job will register, without version.
    public var product: ArtifactReference? {
        switch self {
        case .register(let spec):
            ArtifactReference(model: spec.model.model, adapter: spec.name)
        case .merge(let spec): spec.product
        case .export: nil
        case .rebase(let spec): spec.product
        }
    }

    /// What the job needs before it can start.
    public var references: [ArtifactReference] {
        switch self {
        case .register(let spec): [spec.model]
        // An adapter brings the version of its base along.
        case .merge(let spec):
            spec.parts.map(\.adapter).reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
        case .export(let spec): [spec.adapter]
        case .rebase(let spec): [spec.adapter, spec.model]
        }
    }
}

/// `action: register`: a PEFT folder or a GGUF adapter becomes `model:name`.
public struct AdapterRegistration: Codable, Sendable, Equatable {
    public var action = AdapterSpec.Action.register
    public var model: ArtifactReference
    public var name: WireName
    /// Absolute.
    public var path: String
    /// Take it even if it says that it was made for another base.
    public var anyBase: Bool?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case action, model, name, path
        case anyBase = "any_base"
    }

    public init(model: ArtifactReference, name: WireName, path: String, anyBase: Bool? = nil) {
        self.model = model
        self.name = name
        self.path = path
        self.anyBase = anyBase
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        model = try fields.decode(ArtifactReference.self, forKey: .model)
        name = try fields.decode(WireName.self, forKey: .name)
        path = try fields.decode(String.self, forKey: .path)
        anyBase = try fields.decodeIfPresent(Bool.self, forKey: .anyBase)
        try BuiltInSpec.requireModel(model, key: "model")
        try BuiltInSpec.requireAbsolute(path, key: "path")
    }
}

/// `action: merge`: the weighted sum of adapters of one model becomes another adapter of it.
///
/// One part is a scaling (`weight: -1` negates); `rank` or `energy` reduces the sum, or the one part.
public struct AdapterMerge: Codable, Sendable, Equatable {
    public struct Part: Codable, Sendable, Equatable {
        public var adapter: ArtifactReference
        /// Neither zero nor beyond a million.
        public var weight: Double

        enum CodingKeys: String, CodingKey, CaseIterable { case adapter, weight }

        public init(adapter: ArtifactReference, weight: Double = 1) {
            self.adapter = adapter
            self.weight = weight
        }

        public init(from decoder: any Decoder) throws {
            let fields = try decoder.container(keyedBy: CodingKeys.self)
            adapter = try fields.decode(ArtifactReference.self, forKey: .adapter)
            weight = try fields.decodeIfPresent(Double.self, forKey: .weight) ?? 1
            guard adapter.adapter != nil else {
                throw WireError(
                    .invalidSpec, "must name an adapter `M:A`, not the model \(adapter)",
                    key: "adapter")
            }
            guard weight != 0, weight.magnitude <= 1e6 else {
                throw WireError(
                    .invalidSpec, "must be neither zero nor beyond a million, not \(weight)",
                    key: "weight")
            }
        }
    }

    public static let maximumParts = 64

    public var action = AdapterSpec.Action.merge
    /// Of the new adapter.
    public var name: WireName
    /// 1 to 64.
    public var parts: [Part]
    /// Bring each matrix down to at most this rank.
    public var rank: Int?
    /// Keep this share of each matrix's squared singular values, above 0 and at most 1.
    public var energy: Double?

    enum CodingKeys: String, CodingKey, CaseIterable { case action, name, parts, rank, energy }

    public init(name: WireName, parts: [Part], rank: Int? = nil, energy: Double? = nil) {
        self.name = name
        self.parts = parts
        self.rank = rank
        self.energy = energy
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        name = try fields.decode(WireName.self, forKey: .name)
        parts = try fields.decode([Part].self, forKey: .parts)
        rank = try fields.decodeIfPresent(Int.self, forKey: .rank)
        energy = try fields.decodeIfPresent(Double.self, forKey: .energy)
        guard (1...Self.maximumParts).contains(parts.count) else {
            throw WireError(
                .invalidSpec, "must have 1 to \(Self.maximumParts) entries, not \(parts.count)",
                key: "parts")
        }
        for (index, part) in parts.enumerated() where part.adapter.model != parts[0].adapter.model {
            throw WireError(
                .invalidSpec,
                "\(part.adapter) and \(parts[0].adapter) belong to different models: their updates do not add up",
                key: "parts[\(index)].adapter")
        }
        if let rank, !(1...4096).contains(rank) {
            throw WireError(.invalidSpec, "must be 1 to 4096, not \(rank)", key: "rank")
        }
        if let energy, !(energy > 0 && energy <= 1) {
            throw WireError(
                .invalidSpec, "must be above 0 and at most 1, not \(energy)", key: "energy")
        }
        if rank != nil, energy != nil {
            throw WireError(.invalidSpec, "cannot stand beside `rank`: give one", key: "energy")
        }
    }

    var product: ArtifactReference {
        ArtifactReference(model: parts[0].adapter.model, adapter: name)
    }
}
