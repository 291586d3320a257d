import Testing

@testable import Kernels

/// A row's bits do not depend on the rows beside it nor on threads.
@Suite struct InvarianceTests {
    static func computes() throws -> [[Compute]] {
        try Compute.availableInstructionSets.map { set in
            try [1, 2, 3].map {
                try Compute(pool: ThreadPool(threads: $0), instructionSet: set)
            }
        }
    }

    @Test(arguments: ElementType.allCases) func linearRowsKeepTheirBits(type: ElementType) throws {
        var random = Random(11)
        let (n, k, r) = (112, 70, 5)
        let x = try random.matrix(300, k, type)
        let w = try random.matrix(n, k, type)
        let u = try random.matrix(300, r, type)
        let b = try random.matrix(n, r, type)
        for computes in try Self.computes() {
            let packed = try computes[0].pack(w, type)
            let up = try computes[0].pack(b, type)
            var reference: [UInt32] = []
            for compute in computes {
                for m in Array(1...64) + [65, 97, 132, 133, 300] {
                    let y = try Matrix(rows: m, columns: n)
                    try compute.linear(
                        x.rows(0..<m), packed, into: y,
                        terms: [LowRankTerm(rows: 0..<m, u: u.rows(0..<m), up: up)])
                    if m == 1 && reference.isEmpty {
                        let all = try Matrix(rows: 300, columns: n)
                        for i in 0..<300 {
                            try compute.linear(
                                x.rows(i..<i + 1), packed, into: all.rows(i..<i + 1),
                                terms: [
                                    LowRankTerm(rows: 0..<1, u: u.rows(i..<i + 1), up: up)
                                ])
                        }
                        reference = all.bits
                    }
                    #expect(
                        y.bits == Array(reference.prefix(m * n)), "\(compute.instructionSet) \(m)")
                }
            }
        }
    }

    /// A prompt in one piece, in chunks and token by token, alone and beside others: equal bits.
    @Test(arguments: ElementType.allCases) func attentionRowsKeepTheirBits(type: ElementType) throws
    {
        var random = Random(12)
        let (heads, kvHeads, d, length) = (6, 2, 18, 150)
        let q = try random.matrix(length, heads * d, type)
        let k = try random.matrix(length, kvHeads * d, type)
        let v = try random.matrix(length, kvHeads * d, type)
        for window in [nil, 70] {
            let options = AttentionOptions(scale: 0.25, window: window)
            for computes in try Self.computes() {
                var reference: [UInt32] = []
                for compute in computes {
                    for chunk in [length, 1, 7, 64, 100] {
                        let cache = try KVCache(
                            layers: 2, heads: kvHeads, headDim: d, pages: 8, type)
                        let out = try Matrix(rows: length, columns: heads * d, type)
                        for start in stride(from: 0, to: length, by: chunk) {
                            let end = min(length, start + chunk)
                            // Another sequence goes before it in the batch.
                            var rows = CacheRows()
                            try rows.append(pages: [7], positions: 3..<5)
                            try rows.append(pages: [4, 1, 6], positions: start..<end)
                            func batch(_ m: Matrix) throws -> Matrix {
                                let both = try Matrix(
                                    rows: rows.count, columns: m.columns, type)
                                try compute.copy(m.rows(0..<2), to: both.rows(0..<2))
                                try compute.copy(
                                    m.rows(start..<end), to: both.rows(2..<rows.count))
                                return both
                            }
                            try compute.append(
                                k: batch(k), v: batch(v), to: cache, layer: 1, rows: rows)
                            let both = try Matrix(rows: rows.count, columns: out.columns, type)
                            try compute.attend(
                                q: batch(q), cache, layer: 1, rows: rows, options, into: both)
                            try compute.copy(
                                both.rows(2..<rows.count), to: out.rows(start..<end))
                        }
                        if reference.isEmpty { reference = out.bits }
                        #expect(out.bits == reference, "\(compute.instructionSet) \(chunk)")
                    }
                }
            }
        }
    }

    @Test(arguments: ElementType.allCases) func trainingKeepsItsBits(type: ElementType) throws {
        var random = Random(13)
        let spans = try RowSpans(lengths: [70, 3, 130])
        let (heads, kvHeads, d, m) = (4, 2, 16, 203)
        let q = try random.matrix(m, heads * d, type)
        let k = try random.matrix(m, kvHeads * d, type)
        let v = try random.matrix(m, kvHeads * d, type)
        let dOut = try random.matrix(m, heads * d, type)
        let head = try random.matrix(900, 48, type)
        let hidden = try random.matrix(m, 48, type)
        let labels = (0..<m).map { _ in Int32(random.index(below: 900)) }
        for computes in try Self.computes() {
            var reference: [[UInt32]] = []
            for compute in computes {
                let out = try Matrix(rows: m, columns: heads * d, type)
                let logSum = try Matrix(rows: heads, columns: m)
                let dQ = try Matrix(rows: m, columns: heads * d)
                let dK = try Matrix(rows: m, columns: kvHeads * d)
                let dV = try Matrix(rows: m, columns: kvHeads * d)
                let options = AttentionOptions(scale: 0.25)
                try compute.spanAttention(
                    q: q, k: k, v: v, spans: spans, headDim: d, options, into: out, logSum: logSum)
                try compute.spanAttentionBackward(
                    dOut: dOut, q: q, k: k, v: v, out: out, logSum: logSum, spans: spans,
                    headDim: d, options, dQ: dQ, dK: dK, dV: dV)
                let losses = try Matrix.vector(m)
                let dHidden = try Matrix(rows: m, columns: 48)
                try compute.headLoss(
                    hidden, head: compute.pack(head, type), labels: labels, losses: losses,
                    dHidden: dHidden)
                let g = try Matrix(rows: 48, columns: heads * d)
                try compute.contract(hidden, q, into: g)
                let results = [out, logSum, dQ, dK, dV, losses, dHidden, g].map(\.bits)
                if reference.isEmpty { reference = results }
                #expect(results == reference, "\(compute.instructionSet)")
            }
        }
    }
}
