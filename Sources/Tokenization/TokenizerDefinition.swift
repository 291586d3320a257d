import JSONModel

/// All that makes a tokenizer: vocabulary and model in their final tables, the rest as the file has it.
struct TokenizerDefinition: Sendable {
    var vocabulary: Vocabulary
    var model: TokenModel
    var normalizer: JSONValue?
    var preTokenizer: JSONValue?
    var postProcessor: JSONValue?
    var decoder: JSONValue?
    /// With the ids that are in force.
    var addedTokens: [AddedTokens.Token]
}

extension TokenizerDefinition {
    /// From a parsed `tokenizer.json`. `truncation` and `padding` are not applied (transformers
    /// switches both off); anything else that is not understood is refused by name.
    init(json: JSONValue) throws(TokenizerError) {
        guard json.object != nil, let modelJSON = json["model"], modelJSON.object != nil else {
            throw TokenizerError(
                .malformed, "not a tokenizer.json: there is no object \"model\" in it")
        }
        let model = Component(modelJSON, "model")
        let type =
            model.type.isEmpty ? (modelJSON["merges"] == nil ? "" : "BPE") : model.type
        switch type {
        case "BPE": (vocabulary, self.model) = try Self.bytePair(model)
        case "Unigram": (vocabulary, self.model) = try Self.unigram(model)
        default: throw model.unknownType()
        }
        func part(_ key: String) -> JSONValue? {
            json[key].flatMap { $0.isNull ? JSONValue?.none : $0 }
        }
        normalizer = part("normalizer")
        preTokenizer = part("pre_tokenizer")
        postProcessor = part("post_processor")
        decoder = part("decoder")
        addedTokens = try Self.addedTokens(part("added_tokens"), vocabulary)
    }

    private static func bytePair(
        _ model: Component
    ) throws(TokenizerError) -> (Vocabulary, TokenModel) {
        if let dropout = model.json["dropout"]?.double, dropout > 0 {
            throw model.refused("\"dropout\" (random ids)")
        }
        guard let entries = model.json["vocab"]?.object?.entries else {
            throw TokenizerError(.malformed, "model BPE: \"vocab\" is not an object")
        }
        var tokens: [(text: [UInt8], id: Int32)] = []
        tokens.reserveCapacity(entries.count)
        for (key, value) in entries {
            guard let id = value.integer, let id = Int32(exactly: id) else {
                throw TokenizerError(.malformed, "model BPE: the id of '\(key)' is not a number")
            }
            tokens.append((Array(key.utf8), id))
        }
        let vocabulary = try Vocabulary(tokens)
        let options = BytePairModel.Options(
            ignoresMerges: try model.bool("ignore_merges", default: false),
            fallsBackToBytes: try model.bool("byte_fallback", default: false),
            fusesUnknown: try model.bool("fuse_unk", default: false),
            unknownToken: try model.optionalString("unk_token").map { Array($0.utf8) },
            continuingPrefix: Array(
                (try model.optionalString("continuing_subword_prefix") ?? "").utf8),
            endOfWordSuffix: Array((try model.optionalString("end_of_word_suffix") ?? "").utf8))
        var merges: [(left: Int32, right: Int32, merged: Int32)] = []
        let list = try model.array("merges")
        merges.reserveCapacity(list.count)
        for (rank, merge) in list.enumerated() {
            let (left, right) = try halves(merge, rank)
            merges.append(
                try Self.merge(
                    left, right, rank, vocabulary, prefix: options.continuingPrefix.count))
        }
        let bytePair = try BytePairModel(
            vocabulary: vocabulary, merges: MergeTable(merges), options: options)
        return (vocabulary, .bytePair(bytePair))
    }

    /// "a b" or ["a", "b"].
    private static func halves(
        _ merge: JSONValue, _ rank: Int
    ) throws(TokenizerError) -> ([UInt8], [UInt8]) {
        if let text = merge.string {
            let bytes = Array(text.utf8)
            if let space = bytes.firstIndex(of: 0x20), space == bytes.lastIndex(of: 0x20) {
                return (Array(bytes[..<space]), Array(bytes[(space + 1)...]))
            }
        } else if let pair = merge.array, pair.count == 2, let left = pair[0].string,
            let right = pair[1].string
        {
            return (Array(left.utf8), Array(right.utf8))
        }
        throw TokenizerError(
            .malformed, "model BPE: merge \(rank + 1) is neither \"a b\" nor [\"a\", \"b\"]")
    }

    static func merge(
        _ left: [UInt8], _ right: [UInt8], _ rank: Int, _ vocabulary: Vocabulary, prefix: Int = 0
    ) throws(TokenizerError) -> (left: Int32, right: Int32, merged: Int32) {
        func id(_ text: [UInt8]) throws(TokenizerError) -> Int32 {
            guard let id = vocabulary.id(of: text[...]) else {
                let shown = String(decoding: text, as: UTF8.self)
                throw TokenizerError(
                    .malformed, "merge \(rank + 1) needs '\(shown)', which is not in the vocabulary"
                )
            }
            return id
        }
        return (try id(left), try id(right), try id(left + right.dropFirst(prefix)))
    }

    private static func unigram(
        _ model: Component
    ) throws(TokenizerError) -> (Vocabulary, TokenModel) {
        var tokens: [(text: [UInt8], id: Int32)] = []
        var scores: [Double] = []
        for (index, entry) in try model.array("vocab").enumerated() {
            guard let pair = entry.array, pair.count == 2, let text = pair[0].string,
                let score = pair[1].double
            else {
                throw TokenizerError(
                    .malformed, "model Unigram: entry \(index) of \"vocab\" is not [text, score]")
            }
            tokens.append((Array(text.utf8), Int32(index)))
            scores.append(score)
        }
        let vocabulary = try Vocabulary(tokens, lastWins: true)
        var unknown: Int32?
        if let json = model.json["unk_id"], !json.isNull {
            guard let id = json.integer, id >= 0, id < tokens.count else {
                throw TokenizerError(
                    .malformed, "model Unigram: \"unk_id\" is not in the vocabulary")
            }
            unknown = Int32(id)
        }
        let unigram = try UnigramModel(
            vocabulary: vocabulary, scores: scores, unknownID: unknown,
            fallsBackToBytes: try model.bool("byte_fallback", default: false))
        return (vocabulary, .unigram(unigram))
    }

    /// Added tokens with the ids in force. As the library does it, a content that the vocabulary holds
    /// keeps its id there, and others are numbered on from the end, whatever the file says.
    private static func addedTokens(
        _ json: JSONValue?, _ vocabulary: Vocabulary
    ) throws(TokenizerError) -> [AddedTokens.Token] {
        guard let json else { return [] }
        guard let list = json.array else {
            throw TokenizerError(.malformed, "\"added_tokens\" is not an array")
        }
        var tokens: [AddedTokens.Token] = []
        for entry in list {
            let component = Component(entry, "added_tokens")
            let content = Array(try component.string("content").utf8)
            let special = try component.bool("special", default: false)
            tokens.append(
                AddedTokens.Token(
                    id: -1, content: content,
                    singleWord: try component.bool("single_word", default: false),
                    stripsLeft: try component.bool("lstrip", default: false),
                    stripsRight: try component.bool("rstrip", default: false),
                    normalized: try component.bool("normalized", default: !special),
                    special: special))
        }
        return number(tokens, vocabulary)
    }

    static func number(
        _ tokens: [AddedTokens.Token], _ vocabulary: Vocabulary
    ) -> [AddedTokens.Token] {
        var seen: Set<[UInt8]> = []
        var highest: Int32 = -1
        var result: [AddedTokens.Token] = []
        for var token in tokens {
            guard !token.content.isEmpty, seen.insert(token.content).inserted else { continue }
            let count = Int32(vocabulary.count)
            token.id =
                vocabulary.id(of: token.content[...])
                ?? (highest >= count ? highest + 1 : count)
            highest = max(highest, token.id)
            result.append(token)
        }
        return result
    }
}
