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
        guard let anchor = anchorID else { return Array(token) }
        let before = decoded([anchor])
        let twice = decoded([anchor, anchor])
        let whole = decoded([anchor, id, anchor])
        let end = Array(twice.dropFirst(before.count))
        guard twice.starts(with: before), whole.starts(with: before),
            whole.count >= before.count + end.count, whole.suffix(end.count).elementsEqual(end)
        else { return Array(token) }
        return Array(whole[before.count..<(whole.count - end.count)])
    }

    private func decoded(_ ids: [Int32]) -> [UInt8] {
        Array(decode(ids, skipSpecialTokens: false).utf8)
    }
}
