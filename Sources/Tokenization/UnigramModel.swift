/// The Unigram model (Kudo 2018): the segmentation of highest summed score, by Viterbi, as
/// `encode_optimized` of the `tokenizers` library.
struct UnigramModel: Sendable {
    let scores: [Double]
    let unknownID: Int32?
    let fallsBackToBytes: Bool
    private let trie: ByteTrie
    private let fallbackIDs: [Int32]
    private let unknownScore: Double

    /// What an unknown character costs below the worst token.
    private static let unknownPenalty = 10.0

    init(
        vocabulary: Vocabulary, scores: [Double], unknownID: Int32?, fallsBackToBytes: Bool
    ) throws(TokenizerError) {
        guard scores.allSatisfy(\.isFinite) else {
            throw TokenizerError(.malformed, "model Unigram: a score is not finite")
        }
        self.scores = scores
        self.unknownID = unknownID
        self.fallsBackToBytes = fallsBackToBytes
        var trie = ByteTrie()
        for id in 0..<Int32(vocabulary.idCount) {
            let text = vocabulary.text(of: id)
            // Of a repeated text the last id counts, as in the library's map.
            if !text.isEmpty { trie.insert(text, value: vocabulary.id(of: text) ?? id) }
        }
        self.trie = trie
        fallbackIDs = ByteFallback.tokens.map { vocabulary.id(of: $0[...]) ?? -1 }
        unknownScore = (scores.min() ?? 0) - Self.unknownPenalty
    }

    private struct Node {
        var score = 0.0
        var start = -1
        var id: Int32 = -1
    }

    /// Ids and the byte lengths they cover.
    func encode(
        _ piece: ArraySlice<UInt8>, _ vocabulary: Vocabulary
    ) throws(TokenizerError) -> [(id: Int32, length: Int)] {
        let bytes = Array(piece)
        var nodes = [Node](repeating: Node(), count: bytes.count + 1)
        var position = 0
        while position < bytes.count {
            let length = UTF8Text.scalar(in: bytes, at: position).length
            let base = nodes[position].score
            var hasSingle = false
            trie.forEachPrefix(of: bytes, from: position) { id, end in
                let score = base + scores[Int(id)]
                if nodes[end].start < 0 || score > nodes[end].score {
                    nodes[end] = Node(score: score, start: position, id: id)
                }
                if end - position == length { hasSingle = true }
            }
            if !hasSingle {
                guard let unknownID else {
                    throw TokenizerError(
                        .malformed, "model Unigram: a character has no token and there is no unk_id"
                    )
                }
                let end = position + length
                let score = base + unknownScore
                if nodes[end].start < 0 || score > nodes[end].score {
                    nodes[end] = Node(score: score, start: position, id: unknownID)
                }
            }
            position += length
        }
        var spans: [Range<Int>] = []
        var end = bytes.count
        var fusing = false
        while end > 0 {
            let node = nodes[end]
            let isUnknown = node.id == unknownID
            if isUnknown, fusing, let last = spans.last {
                spans[spans.count - 1] = node.start..<last.upperBound
            } else {
                spans.append(node.start..<end)
            }
            fusing = isUnknown
            end = node.start
        }
        var result: [(id: Int32, length: Int)] = []
        for span in spans.reversed() {
            if let id = vocabulary.id(of: bytes[span]) {
                result.append((id, span.count))
            } else if fallsBackToBytes, bytes[span].allSatisfy({ fallbackIDs[Int($0)] >= 0 }) {
                for byte in bytes[span] { result.append((fallbackIDs[Int(byte)], 1)) }
            } else if let unknownID {
                result.append((unknownID, span.count))
            }
        }
        return result
    }
}
