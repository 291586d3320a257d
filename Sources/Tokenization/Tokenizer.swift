import Synchronization

/// A tokenizer as `tokenizer.json` describes it. Immutable; encodes on any thread.
public final class Tokenizer: Sendable {
    let vocabulary: Vocabulary
    let model: TokenModel
    let normalizer: Normalizer?
    let preTokenizer: PreTokenizer?
    let postProcessor: PostProcessor
    let decoder: Decoder
    let addedTokens: AddedTokens
    /// What the compiled form keeps: everything of the file but vocabulary and merges.
    let definition: TokenizerDefinition

    /// Whether pieces reach the model as raw bytes, not yet mapped to the byte alphabet.
    private let usesRawBytes: Bool
    /// For `bytes(ofToken:)`.
    let anchoring: TokenAnchor?
    private let workspaces = Mutex<[EncodingWorkspace]>([])

    /// The longest text that is encoded, in bytes.
    public static let maximumTextBytes = 256 << 20

    init(_ definition: TokenizerDefinition) throws(TokenizerError) {
        self.definition = definition
        vocabulary = definition.vocabulary
        model = definition.model
        normalizer = if let json = definition.normalizer { try Normalizer(json) } else { nil }
        preTokenizer = if let json = definition.preTokenizer { try PreTokenizer(json) } else { nil }
        postProcessor =
            if let json = definition.postProcessor { try PostProcessor(json) } else {
                PostProcessor()
            }
        decoder = if let json = definition.decoder { try Decoder(json) } else { .joinBySpaces }
        let matchers = MatcherSet()
        let normalizer = self.normalizer
        addedTokens = try AddedTokens(definition.addedTokens) { content throws(TokenizerError) in
            var text = NormalizedText(bytes: content, base: 0)
            try normalizer?.apply(to: &text, matchers)
            return text.bytes
        }
        usesRawBytes = definition.model.readsBytes && preTokenizer?.endsWithByteLevel ?? false
        anchoring = TokenAnchor(definition.vocabulary, decoder)
        for id in postProcessor.before + postProcessor.after where !hasToken(id) {
            throw TokenizerError(.malformed, "post_processor: there is no token with the id \(id)")
        }
    }

    /// One more than the highest id, added tokens included.
    public var idCount: Int {
        max(vocabulary.idCount, Int((addedTokens.tokens.map(\.id).max() ?? -1) + 1))
    }

    // MARK: Tokens

    /// The id of a token's text, added tokens first.
    public func tokenID(of text: String) -> Int32? {
        let bytes = Array(text.utf8)
        return addedTokens.tokens.first { $0.content == bytes }?.id ?? vocabulary.id(of: bytes[...])
    }

    /// The text of a token as the vocabulary writes it (`Ġthe`), nil if there is no such id.
    public func tokenText(of id: Int32) -> String? {
        textBytes(of: id).map { String(decoding: $0, as: UTF8.self) }
    }

    public func hasToken(_ id: Int32) -> Bool { textBytes(of: id) != nil }

    /// Whether `skipSpecialTokens` leaves the token out.
    public func isSpecial(_ id: Int32) -> Bool {
        textBytes(of: id).map { addedTokens.isSpecial(content: $0) } ?? false
    }

    /// The ids put before and after every text when special tokens are asked for.
    public var specialTokensAround: (before: [Int32], after: [Int32]) {
        (postProcessor.before, postProcessor.after)
    }

    /// Added tokens in the order of the file: id, text and whether it is special.
    public var addedTokenList: [(id: Int32, text: String, isSpecial: Bool)] {
        addedTokens.tokens.map { ($0.id, String(decoding: $0.content, as: UTF8.self), $0.special) }
    }

    func textBytes(of id: Int32) -> ArraySlice<UInt8>? {
        if let added = addedTokens.text(of: id) { return added[...] }
        return vocabulary.contains(id: id) ? vocabulary.text(of: id) : nil
    }

    // MARK: Text to ids

    /// The ids of a text.
    ///
    /// - Throws: `TokenizerError.limit` when the text or a regular expression's work is too large.
    public func encode(
        _ text: String, addSpecialTokens: Bool
    ) throws(TokenizerError) -> [Int32] {
        var sink = TokenSink(withRanges: false)
        try encode(Array(text.utf8), addSpecialTokens, &sink)
        return sink.ids
    }

    /// The ids of a text, each with the UTF-8 byte range of the text that it stands for (empty for
    /// special tokens put around it; a token within a character gets the whole character's bytes, or
    /// its own where they can be told).
    public func encodeWithRanges(
        _ text: String, addSpecialTokens: Bool
    ) throws(TokenizerError) -> TokenizedText {
        var sink = TokenSink(withRanges: true)
        try encode(Array(text.utf8), addSpecialTokens, &sink)
        return TokenizedText(ids: sink.ids, ranges: sink.ranges)
    }

    private func encode(
        _ bytes: [UInt8], _ addSpecialTokens: Bool, _ sink: inout TokenSink
    ) throws(TokenizerError) {
        guard bytes.count <= Self.maximumTextBytes else {
            throw TokenizerError(
                .limit, "the text has \(bytes.count) bytes, more than \(Self.maximumTextBytes)")
        }
        let workspace = workspaces.withLock { $0.popLast() } ?? EncodingWorkspace()
        defer { workspaces.withLock { if $0.count < 16 { $0.append(workspace) } } }
        if addSpecialTokens { for id in postProcessor.before { sink.append(id, 0..<0) } }
        sink.ids.reserveCapacity(bytes.count / 3 + 8)
        for stretch in addedTokens.split(bytes, normalized: false) {
            if let id = stretch.id {
                sink.append(id, stretch.range)
                continue
            }
            let part = stretch.range.count == bytes.count ? bytes : Array(bytes[stretch.range])
            var text = NormalizedText(bytes: part, base: stretch.range.lowerBound)
            try normalizer?.apply(to: &text, workspace.matchers)
            guard addedTokens.hasNormalized else {
                try encode(text, workspace, &sink)
                continue
            }
            for inner in addedTokens.split(text.bytes, normalized: true) {
                if let id = inner.id {
                    sink.append(
                        id,
                        text.origin(
                            of: inner.range.lowerBound)..<text.origin(
                                of: inner.range.upperBound))
                } else if inner.range.count == text.bytes.count {
                    try encode(text, workspace, &sink)
                } else {
                    var piece = text
                    piece.keep(inner.range)
                    try encode(piece, workspace, &sink)
                }
            }
        }
        if addSpecialTokens {
            for id in postProcessor.after { sink.append(id, bytes.count..<bytes.count) }
        }
    }

    private func encode(
        _ text: NormalizedText, _ workspace: EncodingWorkspace, _ sink: inout TokenSink
    ) throws(TokenizerError) {
        var buffer = PieceBuffer(text)
        // A text whose start was stripped away does not begin at the origin any more.
        if let origin = text.origins?.first, origin > 0 { buffer.text.startsAtOrigin = false }
        try preTokenizer?.apply(to: &buffer, workspace.matchers, raw: usesRawBytes)
        for piece in buffer.pieces {
            let bytes = buffer.text.bytes[piece]
            if sink.withRanges {
                try workspace.encode(bytes, raw: usesRawBytes, self)
                var position = piece.lowerBound
                for (id, length) in zip(workspace.ids, workspace.lengths) {
                    let end = min(position + Int(length), piece.upperBound)
                    sink.append(
                        id, buffer.text.origin(of: position)..<buffer.text.origin(of: end))
                    position = end
                }
                continue
            }
            let key = PieceCache.key(bytes)
            if let key, workspace.cache.append(key, to: &sink.ids) { continue }
            try workspace.encode(bytes, raw: usesRawBytes, self)
            if let key { workspace.cache.store(key, workspace.ids) }
            sink.ids.append(contentsOf: workspace.ids)
        }
    }

    // MARK: Ids to text

    /// The text of ids; ids without a token are passed over.
    public func decode(_ ids: [Int32], skipSpecialTokens: Bool) -> String {
        var stream = StreamingDecoder(self, skipSpecialTokens: skipSpecialTokens)
        var bytes: [UInt8] = []
        for id in ids { bytes.append(contentsOf: stream.pushBytes(id)) }
        bytes.append(contentsOf: stream.finishBytes())
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// Ids with the parts of the text they stand for.
public struct TokenizedText: Sendable, Equatable {
    public var ids: [Int32]
    /// UTF-8 byte ranges of the text, one for each id.
    public var ranges: [Range<Int>]
}

/// Where encoding puts its tokens.
struct TokenSink {
    let withRanges: Bool
    var ids: [Int32] = []
    var ranges: [Range<Int>] = []

    init(withRanges: Bool) { self.withRanges = withRanges }

    mutating func append(_ id: Int32, _ range: @autoclosure () -> Range<Int>) {
        ids.append(id)
        if withRanges { ranges.append(range()) }
    }
}

/// What one encoding at a time works with.
///
/// `@unchecked Sendable`: the tokenizer hands each workspace to one call at a time, under a lock.
final class EncodingWorkspace: @unchecked Sendable {
    let matchers = MatcherSet()
    var cache = PieceCache()
    var bytePair = BytePairModel.Workspace()
    var ids: [Int32] { bytePair.ids }
    var lengths: [Int32] { bytePair.lengths }

    /// Leaves the tokens of a piece in `ids` and `lengths`.
    func encode(
        _ piece: ArraySlice<UInt8>, raw: Bool, _ tokenizer: Tokenizer
    ) throws(TokenizerError) {
        switch tokenizer.model {
        case .bytePair(let model):
            try model.encode(piece, raw: raw, tokenizer.vocabulary, &bytePair)
        case .unigram(let model):
            let tokens = try model.encode(piece, tokenizer.vocabulary)
            bytePair.ids = tokens.map(\.id)
            bytePair.lengths = tokens.map { Int32($0.length) }
        }
    }
}

enum TokenModel: Sendable {
    case bytePair(BytePairModel)
    case unigram(UnigramModel)

    /// Whether the model can take raw bytes in place of the byte alphabet's characters.
    var readsBytes: Bool {
        if case .bytePair(let model) = self {
            return model.options.continuingPrefix.isEmpty && model.options.endOfWordSuffix.isEmpty
        }
        return false
    }
}
