import Glibc
import Testing

@testable import Kernels

/// Plain causal attention of one span; q, k, v as rows of doubles. Returns output and log-sum-exp `[head][row]`.
func naiveAttention(
    _ q: [[Double]], _ k: [[Double]], _ v: [[Double]], headDim d: Int, _ options: AttentionOptions
) -> (out: [[Double]], logSum: [[Double]]) {
    let heads = q[0].count / d
    let group = q[0].count / k[0].count
    var out = q.map { $0.map { _ in 0.0 } }
    var logSum = Array(repeating: Array(repeating: 0.0, count: q.count), count: heads)
    for h in 0..<heads {
        let g = h / group
        for i in q.indices {
            let first = max(0, i - (options.window ?? Int.max / 2) + 1)
            let scores = (first...i).map { j -> Double in
                var s = (0..<d).reduce(0.0) { $0 + q[i][h * d + $1] * k[j][g * d + $1] }
                s *= Double(options.scale)
                if options.softCap > 0 {
                    s = Double(options.softCap) * tanh(s / Double(options.softCap))
                }
                return s
            }
            let top = scores.max()!
            let sum = scores.reduce(0) { $0 + exp($1 - top) }
            logSum[h][i] = top + log(sum)
            for (j, s) in zip(first...i, scores) {
                for c in 0..<d { out[i][h * d + c] += exp(s - top) / sum * v[j][g * d + c] }
            }
        }
    }
    return (out, logSum)
}

@Suite struct AttentionTests {
    static let options = [
        AttentionOptions(scale: 0.3), AttentionOptions(scale: 0.3, window: 5),
        AttentionOptions(scale: 0.5, window: 66, softCap: 2),
    ]

    @Test(arguments: ElementType.allCases, 0..<3) func pagedAttention(
        type: ElementType, option: Int
    )
        throws
    {
        let options = Self.options[option]
        for (heads, kvHeads, d) in [(4, 2, 16), (3, 1, 64), (7, 7, 10), (2, 1, 80)] {
            var random = Random(31)
            let lengths = [1, 64, 131]
            let inputs = try lengths.map { n in
                (
                    try random.matrix(n, heads * d, type), try random.matrix(n, kvHeads * d, type),
                    try random.matrix(n, kvHeads * d, type)
                )
            }
            let expected = inputs.flatMap {
                naiveAttention(
                    $0.0.doubles, $0.1.doubles, $0.2.doubles, headDim: d, options
                ).out
            }
            try eachCompute { compute in
                let cache = try KVCache(layers: 2, heads: kvHeads, headDim: d, pages: 9, type)
                // Pages full of NaN, as a sequence that went wrong leaves them.
                cache.storage.base.initializeMemory(
                    as: UInt8.self, repeating: 0xff, count: cache.storage.byteCount)
                var rows = CacheRows()
                try rows.append(pages: [5], positions: 0..<1)
                try rows.append(pages: [0], positions: 0..<64)
                try rows.append(pages: [8, 2, 3], positions: 0..<131)
                func stacked(_ parts: [Matrix]) throws -> Matrix {
                    let all = try Matrix(rows: 196, columns: parts[0].columns, type)
                    var at = 0
                    for part in parts {
                        try compute.copy(part, to: all.rows(at..<at + part.rows))
                        at += part.rows
                    }
                    return all
                }
                try compute.append(
                    k: stacked(inputs.map(\.1)), v: stacked(inputs.map(\.2)), to: cache, layer: 1,
                    rows: rows)
                let out = try Matrix(rows: 196, columns: heads * d, type)
                try compute.attend(
                    q: stacked(inputs.map(\.0)), cache, layer: 1, rows: rows, options, into: out)
                #expect(difference(out, expected) < (type == .float32 ? 1e-5 : 1e-2))
            }
        }
    }

    @Test(arguments: ElementType.allCases, 0..<3) func spanAttention(type: ElementType, option: Int)
        throws
    {
        let options = Self.options[option]
        for (heads, kvHeads, d) in [(4, 2, 16), (3, 1, 10)] {
            var random = Random(32)
            let lengths = [5, 64, 1, 71]
            let m = lengths.reduce(0, +)
            let q = try random.matrix(m, heads * d, type)
            let k = try random.matrix(m, kvHeads * d, type)
            let v = try random.matrix(m, kvHeads * d, type)
            let dOut = try random.matrix(m, heads * d, type)
            let spans = try RowSpans(lengths: lengths)
            var expected: [[Double]] = []
            var logSums = Array(repeating: [Double](), count: heads)
            var slopes: [[[Double]]] = [[], [], []]
            for s in 0..<spans.count {
                let range = Int(spans.bounds[s])..<Int(spans.bounds[s + 1])
                let parts = [q, k, v].map { Array($0.doubles[range]) }
                let (out, logSum) = naiveAttention(
                    parts[0], parts[1], parts[2], headDim: d, options)
                expected += out
                for h in 0..<heads { logSums[h] += logSum[h] }
                let gradients = naiveAttentionGradients(
                    parts, Array(dOut.doubles[range]), headDim: d, options)
                for i in 0..<3 { slopes[i] += gradients[i] }
            }
            let (near, nearGradient) = type == .float32 ? (1e-5, 2e-5) : (1e-2, 2e-2)
            try eachCompute { compute in
                try leaveNaNInScratch(compute)
                let out = try Matrix(rows: m, columns: heads * d, type)
                let logSum = try Matrix(rows: heads, columns: m)
                try compute.spanAttention(
                    q: q, k: k, v: v, spans: spans, headDim: d, options, into: out, logSum: logSum)
                #expect(difference(out, expected) < near)
                #expect(difference(logSum, logSums) < 1e-5)
                for gradientType in ElementType.allCases {
                    let dQ = try Matrix(rows: m, columns: heads * d, gradientType)
                    let dK = try Matrix(rows: m, columns: kvHeads * d, gradientType)
                    let dV = try Matrix(rows: m, columns: kvHeads * d, gradientType)
                    try compute.spanAttentionBackward(
                        dOut: dOut, q: q, k: k, v: v, out: out, logSum: logSum, spans: spans,
                        headDim: d, options, dQ: dQ, dK: dK, dV: dV)
                    for (gradient, slope) in zip([dQ, dK, dV], slopes) {
                        #expect(
                            difference(gradient, slope)
                                < max(nearGradient, tolerance(gradientType)))
                    }
                }
            }
        }
    }

    /// The formula that the kernel is compared with, itself compared with central differences.
    @Test(arguments: 0..<3) func gradientFormulaEqualsCentralDifferences(option: Int) throws {
        var random = Random(33)
        let options = Self.options[option]
        let d = 4
        let inputs = [
            try random.matrix(9, 4 * d).doubles, try random.matrix(9, 2 * d).doubles,
            try random.matrix(9, 2 * d).doubles,
        ]
        let dOut = try random.matrix(9, 4 * d).doubles
        let gradients = naiveAttentionGradients(inputs, dOut, headDim: d, options)
        for i in 0..<3 {
            let slopes = centralDifferences(inputs[i]) { moved in
                var inputs = inputs
                inputs[i] = moved
                let out = naiveAttention(inputs[0], inputs[1], inputs[2], headDim: d, options).out
                return zip(out, dOut).reduce(0) {
                    $0 + zip($1.0, $1.1).reduce(0) { $0 + $1.0 * $1.1 }
                }
            }
            for (a, b) in zip(gradients[i], slopes) {
                for (x, y) in zip(a, b) { #expect(abs(x - y) < 1e-7) }
            }
        }
    }

    @Test func wrongPagesAndPositionsAreRefused() throws {
        let compute = try Compute(pool: ThreadPool(threads: 1))
        let cache = try KVCache(layers: 1, heads: 1, headDim: 8, pages: 2, .float32)
        var rows = CacheRows()
        #expect(throws: KernelError.self) { try rows.append(pages: [0], positions: 60..<65) }
        #expect(throws: KernelError.self) { try rows.append(pages: [0], positions: -1..<1) }
        try rows.append(pages: [2], positions: 0..<1)
        let one = try Matrix(rows: 1, columns: 8)
        #expect(throws: KernelError.self) {
            try compute.append(k: one, v: one, to: cache, layer: 0, rows: rows)
        }
        #expect(throws: KernelError.self) {
            try KVCache(layers: 1, heads: 1, headDim: 7, pages: 1, .float32)
        }
    }
}

/// dQ, dK, dV of `Σ out · dOut` for one span.
func naiveAttentionGradients(
    _ inputs: [[[Double]]], _ dOut: [[Double]], headDim d: Int, _ options: AttentionOptions
) -> [[[Double]]] {
    let (q, k, v) = (inputs[0], inputs[1], inputs[2])
    let (out, logSum) = naiveAttention(q, k, v, headDim: d, options)
    var gradients = inputs.map { $0.map { $0.map { _ in 0.0 } } }
    let group = q[0].count / k[0].count
    let (scale, cap) = (Double(options.scale), Double(options.softCap))
    for h in 0..<q[0].count / d {
        let g = h / group
        for i in q.indices {
            let total = (0..<d).reduce(0.0) { $0 + out[i][h * d + $1] * dOut[i][h * d + $1] }
            for j in max(0, i - (options.window ?? Int.max / 2) + 1)...i {
                var s = scale * (0..<d).reduce(0.0) { $0 + q[i][h * d + $1] * k[j][g * d + $1] }
                var slope = scale
                if cap > 0 {
                    let t = tanh(s / cap)
                    s = cap * t
                    slope *= 1 - t * t
                }
                let p = exp(s - logSum[h][i])
                let dp = (0..<d).reduce(0.0) { $0 + dOut[i][h * d + $1] * v[j][g * d + $1] }
                for c in 0..<d {
                    gradients[0][i][h * d + c] += slope * p * (dp - total) * k[j][g * d + c]
                    gradients[1][j][g * d + c] += slope * p * (dp - total) * q[i][h * d + c]
                    gradients[2][j][g * d + c] += p * dOut[i][h * d + c]
                }
            }
        }
    }
    return gradients
}

/// A loss of numbers that are not: what an operation finds in scratch must not matter to it.
func leaveNaNInScratch(_ compute: Compute) throws {
    let hidden = try Matrix(rows: 120, columns: 700)
    hidden.fill(.nan)
    let head = try compute.pack(hidden, .float32)
    let labels = [Int32](repeating: 1, count: 120)
    let dHidden = try Matrix(rows: 120, columns: 700)
    let losses = try Matrix.vector(120)
    try compute.headLoss(hidden, head: head, labels: labels, losses: losses, dHidden: dHidden)
}
