import Tokenization
import Transformer

/// One choice of a request while it is computed.
final class GenerationSequence {
    let request: GenerationRequest
    let index: Int
    /// Prompt and answer so far.
    private(set) var tokens: [Int32]
    /// KV pages from position 0 on; shared ones are retained.
    var pages: [Int32] = []
    /// Positions whose keys and values are in `pages`.
    var computed = 0
    /// Whole pages that the prefix cache knows, and its node of the last one (-1: none).
    var knownPages = 0
    var lastNode = -1
    /// Prompt tokens that the prefix cache had when the sequence first came in; nil before that.
    var cachedTokens: Int?
    private(set) var logprobs: [TokenLogprob] = []
    var promptLogprobs: [TokenLogprob] = []
    private(set) var text = ""
    private(set) var finish: FinishReason?

    private let stream: RandomStream
    private var decoder: StreamingDecoder
    private var scanner: StopScanner

    init(request: GenerationRequest, index: Int, tokenizer: Tokenizer) {
        self.request = request
        self.index = index
        tokens = request.prompt
        stream = RandomStream(seed: request.sampling.seed, choice: index)
        decoder = StreamingDecoder(tokenizer)
        scanner = StopScanner(stops: request.stops)
    }

    var promptCount: Int { request.prompt.count }
    var answer: ArraySlice<Int32> { tokens[promptCount...] }
    /// Tokens whose keys and values are missing.
    var pendingCount: Int { tokens.count - computed }
    /// The random number for the next token.
    var random: Double { stream.uniform(step: tokens.count - promptCount) }

    /// Takes a chosen token.
    ///
    /// - Parameter lastPosition: No token may stand at or beyond it.
    /// - Returns: The text that has become certain.
    func append(_ token: Int32, logprob: TokenLogprob?, lastPosition: Int) -> String {
        tokens.append(token)
        if let logprob { logprobs.append(logprob) }
        if request.endTokens.contains(token) {
            finish = .stop
            return close(scanner.push(decoder.finish()))
        }
        var piece = scanner.push(decoder.push(token))
        if scanner.found != nil {
            finish = .stop
        } else if answer.count >= request.maximumTokens || tokens.count >= lastPosition {
            finish = .length
            piece = close(piece + scanner.push(decoder.finish()))
            return piece
        }
        text += piece
        return piece
    }

    /// Ends without a token: cancelled, or nothing was asked for.
    func end(_ reason: FinishReason) -> String {
        finish = reason
        return close(scanner.push(decoder.finish()))
    }

    /// Gives out what is still held back after `piece`, unless a stop string was met.
    private func close(_ piece: String) -> String {
        let last = scanner.found == nil ? piece + scanner.finish() : piece
        if scanner.found != nil { finish = finish == .cancelled ? .cancelled : .stop }
        text += last
        return last
    }

    var choice: GenerationChoice {
        GenerationChoice(
            index: index, text: text, tokens: Array(answer), finishReason: finish ?? .cancelled,
            logprobs: logprobs)
    }
}
