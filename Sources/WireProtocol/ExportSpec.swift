import JSONModel

/// `action: export`: a base model with an adapter computed into its matrices, as a Hugging Face folder or as GGUF.
///
/// The input `prompts`, where given, is JSONL in the form of training data: what the drift report is measured on.
public struct AdapterExport: Codable, Sendable, Equatable {
    /// How the model is written.
    public enum Format: String, Codable, Sendable, CaseIterable, WireEnumeration {
        /// A Hugging Face folder.
        case huggingFace = "hf"
        /// `model.gguf` in the folder, as llama.cpp reads it.
        case gguf
    }

    /// The type of the written matrices.
    public enum DType: String, Codable, Sendable, CaseIterable, WireEnumeration {
        case bfloat16, float32
        /// Of GGUF only.
        case float16
    }

    public var action = AdapterSpec.Action.export
    public var adapter: ArtifactReference
    /// The folder to make, absolute; must not exist.
    public var path: String
    /// Of the merged matrices; nil: as the base is kept.
    public var dtype: DType?
    /// Nil: `hf`.
    public var format: Format?

    enum CodingKeys: String, CodingKey, CaseIterable { case action, adapter, path, dtype, format }

    public init(
        adapter: ArtifactReference, path: String, dtype: DType? = nil, format: Format? = nil
    ) {
        self.adapter = adapter
        self.path = path
        self.dtype = dtype
        self.format = format
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        adapter = try fields.decode(ArtifactReference.self, forKey: .adapter)
        path = try fields.decode(String.self, forKey: .path)
        dtype = try fields.decodeIfPresent(DType.self, forKey: .dtype)
        format = try fields.decodeIfPresent(Format.self, forKey: .format)
        if dtype == .float16, format != .gguf {
            throw WireError(
                .invalidSpec, "float16 is written with format `gguf` only", key: "dtype")
        }
        guard adapter.adapter != nil else {
            throw WireError(
                .invalidSpec, "must name an adapter `M:A`, not the model \(adapter)", key: "adapter"
            )
        }
        try BuiltInSpec.requireAbsolute(path, key: "path")
        guard path != "/" else {
            throw WireError(.invalidSpec, "must name a folder to make", key: "path")
        }
    }
}

/// What `adapter` with `export` wrote.
public struct ExportResult: Codable, Sendable, Equatable {
    /// How far the logits of one way to compute are from another's, over all tokens of the prompts and all of the
    /// vocabulary.
    public struct Difference: Codable, Sendable, Equatable {
        /// The largest, absolute.
        public var maximum: Double
        /// The root of the mean square.
        public var rms: Double
        /// The share of tokens after which both have the same likeliest token.
        public var sameTop: Double

        enum CodingKeys: String, CodingKey {
            case maximum = "max"
            case rms
            case sameTop = "same_top"
        }

        public init(maximum: Double, rms: Double, sameTop: Double) {
            self.maximum = maximum
            self.rms = rms
            self.sameTop = sameTop
        }
    }

    /// Mean negative log likelihood of the labels of the prompts, in nats a token.
    public struct Likelihoods: Codable, Sendable, Equatable {
        /// Base and adapter as they are served.
        public var unmerged: Double
        /// The merged model as it was stored.
        public var merged: Double
        /// The merged matrices in float32, computed in float32; nil where the memory for it was not there, or where
        /// that is the stored type.
        public var float32: Double?

        public init(unmerged: Double, merged: Double, float32: Double? = nil) {
            self.unmerged = unmerged
            self.merged = merged
            self.float32 = float32
        }
    }

    public struct Drift: Codable, Sendable, Equatable {
        public var prompts: Int
        public var tokens: Int
        public var labels: Int
        public var nll: Likelihoods
        /// Merged as stored against unmerged as served.
        public var merged: Difference
        /// What the stored type costs: merged as stored against merged in float32.
        public var storage: Difference?
        /// What serving unmerged costs: against merged in float32.
        public var serving: Difference?

        public init(
            prompts: Int, tokens: Int, labels: Int, nll: Likelihoods, merged: Difference,
            storage: Difference? = nil, serving: Difference? = nil
        ) {
            self.prompts = prompts
            self.tokens = tokens
            self.labels = labels
            self.nll = nll
            self.merged = merged
            self.storage = storage
            self.serving = serving
        }
    }

    /// `M:A@3`
    public var adapter: ArtifactReference
    public var path: String
    public var dtype: AdapterExport.DType
    /// Nil: `hf`.
    public var format: AdapterExport.Format?
    public var bytes: Int
    /// Matrices that differ from the base's.
    public var matrices: Int
    /// Whether a head that was tied to the embedding became a matrix of its own.
    public var untiedHead: Bool
    public var seconds: Double
    /// Where prompts were given.
    public var drift: Drift?
    public var warnings: [String]?

    enum CodingKeys: String, CodingKey {
        case adapter, path, dtype, format, bytes, matrices
        case untiedHead = "untied_head"
        case seconds, drift, warnings
    }

    public init(
        adapter: ArtifactReference, path: String, dtype: AdapterExport.DType,
        format: AdapterExport.Format? = nil, bytes: Int, matrices: Int, untiedHead: Bool,
        seconds: Double, drift: Drift? = nil,
        warnings: [String]? = nil
    ) {
        self.adapter = adapter
        self.path = path
        self.dtype = dtype
        self.format = format
        self.bytes = bytes
        self.matrices = matrices
        self.untiedHead = untiedHead
        self.seconds = seconds
        self.drift = drift
        self.warnings = warnings
    }
}
