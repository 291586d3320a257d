import Kernels
import ModelFiles

/// Logits after every token of given texts: what a model would have said at each place.
///
/// One owner uses it at a time. Memory: the KV pages of one sequence, and `chunk` rows of logits.
public final class SequenceScorer {
    public let decoder: Decoder
    private let pass: InferencePass
    private let chunk: Int
    private var pages: [Int32] = []
    private var tokens: [Int32] = []
    private var adapter: ServedAdapter?
    private var computed = 0..<0
    private var batch = RaggedBatch()

    /// - Parameters:
    ///   - maximumLength: The longest sequence, in tokens.
    ///   - chunk: Tokens computed at once; each takes 4·V bytes.
    public init(decoder: Decoder, compute: Compute, maximumLength: Int, chunk: Int = 128) throws {
        self.decoder = decoder
        self.chunk = min(chunk, max(1, maximumLength))
        pass = try InferencePass(
            decoder: decoder, compute: compute, maximumRows: self.chunk,
            maximumLogitRows: self.chunk, maximumPositions: max(1, maximumLength),
            pageCount: PageAllocator.pages(forPositions: max(1, maximumLength)))
    }

    /// Begins a sequence; `advance` computes it chunk by chunk.
    ///
    /// - Throws: `TransformerError.batch` for a sequence that is longer than foreseen.
    public func begin(_ tokens: [Int32], adapter: ServedAdapter?) throws {
        end()
        for _ in 0..<PageAllocator.pages(forPositions: tokens.count) {
            guard let page = pass.pages.allocate() else {
                throw TransformerError(
                    .batch, "a sequence of \(tokens.count) tokens is longer than foreseen")
            }
            pages.append(page)
        }
        (self.tokens, self.adapter) = (tokens, adapter)
    }

    /// Computes the next chunk.
    ///
    /// - Returns: The places of its tokens, whose logits `withLogits` gives until the next call; nil at the end.
    public func advance() throws -> Range<Int>? {
        let start = computed.upperBound
        guard start < tokens.count else {
            end()
            return nil
        }
        computed = start..<min(start + chunk, tokens.count)
        batch.removeAll()
        batch.append(
            tokens: tokens[computed], startPosition: start, sequenceLength: tokens.count,
            pages: pages, adapter: adapter, logits: .all)
        try pass.run(batch)
        return computed
    }

    /// The logits `[V]` that predict the token after a place of the chunk computed last.
    public func withLogits<Result>(
        _ place: Int, _ body: (UnsafeMutableBufferPointer<Float>) throws -> Result
    ) throws -> Result {
        guard computed.contains(place) else {
            throw TransformerError(.batch, "place \(place) is not in the chunk \(computed)")
        }
        return try pass.logits.withFloats(
            row: pass.logitRow(span: 0, row: place - computed.lowerBound), body)
    }

    private func end() {
        for page in pages { pass.pages.release(page) }
        (pages, tokens, adapter, computed) = ([], [], nil, 0..<0)
    }
}
