/// The rows of one forward pass: spans of tokens of many sequences, each with its own adapter.
///
/// Reuse one batch over steps: `removeAll` keeps its memory. A span is a piece of one sequence: a chunk
/// of a prompt, or the one token of a decode step. A sequence may appear once in a batch.
public struct RaggedBatch {
    /// Which rows of a span give logits.
    public enum Logits: Sendable, Equatable {
        case none
        /// The last token's only.
        case last
        /// Every token's.
        case all
    }

    struct Span {
        var tokenStart: Int
        var tokenCount: Int
        var startPosition: Int
        var sequenceLength: Int
        var pageStart: Int
        var pageCount: Int
        var adapter: Int
        var logits: Logits
    }

    private(set) var tokens: [Int32] = []
    private(set) var pages: [Int32] = []
    private(set) var spans: [Span] = []
    /// The adapters that spans name by index.
    public private(set) var adapters: [ServedAdapter] = []

    public init() {}

    public var spanCount: Int { spans.count }
    public var rowCount: Int { tokens.count }
    /// Rows of logits that the batch asks for.
    public private(set) var logitRowCount = 0

    public mutating func removeAll() {
        tokens.removeAll(keepingCapacity: true)
        pages.removeAll(keepingCapacity: true)
        spans.removeAll(keepingCapacity: true)
        adapters.removeAll(keepingCapacity: true)
        logitRowCount = 0
    }

    /// Adds a span and returns its index, by which its logits are found.
    ///
    /// - Parameters:
    ///   - tokens: The span's tokens, at least one.
    ///   - startPosition: Position of the first; all positions before it must be in the cache already.
    ///   - sequenceLength: Tokens that the sequence has now, those of later chunks included; nil: it ends here. All keys
    ///     in the cache must have been computed with a length that turns alike (`ModelConfig.rotationDiffers`).
    ///   - pages: The sequence's pages from position 0 on, covering the span's last position.
    ///   - adapter: The adapter that these rows go through; nil for the base model.
    ///   - logits: Which rows' logits are wanted.
    @discardableResult
    public mutating func append(
        tokens newTokens: some Collection<Int32>, startPosition: Int, sequenceLength: Int? = nil,
        pages newPages: some Collection<Int32>,
        adapter: ServedAdapter? = nil, logits: Logits
    ) -> Int {
        var index = -1
        if let adapter {
            if let known = adapters.firstIndex(where: { $0 === adapter }) {
                index = known
            } else {
                index = adapters.count
                adapters.append(adapter)
            }
        }
        spans.append(
            Span(
                tokenStart: tokens.count, tokenCount: newTokens.count, startPosition: startPosition,
                sequenceLength: sequenceLength ?? startPosition + newTokens.count,
                pageStart: pages.count, pageCount: newPages.count, adapter: index, logits: logits))
        tokens.append(contentsOf: newTokens)
        pages.append(contentsOf: newPages)
        switch logits {
        case .none: break
        case .last: logitRowCount += 1
        case .all: logitRowCount += newTokens.count
        }
        return spans.count - 1
    }
}
