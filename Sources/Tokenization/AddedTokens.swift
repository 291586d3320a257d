/// Tokens that are found in the text before anything else, as `AddedVocabulary` of `tokenizers`.
struct AddedTokens: Sendable {
    struct Token: Sendable, Equatable {
        var id: Int32
        var content: [UInt8]
        /// Matches only where no word character stands beside it.
        var singleWord = false
        /// Swallows white space before or after it.
        var stripsLeft = false
        var stripsRight = false
        /// Looked for in the normalized text instead of the raw one.
        var normalized = false
        var special = false
    }

    private(set) var tokens: [Token]
    private let byID: [Int32: Int]
    private let specialContents: Set<[UInt8]>
    /// What each token decodes to: the normalized content where it matches normalized text.
    private var decodedContents: [[UInt8]] = []
    private var rawTrie = ByteTrie()
    private var normalizedTrie = ByteTrie()

    /// - Parameter normalize: what the tokenizer's normalizer makes of a content.
    init(
        _ tokens: [Token], normalize: ([UInt8]) throws(TokenizerError) -> [UInt8]
    ) throws(TokenizerError) {
        self.tokens = tokens
        var byID: [Int32: Int] = [:]
        var special: Set<[UInt8]> = []
        for (index, token) in tokens.enumerated() {
            byID[token.id] = index
            if token.special { special.insert(token.content) }
        }
        self.byID = byID
        specialContents = special
        // Special ones first, as the library orders them: of equal texts the first one counts.
        let order =
            tokens.indices.filter { tokens[$0].special }
            + tokens.indices.filter { !tokens[$0].special }
        decodedContents = tokens.map(\.content)
        for index in order.reversed() {
            let token = tokens[index]
            if token.normalized {
                let content = try normalize(token.content)
                decodedContents[index] = content
                if !content.isEmpty { normalizedTrie.insert(content[...], value: Int32(index)) }
            } else {
                rawTrie.insert(token.content[...], value: Int32(index))
            }
        }
    }

    /// What decoding makes of an id, if it is an added token.
    func text(of id: Int32) -> [UInt8]? { byID[id].map { decodedContents[$0] } }

    /// As in the library, a special token whose normalized content differs is not special here.
    func isSpecial(content: ArraySlice<UInt8>) -> Bool {
        !specialContents.isEmpty && specialContents.contains(Array(content))
    }

    var hasNormalized: Bool { !normalizedTrie.isEmpty }

    /// A stretch of text, or a token found in it.
    struct Stretch {
        var range: Range<Int>
        /// The id, if it is an added token.
        var id: Int32?
    }

    /// Cuts `bytes` at added tokens: those that match raw text, or those that match normalized text.
    func split(_ bytes: [UInt8], normalized: Bool) -> [Stretch] {
        let trie = normalized ? normalizedTrie : rawTrie
        if trie.isEmpty { return bytes.isEmpty ? [] : [Stretch(range: 0..<bytes.count)] }
        var result: [Stretch] = []
        var start = 0
        var position = 0
        while position < bytes.count {
            guard trie.mayStart(bytes[position]),
                let match = trie.longestMatch(in: bytes, at: position)
            else {
                position += 1
                continue
            }
            let token = tokens[Int(match.value)]
            var from = position
            var to = match.end
            position = match.end
            if token.singleWord, Self.touchesWord(bytes, from..<to) { continue }
            if token.stripsLeft { from = max(Self.spacesEnd(bytes, before: from), start) }
            if token.stripsRight { to = Self.spacesStart(bytes, after: to) }
            if start < from { result.append(Stretch(range: start..<from)) }
            if from < to { result.append(Stretch(range: from..<to, id: token.id)) }
            start = to
        }
        if start < bytes.count { result.append(Stretch(range: start..<bytes.count)) }
        return result
    }

    private static func touchesWord(_ bytes: [UInt8], _ range: Range<Int>) -> Bool {
        if range.lowerBound > 0 {
            let scalar = UTF8Text.scalar(in: bytes, before: range.lowerBound).scalar
            if CharacterClass.isWord(scalar) { return true }
        }
        if range.upperBound < bytes.count {
            let scalar = UTF8Text.scalar(in: bytes, at: range.upperBound).scalar
            if CharacterClass.isWord(scalar) { return true }
        }
        return false
    }

    private static func spacesEnd(_ bytes: [UInt8], before end: Int) -> Int {
        var position = end
        while position > 0 {
            let (scalar, length) = UTF8Text.scalar(in: bytes, before: position)
            guard CharacterClass.isWhitespace(scalar) else { break }
            position -= length
        }
        return position
    }

    private static func spacesStart(_ bytes: [UInt8], after start: Int) -> Int {
        var position = start
        while position < bytes.count {
            let (scalar, length) = UTF8Text.scalar(in: bytes, at: position)
            guard CharacterClass.isWhitespace(scalar) else { break }
            position += length
        }
        return position
    }
}
