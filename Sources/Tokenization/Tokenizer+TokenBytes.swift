extension Tokenizer {
    /// The bytes that a token adds to a text in whose middle it stands: with its leading space, where it
    /// stands for one, and possibly only a part of a character. Empty for an id without a token.
    ///
    /// The bytes of all tokens of a text joined are the text, but for what the decoder takes from its two
    /// ends (the space before the first word of Llama 2).
    public func bytes(ofToken id: Int32) -> [UInt8] {
        guard let token = textBytes(of: id) else { return [] }
        for step in decoder.steps {
            switch step {
            case .byteLevel: return ByteAlphabet.bytes(of: token) ?? Array(token)
            case .byteFallback:
                if let byte = ByteFallback.byte(of: token) { return [byte] }
            default: break
            }
        }
        guard let anchor = anchoring else { return Array(token) }
        return anchor.middle(of: token, decoder) ?? Array(token)
    }
}

/// Two tokens of a single letter, which every decoder leaves alone, to put another one between.
struct TokenAnchor: Sendable {
    private let letter: [UInt8]
    /// The first letter as text, and what the second one adds.
    private let start: [UInt8]
    private let end: [UInt8]

    /// Nil if the vocabulary has no single letter, or the decoder does something to it.
    init?(_ vocabulary: Vocabulary, _ decoder: Decoder) {
        guard let letter = "aetoinsrx".utf8.first(where: { vocabulary.id(of: [$0][...]) != nil })
        else { return nil }
        self.letter = [letter]
        start = DecoderPipeline.text([[letter]], decoder)
        let twice = DecoderPipeline.text([[letter], [letter]], decoder)
        guard twice.starts(with: start) else { return nil }
        end = Array(twice.dropFirst(start.count))
    }

    /// What a token adds between the two; nil if the decoder changes what is around it.
    func middle(of token: ArraySlice<UInt8>, _ decoder: Decoder) -> [UInt8]? {
        let whole = DecoderPipeline.text([letter[...], token, letter[...]], decoder)
        guard whole.count >= start.count + end.count, whole.starts(with: start),
            whole.suffix(end.count).elementsEqual(end)
        else { return nil }
        return Array(whole[start.count..<(whole.count - end.count)])
    }
}
