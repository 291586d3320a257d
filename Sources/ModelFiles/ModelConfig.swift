import JSONModel

/// The families that the engine computes. Raw values are Hugging Face's `model_type`.
public enum ModelFamily: String, Sendable, Equatable, CaseIterable {
    case llama, mistral, qwen2, qwen3, smollm3, granite, olmo2, phi3, gemma2
    case gemma3 = "gemma3_text"
    case gpt2

    /// The class that `architectures` in `config.json` names.
    public var architecture: String {
        switch self {
        case .llama: "LlamaForCausalLM"
        case .mistral: "MistralForCausalLM"
        case .qwen2: "Qwen2ForCausalLM"
        case .qwen3: "Qwen3ForCausalLM"
        case .smollm3: "SmolLM3ForCausalLM"
        case .granite: "GraniteForCausalLM"
        case .olmo2: "Olmo2ForCausalLM"
        case .phi3: "Phi3ForCausalLM"
        case .gemma2: "Gemma2ForCausalLM"
        case .gemma3: "Gemma3ForCausalLM"
        case .gpt2: "GPT2LMHeadModel"
        }
    }
}

/// How the residual stream is normalized before it enters a block.
public enum NormKind: String, Sendable, Equatable {
    /// x / rms(x) · w (Zhang & Sennrich 2019).
    case rms
    /// RMS norm with weight 1 + w, as Gemma stores it.
    case rmsUnitOffset
    /// (x − mean) / deviation · w + b.
    case layer
}

/// Where the norms of a block stand.
public enum NormPlacement: String, Sendable, Equatable {
    /// x + f(norm(x)).
    case before
    /// x + norm(f(x)), OLMo 2.
    case after
    /// x + norm(f(norm(x))), Gemma 2 and 3.
    case around
}

/// Which normalization queries and keys get before the rotation.
public enum QueryKeyNorm: String, Sendable, Equatable {
    case none
    /// Over each head's dimensions, one weight of `[headDimension]` for all heads (Qwen3, Gemma 3).
    case perHead
    /// Over the whole projection (OLMo 2).
    case whole
}

/// The non-linearity of the feed-forward block.
public enum Activation: String, Sendable, Equatable {
    /// x · sigmoid(x).
    case silu
    /// The tanh approximation of GELU (`gelu_pytorch_tanh`, `gelu_new`).
    case geluTanh
    /// GELU by the error function.
    case gelu
}

/// How the matrices of one block are stored.
public enum MatrixNaming: String, Sendable, Equatable {
    /// `self_attn.{q,k,v,o}_proj`, `mlp.{gate,up,down}_proj`, each `[out, in]`.
    case separate
    /// `self_attn.qkv_proj`, `mlp.gate_up_proj` (Phi-3).
    case fused
    /// `attn.c_attn`, `mlp.c_fc`, … stored `[in, out]` (GPT-2).
    case conv1D
}

/// What differs from layer to layer.
public struct LayerConfig: Sendable, Equatable {
    /// The rotation of this layer's queries and keys; nil where it has none.
    public var rope: RopeConfig?
    /// How many positions a query sees, its own included; nil for all before it.
    public var slidingWindow: Int?

    public init(rope: RopeConfig?, slidingWindow: Int? = nil) {
        self.rope = rope
        self.slidingWindow = slidingWindow
    }
}

/// The token ids that mean something to the model, from `config.json` and `generation_config.json`.
public struct SpecialTokenIDs: Sendable, Equatable {
    public var beginning: Int?
    /// All ids that end a generation, in order of their first mention; the first is the nominal one.
    public var end: [Int]
    public var padding: Int?
    /// Where the two files say different things; to be shown to the person.
    public var disagreements: [String]

    public init(
        beginning: Int? = nil, end: [Int] = [], padding: Int? = nil, disagreements: [String] = []
    ) {
        self.beginning = beginning
        self.end = end
        self.padding = padding
        self.disagreements = disagreements
    }
}

/// Everything that the forward pass must know of a decoder: one description for all families.
///
/// Read from `config.json` (`ModelConfigReader`) or GGUF metadata (`GGUFModel`). Each field that changes
/// the computation stands here, so that equal values mean equal computations.
public struct ModelConfig: Sendable, Equatable {
    public var family: ModelFamily
    /// Width of the residual stream.
    public var hiddenSize: Int
    public var intermediateSize: Int
    /// Query heads.
    public var headCount: Int
    public var keyValueHeadCount: Int
    /// Dimensions of one head; not always `hiddenSize / headCount`.
    public var headDimension: Int
    /// Rows of the embedding matrix.
    public var vocabularySize: Int
    /// The longest sequence the model was made for, in tokens.
    public var maximumPositions: Int
    public var layers: [LayerConfig]

    public var norm: NormKind = .rms
    public var normEpsilon: Double
    public var normPlacement: NormPlacement = .before
    public var queryKeyNorm: QueryKeyNorm = .none
    public var activation: Activation = .silu
    /// down(act(gate(x)) · up(x)) if true, down(act(up(x))) if not.
    public var gatedFeedForward = true
    public var matrixNaming: MatrixNaming = .separate
    /// Biases of q, k and v.
    public var queryKeyValueBias = false
    /// Bias of the attention's output projection.
    public var attentionOutputBias = false
    /// Biases of the feed-forward projections.
    public var feedForwardBias = false
    /// The head uses the embedding matrix.
    public var tiedEmbeddings: Bool
    /// Learned position embeddings are added to the token embeddings (GPT-2).
    public var learnedPositions = false

    /// Factor on query·key; normally headDimension^-1/2.
    public var attentionScaling: Double
    /// s ↦ cap · tanh(s / cap) on attention scores.
    public var attentionSoftCap: Double?
    /// The same on logits.
    public var logitSoftCap: Double?
    /// Factor on the embeddings.
    public var embeddingMultiplier = 1.0
    /// Factor on each block's output before it is added.
    public var residualMultiplier = 1.0
    /// Logits are divided by this.
    public var logitDivisor = 1.0

    public var specialTokens: SpecialTokenIDs

    public init(
        family: ModelFamily, hiddenSize: Int, intermediateSize: Int, headCount: Int,
        keyValueHeadCount: Int, headDimension: Int, vocabularySize: Int, maximumPositions: Int,
        layers: [LayerConfig], normEpsilon: Double, tiedEmbeddings: Bool,
        specialTokens: SpecialTokenIDs = SpecialTokenIDs()
    ) {
        self.family = family
        self.hiddenSize = hiddenSize
        self.intermediateSize = intermediateSize
        self.headCount = headCount
        self.keyValueHeadCount = keyValueHeadCount
        self.headDimension = headDimension
        self.vocabularySize = vocabularySize
        self.maximumPositions = maximumPositions
        self.layers = layers
        self.normEpsilon = normEpsilon
        self.tiedEmbeddings = tiedEmbeddings
        attentionScaling = 1 / Double(headDimension).squareRoot()
        self.specialTokens = specialTokens
    }

    public var layerCount: Int { layers.count }

    // With a residual multiplier m the engine keeps the residual stream divided by m, h / m. Blocks are then
    // added as they are, and since norm(h) with ε equals norm(h / m) with ε / m², nothing else changes.

    /// ε of the norms that read the residual stream as the engine keeps it.
    public var streamNormEpsilon: Double {
        normEpsilon / (residualMultiplier * residualMultiplier)
    }
    /// Factor on the embeddings of the residual stream as the engine keeps it.
    public var streamEmbeddingMultiplier: Double { embeddingMultiplier / residualMultiplier }

    /// Elements of the weight that normalizes queries: one head's or all heads'.
    public var queryNormWidth: Int { queryKeyNorm == .whole ? queryWidth : headDimension }
    /// The same of keys.
    public var keyNormWidth: Int { queryKeyNorm == .whole ? keyValueWidth : headDimension }
    /// Parts of a row of queries that are normalized one by one.
    public var queryNormGroups: Int { queryKeyNorm == .whole ? 1 : headCount }
    /// The same of keys.
    public var keyNormGroups: Int { queryKeyNorm == .whole ? 1 : keyValueHeadCount }

    /// Width of all query heads together.
    public var queryWidth: Int { headCount * headDimension }
    /// Width of all key (or value) heads together.
    public var keyValueWidth: Int { keyValueHeadCount * headDimension }
    /// How many query heads share a key/value head.
    public var headsPerKeyValueHead: Int { headCount / keyValueHeadCount }

    /// The description as JSON with sorted keys, without what does not enter the computation (the special
    /// tokens). Equal texts mean equal computations; the base digest covers it.
    public var canonicalJSON: JSONValue {
        var members: [(key: String, value: JSONValue)] = [
            ("activation", .string(activation.rawValue)),
            ("attention_output_bias", .bool(attentionOutputBias)),
            ("attention_scaling", .number(attentionScaling)),
            ("attention_soft_cap", attentionSoftCap.map(JSONValue.number) ?? .null),
            ("embedding_multiplier", .number(embeddingMultiplier)),
            ("family", .string(family.rawValue)),
            ("feed_forward_bias", .bool(feedForwardBias)),
            ("gated_feed_forward", .bool(gatedFeedForward)),
            ("head_count", .integer(Int64(headCount))),
            ("head_dimension", .integer(Int64(headDimension))),
            ("hidden_size", .integer(Int64(hiddenSize))),
            ("intermediate_size", .integer(Int64(intermediateSize))),
            ("key_value_head_count", .integer(Int64(keyValueHeadCount))),
        ]
        let layerValues = layers.map { layer -> JSONValue in
            [
                "rope": layer.rope?.canonicalJSON ?? .null,
                "sliding_window": layer.slidingWindow.map { .integer(Int64($0)) } ?? .null,
            ]
        }
        members += [
            ("layers", .array(layerValues)),
            ("learned_positions", .bool(learnedPositions)),
            ("logit_divisor", .number(logitDivisor)),
            ("logit_soft_cap", logitSoftCap.map(JSONValue.number) ?? .null),
            ("matrix_naming", .string(matrixNaming.rawValue)),
            ("maximum_positions", .integer(Int64(maximumPositions))),
            ("norm", .string(norm.rawValue)),
            ("norm_epsilon", .number(normEpsilon)),
            ("norm_placement", .string(normPlacement.rawValue)),
            ("query_key_norm", .string(queryKeyNorm.rawValue)),
            ("query_key_value_bias", .bool(queryKeyValueBias)),
            ("residual_multiplier", .number(residualMultiplier)),
            ("tied_embeddings", .bool(tiedEmbeddings)),
            ("vocabulary_size", .integer(Int64(vocabularySize))),
        ]
        return .object(JSONObject(members))
    }
}
