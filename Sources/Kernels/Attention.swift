import CKernels

/// Keys and values of many sequences, in pages of 64 positions.
///
/// A page holds 64 positions of one sequence for all layers and KV heads; which pages belong to a sequence is the
/// caller's to know. Inside a page a block is one (layer, head): keys `[d/2][64][2]` then values `[32][d][2]` in bf16,
/// `[d][64]` and `[64][d]` in float32. Memory is taken from the system when a page is first written.
public struct KVCache: Sendable {
    public let layers: Int
    public let heads: Int
    public let headDim: Int
    public let pages: Int
    public let elementType: ElementType
    let storage: MatrixStorage

    /// Positions in a page; attention is summed page by page, whatever the batch.
    public static let pagePositions = Int(CK_KV_BLOCK)

    /// Bytes of one page.
    public static func pageByteCount(
        layers: Int, heads: Int, headDim: Int, _ elementType: ElementType
    ) -> Int {
        layers * heads * ck_cache_block_bytes(headDim, elementType.code)
    }

    /// - Throws: `.shape` for sizes that are not positive, an odd or too large head dimension (above 512); `.memory`.
    public init(layers: Int, heads: Int, headDim: Int, pages: Int, _ elementType: ElementType)
        throws(KernelError)
    {
        try require(
            layers > 0 && layers < 1 << 16 && heads > 0 && heads < 1 << 16 && pages > 0
                && pages < 1 << 31,
            "a cache cannot have \(layers) layers, \(heads) heads, \(pages) pages")
        try require(
            headDim > 0 && headDim % 2 == 0 && headDim <= 512,
            "a head dimension of \(headDim) is odd or above 512")
        self.layers = layers
        self.heads = heads
        self.headDim = headDim
        self.pages = pages
        self.elementType = elementType
        let page = KVCache.pageByteCount(
            layers: layers, heads: heads, headDim: headDim, elementType)
        let (bytes, overflow) = page.multipliedReportingOverflow(by: pages)
        try require(!overflow, .memory, "a cache of \(pages) pages of \(page) bytes is too large")
        storage = try MatrixStorage(byteCount: bytes)
    }

    var c: ck_cache {
        ck_cache(
            data: storage.base, layers: layers, heads: heads, head_dim: headDim, pages: pages,
            type: elementType.code)
    }

    /// Copies one page's contents to another (copy on write of shared prefixes).
    public func copyPage(_ source: Int, to destination: Int) throws(KernelError) {
        try require(
            (0..<pages).contains(source) && (0..<pages).contains(destination), .range,
            "page \(source) or \(destination) is not below \(pages)")
        let bytes = KVCache.pageByteCount(
            layers: layers, heads: heads, headDim: headDim, elementType)
        (storage.base + destination * bytes)
            .copyMemory(from: storage.base + source * bytes, byteCount: bytes)
    }
}

/// Where the rows of a ragged batch stand: each row is one position of one sequence.
///
/// Rows of one sequence that follow each other with rising positions are computed together, so keep them adjacent.
public struct CacheRows: Sendable {
    /// Position of each row in its sequence, from 0.
    public private(set) var positions: [Int32] = []
    /// Index of each row's sequence among those appended.
    public private(set) var sequences: [Int32] = []
    private(set) var pages: [Int32] = []
    private(set) var pageOffsets: [Int32] = [0]

    public init() {}

    public var count: Int { positions.count }

    public mutating func removeAll() {
        positions.removeAll(keepingCapacity: true)
        sequences.removeAll(keepingCapacity: true)
        pages.removeAll(keepingCapacity: true)
        pageOffsets.removeAll(keepingCapacity: true)
        pageOffsets.append(0)
    }

    /// Adds a sequence and its rows in this batch.
    ///
    /// - Parameters:
    ///   - pages: The sequence's pages in order, enough for the last position.
    ///   - positions: The positions of its rows in this batch, in order. The keys before them are in the cache.
    public mutating func append(pages: some Collection<Int32>, positions: Range<Int>)
        throws(KernelError)
    {
        try require(
            positions.lowerBound >= 0
                && positions.upperBound <= pages.count * KVCache.pagePositions,
            .range, "positions \(positions) in \(pages.count) pages of \(KVCache.pagePositions)")
        for position in positions {
            self.positions.append(Int32(position))
            sequences.append(Int32(pageOffsets.count - 1))
        }
        self.pages.append(contentsOf: pages)
        pageOffsets.append(Int32(self.pages.count))
    }
}

/// How scores of an attention become weights.
public struct AttentionOptions: Sendable {
    /// Multiplies `q · k`; usually `1 / sqrt(headDim)`.
    public var scale: Float
    /// A position sees itself and `window - 1` positions before it; nil: all before it.
    public var window: Int?
    /// `score = softCap · tanh(score / softCap)`; 0: none.
    public var softCap: Float

    public init(scale: Float, window: Int? = nil, softCap: Float = 0) {
        self.scale = scale
        self.window = window
        self.softCap = softCap
    }

    func check() throws(KernelError) {
        try require(window.map { $0 > 0 } ?? true, .range, "a window of \(window ?? 0) positions")
        try require(softCap >= 0, .range, "a soft cap of \(softCap)")
    }
}

extension Compute {
    /// Writes keys and values of a batch into the cache.
    ///
    /// - Parameters:
    ///   - k: `[rows.count, heads · headDim]`, rotated, either element type.
    ///   - v: `[rows.count, heads · headDim]`, either element type.
    public func append(
        k: Matrix, v: Matrix, to cache: KVCache, layer: Int, rows: CacheRows
    ) throws(KernelError) {
        try k.expect(rows.count, cache.heads * cache.headDim, "k")
        try v.expect(rows.count, cache.heads * cache.headDim, "v")
        try check(cache, layer, rows)
        var arguments = ck_append_args()
        arguments.cache = cache.c
        arguments.layer = layer
        arguments.rows = rows.count
        arguments.k = k.c
        arguments.v = v.c
        with(rows) { positions, sequences, pages, offsets in
            arguments.positions = positions
            arguments.sequences = sequences
            arguments.pages = pages
            arguments.page_offsets = offsets
            run(.append, kernels.pointee.append, &arguments, elements: k.rows * k.columns)
        }
    }

    /// Causal attention of a batch's rows over the cache, their own keys included (`append` comes first).
    ///
    /// Query heads share KV heads in order: head h reads KV head `h · kvHeads / queryHeads`. Sums run over absolute
    /// blocks of 64 positions, so a row's bits do not depend on how its prompt was cut into chunks.
    ///
    /// - Parameters:
    ///   - q: `[rows.count, queryHeads · headDim]`, rotated, element type of the cache.
    ///   - out: Like q; must not be q.
    public func attend(
        q: Matrix, _ cache: KVCache, layer: Int, rows: CacheRows, _ options: AttentionOptions,
        into out: Matrix
    ) throws(KernelError) {
        try require(
            q.columns % (cache.headDim * cache.heads) == 0 && q.columns > 0,
            "\(q.columns) query columns for \(cache.heads) KV heads of \(cache.headDim)")
        try q.expect(rows.count, q.columns, "q")
        try q.expect(cache.elementType, "q")
        try out.expect(rows.count, q.columns, "out")
        try out.expect(cache.elementType, "out")
        try options.check()
        try check(cache, layer, rows)
        var arguments = ck_attend_args()
        arguments.cache = cache.c
        arguments.layer = layer
        arguments.rows = rows.count
        arguments.query_heads = q.columns / cache.headDim
        arguments.q = q.c
        arguments.out = out.c
        arguments.scale = options.scale
        arguments.soft_cap = options.softCap
        arguments.window = options.window ?? 0
        with(rows) { positions, sequences, pages, offsets in
            arguments.positions = positions
            arguments.sequences = sequences
            arguments.pages = pages
            arguments.page_offsets = offsets
            run(
                .attend, kernels.pointee.attend, &arguments,
                flops: 4 * q.columns * rows.positions.reduce(0) { $0 + Int($1) + 1 })
        }
    }

    private func check(_ cache: KVCache, _ layer: Int, _ rows: CacheRows) throws(KernelError) {
        try require(
            (0..<cache.layers).contains(layer), .range, "layer \(layer) of \(cache.layers)")
        for page in rows.pages {
            try require(
                page >= 0 && Int(page) < cache.pages, .range,
                "page \(page) is not in a cache of \(cache.pages)")
        }
    }

    private func with(
        _ rows: CacheRows,
        _ body: (
            UnsafePointer<Int32>?, UnsafePointer<Int32>?, UnsafePointer<Int32>?,
            UnsafePointer<Int32>?
        ) -> Void
    ) {
        if rows.count == 0 { return }
        rows.positions.withUnsafeBufferPointer { positions in
            rows.sequences.withUnsafeBufferPointer { sequences in
                rows.pages.withUnsafeBufferPointer { pages in
                    rows.pageOffsets.withUnsafeBufferPointer { offsets in
                        body(
                            positions.baseAddress, sequences.baseAddress, pages.baseAddress,
                            offsets.baseAddress)
                    }
                }
            }
        }
    }
}

/// Documents packed one after the other into the rows of a training batch.
public struct RowSpans: Sendable {
    /// First row of each span, and the end of the last.
    public let bounds: [Int32]

    /// Spans of the given lengths, from row 0 on. Empty ones are left out.
    public init(lengths: [Int]) throws(KernelError) {
        var bounds: [Int32] = [0]
        for length in lengths where length != 0 {
            let (end, overflow) = Int(bounds[bounds.count - 1]).addingReportingOverflow(length)
            try require(
                length > 0 && !overflow && end < Int(Int32.max), "a span of \(length) rows")
            bounds.append(Int32(end))
        }
        self.bounds = bounds
    }

    public var rows: Int { Int(bounds[bounds.count - 1]) }
    public var count: Int { bounds.count - 1 }

    /// Pairs of a row and one that it sees.
    var pairs: Int {
        (0..<count).reduce(0) { sum, span in
            let length = Int(bounds[span + 1] - bounds[span])
            return sum + length * (length + 1) / 2
        }
    }

    /// Each row's position in its span: 0, 1, 2, … from every span's start.
    public var positions: [Int32] {
        (0..<count).flatMap { Array(0..<bounds[$0 + 1] - bounds[$0]) }
    }
}

extension Compute {
    /// Causal attention inside spans, for training.
    ///
    /// - Parameters:
    ///   - q: `[M, queryHeads · headDim]`, rotated; element type of k and v.
    ///   - k: `[M, kvHeads · headDim]`, rotated.
    ///   - v: `[M, kvHeads · headDim]`.
    ///   - spans: Cover the M rows.
    ///   - headDim: Even, at most 512.
    ///   - out: `[M, queryHeads · headDim]`, element type of q.
    ///   - logSum: `[queryHeads, M]` float32, gets each row's log-sum-exp of its scores (natural logarithm).
    public func spanAttention(
        q: Matrix, k: Matrix, v: Matrix, spans: RowSpans, headDim: Int,
        _ options: AttentionOptions, into out: Matrix, logSum: Matrix
    ) throws(KernelError) {
        var arguments = try spanArguments(q, k, v, spans, headDim, options, out, logSum)
        arguments.arena = try threadScratch(ck_span_attention_scratch_bytes(&arguments, 0))
        spans.bounds.withUnsafeBufferPointer {
            arguments.spans = $0.baseAddress
            run(
                .spanAttention, kernels.pointee.span_attention, &arguments,
                flops: 4 * q.columns * spans.pairs)
        }
    }

    /// Gradients of `spanAttention`.
    ///
    /// - Parameters:
    ///   - dOut: `[M, queryHeads · headDim]`, element type of q.
    ///   - out: As the forward pass left it, like `logSum`.
    ///   - dQ: Shape of q, either element type; gradient of the rotated q. Must not be q.
    ///   - dK: Shape of k, either element type. Must not be k.
    ///   - dV: Shape of v, either element type. Must not be v.
    public func spanAttentionBackward(
        dOut: Matrix, q: Matrix, k: Matrix, v: Matrix, out: Matrix, logSum: Matrix,
        spans: RowSpans, headDim: Int, _ options: AttentionOptions, dQ: Matrix, dK: Matrix,
        dV: Matrix
    ) throws(KernelError) {
        var arguments = try spanArguments(q, k, v, spans, headDim, options, out, logSum)
        try dOut.expect(q.rows, q.columns, "dOut")
        try dOut.expect(q.elementType, "dOut")
        try dQ.expect(q.rows, q.columns, "dQ")
        try dK.expect(k.rows, k.columns, "dK")
        try dV.expect(v.rows, v.columns, "dV")
        arguments.dout = dOut.c
        arguments.dq = dQ.c
        arguments.dk = dK.c
        arguments.dv = dV.c
        arguments.arena = try threadScratch(ck_span_attention_scratch_bytes(&arguments, 1))
        spans.bounds.withUnsafeBufferPointer {
            arguments.spans = $0.baseAddress
            run(
                .spanAttentionBackward, kernels.pointee.span_attention_backward, &arguments,
                flops: 10 * q.columns * spans.pairs)
        }
    }

    private func spanArguments(
        _ q: Matrix, _ k: Matrix, _ v: Matrix, _ spans: RowSpans, _ headDim: Int,
        _ options: AttentionOptions, _ out: Matrix, _ logSum: Matrix
    ) throws(KernelError) -> ck_span_attention_args {
        try require(
            headDim > 0 && headDim % 2 == 0 && headDim <= 512,
            "a head dimension of \(headDim) is odd or above 512")
        try require(
            k.columns > 0 && k.columns % headDim == 0 && q.columns % k.columns == 0
                && q.columns > 0,
            "\(q.columns) query and \(k.columns) key columns in heads of \(headDim)")
        try q.expect(spans.rows, q.columns, "q")
        try k.expect(spans.rows, k.columns, "k")
        try v.expect(spans.rows, k.columns, "v")
        try k.expect(q.elementType, "k")
        try v.expect(q.elementType, "v")
        try out.expect(spans.rows, q.columns, "out")
        try out.expect(q.elementType, "out")
        try logSum.expect(q.columns / headDim, spans.rows, "logSum")
        try logSum.expect(.float32, "logSum")
        try options.check()
        var arguments = ck_span_attention_args()
        arguments.q = q.c
        arguments.k = k.c
        arguments.v = v.c
        arguments.out = out.c
        arguments.rows = q.rows
        arguments.query_heads = q.columns / headDim
        arguments.kv_heads = k.columns / headDim
        arguments.head_dim = headDim
        arguments.span_count = spans.count
        arguments.scale = options.scale
        arguments.soft_cap = options.softCap
        arguments.window = options.window ?? 0
        arguments.log_sum = logSum.base.assumingMemoryBound(to: Float.self)
        arguments.log_sum_stride = logSum.stride
        // What the forward pass needs of the longest span is known from the bounds.
        arguments.longest_span =
            zip(spans.bounds.dropFirst(), spans.bounds)
            .map { Int($0 - $1) }.max() ?? 0
        return arguments
    }
}
