import JSONModel

/// What a GGUF file says of its tokenizer; the tokenizer itself is built by `Tokenization`.
public struct GGUFTokenizerData: Sendable, Equatable {
    /// ggml's token types.
    public enum Kind: Int, Sendable {
        case normal = 1
        case unknown = 2
        case control = 3
        case userDefined = 4
        case unused = 5
        case byte = 6
    }

    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE), `llama` (SentencePiece BPE), …
    public var model: String
    /// `tokenizer.ggml.pre`: the name of the pre-tokenizer, such as `smollm` or `llama-bpe`.
    public var preTokenizer: String?
    /// The vocabulary by id, UTF-8 bytes.
    public var tokens: [[UInt8]]
    /// The kind of each token.
    public var kinds: [Kind]
    /// Log-probabilities of the tokens, for SentencePiece models.
    public var scores: [Float]?
    /// BPE merges in order of rank, as `left right` with one space between.
    public var merges: [[UInt8]]
    public var beginning: Int?
    public var end: Int?
    public var endOfTurn: Int?
    public var unknown: Int?
    public var padding: Int?
    public var addsBeginning: Bool?
    public var addsEnd: Bool?
    public var addsSpacePrefix: Bool?
    public var chatTemplate: String?

    /// A byte-level BPE (`gpt2`) without anything but tokens and merges.
    public init(
        preTokenizer: String, tokens: [[UInt8]], kinds: [Kind], merges: [[UInt8]]
    ) {
        model = "gpt2"
        self.preTokenizer = preTokenizer
        self.tokens = tokens
        self.kinds = kinds
        self.merges = merges
    }
}

extension GGUFTokenizerData {
    /// Reads `tokenizer.*`; nil if the file has no tokenizer.
    public init?(file: GGUFFile) throws {
        guard let model = file.value("tokenizer.ggml.model")?.string else { return nil }
        func malformed(_ key: String, _ reason: String) -> ModelFileError {
            ModelFileError(.malformed, file: file.path, item: "tokenizer.\(key)", reason)
        }
        guard let tokens = file.value("tokenizer.ggml.tokens")?.strings, !tokens.isEmpty else {
            throw malformed("ggml.tokens", "is missing")
        }
        self.model = model
        preTokenizer = file.value("tokenizer.ggml.pre")?.string
        self.tokens = Array(tokens)
        let types = file.value("tokenizer.ggml.token_type")?.integers
        if let types {
            guard types.count == tokens.count else {
                throw malformed(
                    "ggml.token_type", "\(types.count) types for \(tokens.count) tokens")
            }
            kinds = try types.map {
                guard let kind = Kind(rawValue: $0) else {
                    throw malformed("ggml.token_type", "\($0) is not known")
                }
                return kind
            }
        } else {
            kinds = Array(repeating: .normal, count: tokens.count)
        }
        scores = file.value("tokenizer.ggml.scores")?.numbers
        if let scores, scores.count != tokens.count {
            throw malformed("ggml.scores", "\(scores.count) scores for \(tokens.count) tokens")
        }
        merges = file.value("tokenizer.ggml.merges")?.strings.map(Array.init) ?? []
        func id(_ key: String) throws -> Int? {
            guard let value = file.value("tokenizer.ggml.\(key)") else { return nil }
            guard let id = value.integer, id >= 0, id < tokens.count else {
                throw malformed("ggml.\(key)", "is no id of the \(tokens.count) tokens")
            }
            return id
        }
        beginning = try id("bos_token_id")
        end = try id("eos_token_id")
        endOfTurn = try id("eot_token_id")
        unknown = try id("unknown_token_id")
        padding = try id("padding_token_id")
        addsBeginning = file.value("tokenizer.ggml.add_bos_token")?.bool
        addsEnd = file.value("tokenizer.ggml.add_eos_token")?.bool
        addsSpacePrefix = file.value("tokenizer.ggml.add_space_prefix")?.bool
        if let template = file.value("tokenizer.chat_template") {
            guard let text = template.string else {
                throw malformed("chat_template", "is no UTF-8 text")
            }
            chatTemplate = text
        }
    }

    /// The form kept in a model's folder as `tokenizer.gguf.json`.
    public func json(path: String) throws -> JSONValue {
        func text(_ bytes: [UInt8], _ what: String, _ index: Int) throws -> JSONValue {
            guard let text = String(validating: bytes, as: UTF8.self) else {
                throw ModelFileError(
                    .malformed, file: path, item: "tokenizer.ggml.\(what)",
                    "entry \(index) is no UTF-8")
            }
            return .string(text)
        }
        func optional(_ id: Int?) -> JSONValue { id.map { .integer(Int64($0)) } ?? .null }
        func optional(_ flag: Bool?) -> JSONValue { flag.map(JSONValue.bool) ?? .null }
        return [
            "model": .string(model),
            "pre": preTokenizer.map(JSONValue.string) ?? .null,
            "tokens": .array(try tokens.enumerated().map { try text($1, "tokens", $0) }),
            "kinds": .array(kinds.map { .integer(Int64($0.rawValue)) }),
            "scores": scores.map { .array($0.map { .number(Double($0)) }) } ?? .null,
            "merges": .array(try merges.enumerated().map { try text($1, "merges", $0) }),
            "bos": optional(beginning), "eos": optional(end), "eot": optional(endOfTurn),
            "unk": optional(unknown), "pad": optional(padding),
            "add_bos": optional(addsBeginning), "add_eos": optional(addsEnd),
            "add_space_prefix": optional(addsSpacePrefix),
            "chat_template": chatTemplate.map(JSONValue.string) ?? .null,
        ]
    }

    /// Reads what `json` wrote.
    public init(json: JSONValue, path: String) throws {
        func malformed(_ key: String) -> ModelFileError {
            ModelFileError(.malformed, file: path, item: key, "is missing or of another form")
        }
        func texts(_ key: String) throws -> [[UInt8]] {
            guard let items = json[key]?.array else { throw malformed(key) }
            return try items.map {
                guard let text = $0.string else { throw malformed(key) }
                return Array(text.utf8)
            }
        }
        guard let model = json["model"]?.string else { throw malformed("model") }
        self.model = model
        preTokenizer = json["pre"]?.string
        tokens = try texts("tokens")
        merges = try texts("merges")
        guard let kinds = json["kinds"]?.array, kinds.count == tokens.count else {
            throw malformed("kinds")
        }
        self.kinds = try kinds.map {
            guard let kind = $0.integer.flatMap(Kind.init(rawValue:)) else {
                throw malformed("kinds")
            }
            return kind
        }
        scores = json["scores"]?.array.map { $0.compactMap(\.double).map { Float($0) } }
        guard scores == nil || scores?.count == tokens.count else { throw malformed("scores") }
        func id(_ key: String) throws -> Int? {
            guard let value = json[key], !value.isNull else { return nil }
            guard let id = value.integer, id >= 0, id < tokens.count else { throw malformed(key) }
            return id
        }
        beginning = try id("bos")
        end = try id("eos")
        endOfTurn = try id("eot")
        unknown = try id("unk")
        padding = try id("pad")
        addsBeginning = json["add_bos"]?.bool
        addsEnd = json["add_eos"]?.bool
        addsSpacePrefix = json["add_space_prefix"]?.bool
        chatTemplate = json["chat_template"]?.string
    }
}
