import JSONModel
import ModelFiles

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
        guard kinds.isEmpty || kinds.count == tokens.count else {
            throw TokenizerError(
                .malformed,
                "tokenizer.ggml.token_type has \(kinds.count) entries for \(tokens.count) tokens")
        }
        return try Vocabulary(
            tokens.enumerated().map { (text: $0.element, id: Int32($0.offset)) }, lastWins: true)
    }

    /// Control tokens are special; user-defined ones are added tokens that are not.
    private func addedTokens() -> [AddedTokens.Token] {
        zip(tokens, kinds).enumerated().compactMap { id, entry in
            let (text, kind) = entry
            guard [.control, .userDefined, .unknown].contains(kind), !text.isEmpty else {
                return nil
            }
            return AddedTokens.Token(id: Int32(id), content: text, special: kind != .userDefined)
        }
    }

    private func postProcessor(addsBOS: Bool) throws(TokenizerError) -> JSONValue? {
        var before: [Int] = []
        var after: [Int] = []
        if addsBeginning ?? addsBOS {
            guard let beginning else {
                throw TokenizerError(.malformed, "add_bos_token without bos_token_id")
            }
            before = [beginning]
        }
        if addsEnd ?? false {
            guard let end else {
                throw TokenizerError(.malformed, "add_eos_token without eos_token_id")
            }
            after = [end]
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
            let bytes = text
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
        guard let scores, scores.count == tokens.count else {
            throw TokenizerError(
                .malformed,
                "tokenizer.ggml.scores has \(scores?.count ?? 0) entries for \(tokens.count) tokens"
            )
        }
        let unknown = self.unknown ?? 0
        guard tokens.indices.contains(unknown) else {
            throw TokenizerError(
                .malformed, "tokenizer.ggml.unknown_token_id \(unknown) has no token")
        }
        let model = try BytePairModel(
            vocabulary: vocabulary, merges: MergeTable(mergesFromScores(scores, vocabulary)),
            options: .init(
                fallsBackToBytes: true, fusesUnknown: true,
                unknownToken: tokens[unknown]))
        let prefixes = addsSpacePrefix ?? true
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
        _ scores: [Float], _ vocabulary: Vocabulary
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
            let kind = kinds.isEmpty ? .normal : kinds[Int(id)]
            guard kind == .normal || kind == .userDefined else { continue }
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
