import JSONModel

/// What a GGUF file says of its tokenizer (`tokenizer.ggml.*`).
public struct GGUFTokenizerData: Sendable {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece).
    public var model: String
    /// `tokenizer.ggml.pre`: the name of the pre-tokenizer.
    public var preTokenizer: String?
    public var tokens: [String]
    /// `tokenizer.ggml.token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    public var tokenTypes: [Int]
    public var scores: [Float]
    /// `"a b"`, in order of rank.
    public var merges: [String]
    public var bosTokenID: Int?
    public var eosTokenID: Int?
    public var unknownTokenID: Int?
    public var addBOS: Bool?
    public var addEOS: Bool?
    public var addSpacePrefix: Bool?

    public init(
        model: String, preTokenizer: String? = nil, tokens: [String], tokenTypes: [Int] = [],
        scores: [Float] = [], merges: [String] = [], bosTokenID: Int? = nil,
        eosTokenID: Int? = nil, unknownTokenID: Int? = nil, addBOS: Bool? = nil,
        addEOS: Bool? = nil, addSpacePrefix: Bool? = nil
    ) {
        self.model = model
        self.preTokenizer = preTokenizer
        self.tokens = tokens
        self.tokenTypes = tokenTypes
        self.scores = scores
        self.merges = merges
        self.bosTokenID = bosTokenID
        self.eosTokenID = eosTokenID
        self.unknownTokenID = unknownTokenID
        self.addBOS = addBOS
        self.addEOS = addEOS
        self.addSpacePrefix = addSpacePrefix
    }
}

extension GGUFTokenizerData {
    /// The pipeline of the family's `tokenizer.json`.
    func definition() throws(TokenizerError) -> TokenizerDefinition {
        let vocabulary = try vocabulary()
        switch model {
        case "gpt2": return try bytePair(vocabulary)
        case "llama": return try sentencePiece(vocabulary)
        default:
            throw TokenizerError(
                .unsupported,
                "tokenizer.ggml.model \"\(model)\" is not supported; there are gpt2 and llama")
        }
    }

    private func vocabulary() throws(TokenizerError) -> Vocabulary {
        guard !tokens.isEmpty, tokens.count <= Int(Vocabulary.maximumID) else {
            throw TokenizerError(.malformed, "tokenizer.ggml.tokens holds \(tokens.count) tokens")
        }
        guard tokenTypes.isEmpty || tokenTypes.count == tokens.count else {
            throw TokenizerError(
                .malformed,
                "tokenizer.ggml.token_type has \(tokenTypes.count) entries for \(tokens.count) tokens"
            )
        }
        return try Vocabulary(
            tokens.enumerated().map { (Array($0.element.utf8), Int32($0.offset)) }, lastWins: true)
    }

    /// Control tokens are special; user-defined ones are added tokens that are not.
    private func addedTokens() -> [AddedTokens.Token] {
        guard !tokenTypes.isEmpty else { return [] }
        return zip(tokens, tokenTypes).enumerated().compactMap { id, entry in
            let (text, type) = entry
            guard type == 3 || type == 4 || type == 2, !text.isEmpty else { return nil }
            return AddedTokens.Token(
                id: Int32(id), content: Array(text.utf8), special: type != 4)
        }
    }

    private func postProcessor(addsBOS: Bool) throws(TokenizerError) -> JSONValue? {
        var before: [Int] = []
        var after: [Int] = []
        if addBOS ?? addsBOS {
            guard let bosTokenID else {
                throw TokenizerError(.malformed, "add_bos_token without bos_token_id")
            }
            before = [bosTokenID]
        }
        if addEOS ?? false {
            guard let eosTokenID else {
                throw TokenizerError(.malformed, "add_eos_token without eos_token_id")
            }
            after = [eosTokenID]
        }
        guard !(before + after).isEmpty else { return nil }
        func item(_ id: Int) -> JSONValue { ["SpecialToken": ["id": .string("\(id)")]] }
        var special = JSONObject()
        for id in before + after { special["\(id)"] = ["ids": [.integer(Int64(id))]] }
        return [
            "type": "TemplateProcessing",
            "single": .array(before.map(item) + [["Sequence": ["id": "A"]]] + after.map(item)),
            "special_tokens": .object(special),
        ]
    }

    // MARK: Byte-level BPE

    private func bytePair(_ vocabulary: Vocabulary) throws(TokenizerError) -> TokenizerDefinition {
        let family = try PreTokenizerFamily(named: preTokenizer ?? "default")
        var merges: [(left: Int32, right: Int32, merged: Int32)] = []
        merges.reserveCapacity(self.merges.count)
        for (rank, text) in self.merges.enumerated() {
            let bytes = Array(text.utf8)
            guard let space = bytes.dropFirst().firstIndex(of: 0x20) else {
                throw TokenizerError(
                    .malformed, "tokenizer.ggml.merges: entry \(rank) is not \"a b\"")
            }
            merges.append(
                try TokenizerDefinition.merge(
                    Array(bytes[..<space]), Array(bytes[(space + 1)...]), rank, vocabulary))
        }
        let model = try BytePairModel(
            vocabulary: vocabulary, merges: MergeTable(merges),
            options: .init(ignoresMerges: family.ignoresMerges))
        return TokenizerDefinition(
            vocabulary: vocabulary, model: .bytePair(model), normalizer: family.normalizer,
            preTokenizer: family.preTokenizer,
            postProcessor: try postProcessor(addsBOS: family.addsBOS),
            decoder: ["type": "ByteLevel"], addedTokens: addedTokens())
    }

    // MARK: SentencePiece BPE

    private func sentencePiece(
        _ vocabulary: Vocabulary
    ) throws(TokenizerError) -> TokenizerDefinition {
        guard scores.count == tokens.count else {
            throw TokenizerError(
                .malformed,
                "tokenizer.ggml.scores has \(scores.count) entries for \(tokens.count) tokens")
        }
        let unknown = unknownTokenID ?? 0
        guard tokens.indices.contains(unknown) else {
            throw TokenizerError(
                .malformed, "tokenizer.ggml.unknown_token_id \(unknown) has no token")
        }
        let model = try BytePairModel(
            vocabulary: vocabulary, merges: MergeTable(mergesFromScores(vocabulary)),
            options: .init(
                fallsBackToBytes: true, fusesUnknown: true,
                unknownToken: Array(tokens[unknown].utf8)))
        let prefixes = addSpacePrefix ?? true
        let replace: JSONValue = ["type": "Replace", "pattern": ["String": " "], "content": "▁"]
        let prepend: JSONValue = ["type": "Prepend", "prepend": "▁"]
        var decoders: [JSONValue] = [
            ["type": "Replace", "pattern": ["String": "▁"], "content": " "],
            ["type": "ByteFallback"], ["type": "Fuse"],
        ]
        if prefixes {
            decoders.append(["type": "Strip", "content": " ", "start": 1, "stop": 0])
        }
        return TokenizerDefinition(
            vocabulary: vocabulary, model: .bytePair(model),
            normalizer: [
                "type": "Sequence",
                "normalizers": .array(prefixes ? [prepend, replace] : [replace]),
            ],
            preTokenizer: nil, postProcessor: try postProcessor(addsBOS: true),
            decoder: ["type": "Sequence", "decoders": .array(decoders)],
            addedTokens: addedTokens())
    }

    /// The merges that the scores stand for, as transformers derives them from a SentencePiece model:
    /// every split of a token into two tokens, by falling score.
    private func mergesFromScores(
        _ vocabulary: Vocabulary
    ) -> [(left: Int32, right: Int32, merged: Int32)] {
        struct Candidate {
            var left: Int32
            var right: Int32
            var merged: Int32
            var leftLength: Int
            var rightLength: Int
        }
        var all: [Candidate] = []
        for id in 0..<Int32(tokens.count) {
            let type = tokenTypes.isEmpty ? 1 : tokenTypes[Int(id)]
            guard type == 1 || type == 4 else { continue }
            let text = Array(vocabulary.text(of: id))
            let length = text.count { $0 & 0xC0 != 0x80 }
            var local: [Candidate] = []
            var characters = 0
            for split in 1..<max(text.count, 1) where text[split] & 0xC0 != 0x80 {
                characters += 1
                guard let left = vocabulary.id(of: text[..<split]),
                    let right = vocabulary.id(of: text[split...])
                else { continue }
                local.append(
                    Candidate(
                        left: left, right: right, merged: id, leftLength: characters,
                        rightLength: length - characters))
            }
            local.sort { ($0.left, $0.right) < ($1.left, $1.right) }
            all.append(contentsOf: local)
        }
        let order = all.indices.sorted { first, second in
            let (a, b) = (all[first], all[second])
            let (scoreA, scoreB) = (scores[Int(a.merged)], scores[Int(b.merged)])
            if scoreA != scoreB { return scoreA > scoreB }
            if a.leftLength != b.leftLength { return a.leftLength > b.leftLength }
            if a.rightLength != b.rightLength { return a.rightLength > b.rightLength }
            return first < second
        }
        return order.map { (all[$0].left, all[$0].right, all[$0].merged) }
    }
}
