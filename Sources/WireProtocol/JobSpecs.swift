import JSONModel

// Specs of the built-in kinds. A person writes them, so unknown keys are refused by name. What a
// plugin's own kind takes is checked by its worker.

/// Names that the protocol gives a meaning to.
public enum BuiltInKind: String, Sendable, CaseIterable {
    case infer, finetune, prepare, adapter, check, evaluate

    /// The input whose lines are tasks, for any kind.
    public static let linesInput = "lines"
}

/// `infer`: a task per line of the input `lines`.
public struct InferSpec: Codable, Sendable, Equatable {
    /// For lines without `body.model`.
    public var model: ArtifactReference?
    /// One bad line refuses the whole file.
    public var strict: Bool?

    enum CodingKeys: String, CodingKey, CaseIterable { case model, strict }

    public init(model: ArtifactReference? = nil, strict: Bool? = nil) {
        self.model = model
        self.strict = strict
    }
}

/// `finetune`: inputs `train` and, where wanted, `eval`.
public struct FinetuneSpec: Codable, Sendable, Equatable {
    /// The base model.
    public var model: ArtifactReference
    /// The adapter that it makes: registered as `model:name`.
    public var name: WireName
    public var recipe: Recipe

    enum CodingKeys: String, CodingKey, CaseIterable { case model, name, recipe }

    public init(model: ArtifactReference, name: WireName, recipe: Recipe = Recipe()) {
        self.model = model
        self.name = name
        self.recipe = recipe
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        model = try fields.decode(ArtifactReference.self, forKey: .model)
        name = try fields.decode(WireName.self, forKey: .name)
        recipe = try fields.decodeIfPresent(Recipe.self, forKey: .recipe) ?? Recipe()
        try BuiltInSpec.requireModel(model, key: "model")
    }
}

/// `prepare`: imports a model from a folder or a `.gguf` file.
public struct PrepareSpec: Codable, Sendable, Equatable {
    /// How the packed matrices are kept.
    public enum DType: String, Codable, Sendable, CaseIterable, WireEnumeration {
        case bfloat16, float32
    }
    /// The model's name.
    public var name: WireName
    /// Absolute.
    public var path: String
    public var dtype: DType?

    enum CodingKeys: String, CodingKey, CaseIterable { case name, path, dtype }

    public init(name: WireName, path: String, dtype: DType? = nil) {
        self.name = name
        self.path = path
        self.dtype = dtype
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        name = try fields.decode(WireName.self, forKey: .name)
        path = try fields.decode(String.self, forKey: .path)
        dtype = try fields.decodeIfPresent(DType.self, forKey: .dtype)
        try BuiltInSpec.requireAbsolute(path, key: "path")
    }
}

/// `check`: looks at the data of a fine-tune (input `data`) without training, or plans one (and input `eval`).
public struct CheckSpec: Codable, Sendable, Equatable {
    public enum Action: String, Codable, Sendable, CaseIterable, WireEnumeration {
        case data, plan
    }
    public var action: Action
    public var model: ArtifactReference
    public var recipe: Recipe?
    /// With `data`: how many rows to show with their loss mask.
    public var rows: Int?

    enum CodingKeys: String, CodingKey, CaseIterable { case action, model, recipe, rows }

    public init(
        action: Action = .data, model: ArtifactReference, recipe: Recipe? = nil, rows: Int? = nil
    ) {
        self.action = action
        self.model = model
        self.recipe = recipe
        self.rows = rows
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        action = try fields.decode(Action.self, forKey: .action)
        model = try fields.decode(ArtifactReference.self, forKey: .model)
        recipe = try fields.decodeIfPresent(Recipe.self, forKey: .recipe)
        rows = try fields.decodeIfPresent(Int.self, forKey: .rows)
        try BuiltInSpec.requireModel(model, key: "model")
        if let rows, !(0...1_000).contains(rows) {
            throw WireError(.invalidSpec, "must be 0 to 1000, not \(rows)", key: "rows")
        }
        if rows != nil, action == .plan {
            throw WireError(.invalidSpec, "is for `data`: a plan shows no rows", key: "rows")
        }
    }
}

/// A checked spec of a built-in kind.
public enum BuiltInSpec: Sendable, Equatable {
    case infer(InferSpec)
    case finetune(FinetuneSpec)
    case prepare(PrepareSpec)
    case adapter(AdapterSpec)
    case check(CheckSpec)
    case evaluate(EvaluateSpec)

    /// Checks the spec and the names of the inputs of a submission of a built-in kind.
    ///
    /// - Returns: Nil for a plugin's own kind, about which the protocol knows nothing.
    /// - Throws: `INVALID_SPEC` that names the key.
    public init?(_ submission: Submission) throws(WireError) {
        guard let kind = BuiltInKind(rawValue: submission.kind.text) else { return nil }
        try self.init(kind: kind, spec: submission.spec)
        try check(inputs: submission.inputs.map(\.name.text), of: kind)
    }

    /// - Throws: `INVALID_SPEC` that names the key, from `spec` on.
    public init(kind: BuiltInKind, spec: JSONValue) throws(WireError) {
        do throws(WireError) {
            switch kind {
            case .infer:
                self = .infer(try Self.strict(InferSpec.self, InferSpec.CodingKeys.self, spec))
            case .finetune:
                self = .finetune(
                    try Self.strict(FinetuneSpec.self, FinetuneSpec.CodingKeys.self, spec))
            case .prepare:
                self = .prepare(
                    try Self.strict(PrepareSpec.self, PrepareSpec.CodingKeys.self, spec))
            case .adapter:
                self = .adapter(try AdapterSpec(spec: spec))
            case .check:
                self = .check(try Self.strict(CheckSpec.self, CheckSpec.CodingKeys.self, spec))
            case .evaluate:
                self = .evaluate(
                    try Self.strict(EvaluateSpec.self, EvaluateSpec.CodingKeys.self, spec))
            }
        } catch {
            throw error.inside("spec").with(code: .invalidSpec)
        }
    }

    /// References that the job needs before it can start, by the key that names them.
    public var references: [ArtifactReference] {
        switch self {
        case .infer(let spec): spec.model.map { [$0] } ?? []
        case .finetune(let spec): [spec.model] + (spec.recipe.adapter.map { [$0] } ?? [])
        case .prepare: []
        case .adapter(let spec): spec.references
        case .check(let spec): [spec.model] + (spec.recipe?.adapter.map { [$0] } ?? [])
        case .evaluate(let spec): spec.models
        }
    }

    /// The artifact that the job will register, without version.
    public var product: ArtifactReference? {
        switch self {
        case .infer, .check, .evaluate: nil
        case .finetune(let spec): ArtifactReference(model: spec.model.model, adapter: spec.name)
        case .prepare(let spec): ArtifactReference(model: spec.name)
        case .adapter(let spec): spec.product
        }
    }

    private static func strict<Spec: Decodable, Keys: CodingKey & CaseIterable>(
        _ type: Spec.Type, _ keys: Keys.Type, _ spec: JSONValue
    ) throws(WireError) -> Spec {
        try UnknownKeys.refuse(in: spec, except: keys)
        return try WireDecoder.decode(type, from: spec)
    }

    private func check(inputs: [String], of kind: BuiltInKind) throws(WireError) {
        let (needed, allowed): ([String], [String]) =
            switch self {
            case .infer: (["lines"], ["lines"])
            case .finetune: (["train"], ["train", "eval"])
            case .adapter(.export): ([], ["prompts"])
            case .adapter(.rebase): (["train"], ["train", "eval"])
            case .prepare, .adapter: ([], [])
            case .evaluate: (["eval"], ["eval"])
            case .check(let spec): (["data"], spec.action == .plan ? ["data", "eval"] : ["data"])
            }
        for name in needed where !inputs.contains(name) {
            throw WireError(.invalidSpec, "\(kind) needs an input named `\(name)`", key: "inputs")
        }
        for (index, name) in inputs.enumerated() where !allowed.contains(name) {
            let known =
                allowed.isEmpty ? "it takes none" : "it takes \(allowed.joined(separator: ", "))"
            throw WireError(
                .invalidSpec, "\(kind) has no input `\(name)`; \(known)",
                key: "inputs[\(index)].name")
        }
    }

    static func requireModel(_ reference: ArtifactReference, key: String) throws(WireError) {
        guard reference.adapter == nil else {
            throw WireError(
                .invalidSpec, "must name a model, not the adapter \(reference)", key: key)
        }
    }

    static func requireAbsolute(_ path: String, key: String) throws(WireError) {
        guard path.hasPrefix("/"), !path.utf8.contains(0), path.utf8.count <= 4_096 else {
            throw WireError(
                .invalidSpec, "must be an absolute path, not `\(path.prefix(80))`", key: key)
        }
    }
}
