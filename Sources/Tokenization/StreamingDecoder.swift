/// Turns ids into text one by one, giving out only what no later id can change: never half a
/// character, and with byte fallback no byte of a run before the run has ended.
///
/// All pieces and the final flush joined equal `Tokenizer.decode` of the same ids.
public struct StreamingDecoder {
    private let tokenizer: Tokenizer
    private let skipSpecialTokens: Bool
    private var pipeline: DecoderPipeline

    /// - Parameter skipSpecialTokens: leave special tokens out of the text.
    public init(_ tokenizer: Tokenizer, skipSpecialTokens: Bool = true) {
        self.tokenizer = tokenizer
        self.skipSpecialTokens = skipSpecialTokens
        pipeline = DecoderPipeline(tokenizer.decoder)
    }

    /// The text that has become certain with this id; ids without a token are passed over.
    public mutating func push(_ id: Int32) -> String {
        String(decoding: pushBytes(id), as: UTF8.self)
    }

    /// The text that is still held back; the decoder is spent afterwards.
    public mutating func finish() -> String {
        String(decoding: finishBytes(), as: UTF8.self)
    }

    /// `push` as UTF-8.
    public mutating func pushBytes(_ id: Int32) -> [UInt8] {
        guard let token = tokenizer.textBytes(of: id) else { return [] }
        if skipSpecialTokens, tokenizer.addedTokens.isSpecial(content: token) { return [] }
        return pipeline.push(token)
    }

    /// `finish` as UTF-8.
    public mutating func finishBytes() -> [UInt8] { pipeline.finish() }
}

/// The steps of a decoder, one after the other, fed token by token.
struct DecoderPipeline {
    private var stages: [DecoderStage] = []

    init(_ decoder: Decoder) {
        for step in decoder.steps {
            let fragments = stages.last?.givesFragments ?? false
            stages.append(DecoderStage(step, takesFragments: fragments))
        }
    }

    /// The text of whole tokens.
    static func text(_ tokens: [ArraySlice<UInt8>], _ decoder: Decoder) -> [UInt8] {
        var pipeline = DecoderPipeline(decoder)
        var result: [UInt8] = []
        for token in tokens { pipeline.feed(token, into: 0, &result) }
        return result + pipeline.finish()
    }

    mutating func push(_ token: ArraySlice<UInt8>) -> [UInt8] {
        var result: [UInt8] = []
        feed(token, into: 0, &result)
        return result
    }

    mutating func finish() -> [UInt8] {
        var result: [UInt8] = []
        for index in stages.indices {
            var rest: [[UInt8]] = []
            stages[index].finish { rest.append(Array($0)) }
            for token in rest { feed(token[...], into: index + 1, &result) }
        }
        return result
    }

    private mutating func feed(
        _ token: ArraySlice<UInt8>, into index: Int, _ result: inout [UInt8]
    ) {
        guard index < stages.count else {
            result.append(contentsOf: token)
            return
        }
        if index == stages.count - 1 {
            stages[index].push(token) { result.append(contentsOf: $0) }
            return
        }
        var tokens: [ArraySlice<UInt8>] = []
        stages[index].push(token) { tokens.append($0) }
        for token in tokens { feed(token, into: index + 1, &result) }
    }
}
