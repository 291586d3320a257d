import JSONModel
import ModelFiles

extension GGUFTokenizerData {
    /// Pre-tokenizers that llama.cpp knows, one name for each pipeline.
    private static let names = [
        "gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "qwen35", "tekken", "gpt-4o",
    ]

    /// What `tokenizer.ggml.pre` says where llama.cpp has no name for the pre-tokenizer: it refuses such a file, where another name
    /// would split texts otherwise.
    public static let unknownPreTokenizer = "unknown"

    /// A `tokenizer.json` as GGUF says it: byte-level BPE.
    ///
    /// - Parameters:
    ///   - json: The parsed file.
    ///   - special: Ids of the model's special tokens.
    ///   - unknownToken: The text of `unk_token` of `tokenizer_config.json`, where there is one.
    ///   - vocabularySize: Rows of the embedding; ids without a token get an unused one.
    /// - Throws: `TokenizerError.unsupported` naming what GGUF cannot say.
    public init(
        json: JSONValue, special: SpecialTokenIDs, unknownToken: String?, chatTemplate: String?,
        vocabularySize: Int
    ) throws(TokenizerError) {
        let definition = try TokenizerDefinition(json: json)
        guard case .bytePair(let model) = definition.model,
            definition.decoder?["type"]?.string == "ByteLevel"
        else {
            throw Self.refused("a tokenizer that is no byte-level BPE")
        }
        let name =
            try Self.preTokenizer(definition, ignoresMerges: model.options.ignoresMerges)
            ?? Self.unknownPreTokenizer
        var tokens = (0..<vocabularySize).map { Array("[UNUSED\($0)]".utf8) }
        var kinds = [Kind](repeating: .unused, count: vocabularySize)
        func put(_ text: [UInt8], _ id: Int, _ kind: Kind) throws(TokenizerError) {
            guard tokens.indices.contains(id) else {
                throw TokenizerError(
                    .malformed, "token \(id) has no row among the \(vocabularySize) of the model")
            }
            tokens[id] = text
            kinds[id] = kind
        }
        for (text, id) in json["model"]?["vocab"]?.object?.entries ?? [] {
            try put(Array(text.utf8), id.integer ?? -1, .normal)
        }
        for token in definition.addedTokens {
            try put(token.content, Int(token.id), token.special ? .control : .userDefined)
        }
        var merges: [[UInt8]] = []
        for merge in json["model"]?["merges"]?.array ?? [] {
            // Both forms were checked when the definition was read.
            let text =
                merge.string
                ?? (merge.array ?? []).compactMap(\.string).joined(separator: " ")
            merges.append(Array(text.utf8))
        }
        let (before, after) = try Self.added(definition.postProcessor)
        let unknown = unknownToken.flatMap { text in
            tokens.firstIndex(of: Array(text.utf8))
        }
        self.init(preTokenizer: name, tokens: tokens, kinds: kinds, merges: merges)
        beginning = special.beginning
        end = special.end.first
        endOfTurn = special.end.dropFirst().first
        self.unknown = unknown
        padding = special.padding
        addsBeginning = !before.isEmpty
        addsEnd = !after.isEmpty
        self.chatTemplate = chatTemplate
        guard before.allSatisfy({ $0 == special.beginning }), before.count <= 1,
            after.allSatisfy({ $0 == special.end.first }), after.count <= 1
        else {
            throw Self.refused("a tokenizer that adds other tokens than the model's first and last")
        }
    }

    private static func refused(_ what: String) -> TokenizerError {
        TokenizerError(
            .unsupported,
            "\(what) is not written as GGUF; export a Hugging Face folder and convert it with llama.cpp's "
                + "convert_hf_to_gguf.py")
    }

    /// The name whose pipeline is the definition's own; nil if there is none.
    private static func preTokenizer(
        _ definition: TokenizerDefinition, ignoresMerges: Bool
    ) throws(TokenizerError) -> String? {
        for name in names {
            let family = try PreTokenizerFamily(named: name)
            if plain(family.preTokenizer) == plain(definition.preTokenizer),
                plain(family.normalizer) == plain(definition.normalizer),
                family.ignoresMerges == ignoresMerges
            {
                return name
            }
        }
        return nil
    }

    /// Without what changes no token: offsets, the names of captures, defaults that are spelled out.
    private static func plain(_ value: JSONValue?) -> JSONValue? {
        guard let value, !value.isNull else { return nil }
        if let items = value.array { return .array(items.compactMap(plain)) }
        guard let object = value.object else { return value }
        if object["type"]?.string == "Sequence",
            let items = (object["pretokenizers"] ?? object["normalizers"])?.array, items.count == 1
        {
            return plain(items[0])
        }
        var members = object.entries.filter { $0.key != "trim_offsets" }
        if object["type"]?.string == "ByteLevel" {
            members = members.filter { $0.key != "use_regex" && $0.key != "add_prefix_space" }
            members.append(("use_regex", object["use_regex"] ?? true))
            members.append(("add_prefix_space", object["add_prefix_space"] ?? true))
        }
        return .object(
            JSONObject(
                members.map { (key: $0.key, value: plain($0.value) ?? .null) }
                    .sorted { $0.key < $1.key }))
    }

    /// Tokens that the post-processor puts before and after a text.
    private static func added(
        _ json: JSONValue?
    ) throws(TokenizerError) -> (before: [Int], after: [Int]) {
        guard let json, !json.isNull else { return ([], []) }
        switch json["type"]?.string {
        case "ByteLevel": return ([], [])
        case "Sequence":
            var all: (before: [Int], after: [Int]) = ([], [])
            for part in json["processors"]?.array ?? [] {
                let (before, after) = try added(part)
                all = (before + all.before, all.after + after)
            }
            return all
        case "TemplateProcessing":
            var (before, after): ([Int], [Int]) = ([], [])
            var isBefore = true
            for item in json["single"]?.array ?? [] {
                if item["Sequence"] != nil {
                    isBefore = false
                } else if let name = item["SpecialToken"]?["id"]?.string {
                    let ids = json["special_tokens"]?[name]?["ids"]?.array?.compactMap(\.integer)
                    if isBefore { before += ids ?? [] } else { after += ids ?? [] }
                }
            }
            return (before, after)
        case let other: throw refused("a tokenizer with the post-processor \(other ?? "?")")
        }
    }
}
