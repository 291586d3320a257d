import Glibc
import Testing

@testable import Kernels

@Suite struct LinearTests {
    /// `alpha (x Wᵀ + Σ u upᵀ) + bias` in double precision.
    static func naive(
        _ x: Matrix, _ w: Matrix, alpha: Double = 1, bias: Matrix? = nil,
        terms: [(Range<Int>, Int, Matrix, Matrix)] = []
    ) -> [[Double]] {
        let (x, w) = (x.doubles, w.doubles)
        return x.indices.map { i in
            w.indices.map { n in
                var sum = zip(x[i], w[n]).reduce(0) { $0 + $1.0 * $1.1 }
                for (rows, first, u, up) in terms
                where rows.contains(i) && n >= first && n < first + up.rows {
                    for r in 0..<up.columns {
                        sum += Double(u[i - rows.lowerBound, r]) * Double(up[n - first, r])
                    }
                }
                return alpha * sum + Double(bias?[0, n] ?? 0)
            }
        }
    }

    static let sizes = [
        (1, 1, 1), (3, 33, 7), (13, 48, 31), (2, 70, 65), (25, 96, 64), (61, 130, 34),
        (140, 64, 50),
    ]

    @Test(arguments: ElementType.allCases) func productsOfOddSizes(type: ElementType) throws {
        var random = Random(1)
        for (m, n, k) in Self.sizes {
            let x = try random.matrix(m, k, type)
            let w = try random.matrix(n, k, type)
            let bias = try random.matrix(1, n)
            let before = try random.matrix(m, n)
            let expected = Self.naive(x, w, alpha: 0.5, bias: bias)
            let added = zip(expected, before.doubles).map { zip($0, $1).map { $0 + $1 } }
            try eachCompute { compute in
                let packed = try compute.pack(w, type)
                for i in 0..<n { for j in 0..<k { #expect(packed[i, j] == w[i, j]) } }
                for out in ElementType.allCases {
                    let y = try Matrix(rows: m, columns: n, out)
                    try compute.linear(x, packed, into: y, alpha: 0.5, bias: bias)
                    #expect(difference(y, expected) < tolerance(out))
                }
                let y = try Matrix(rows: m, columns: n, values: before.values)
                try compute.linear(
                    x, packed, into: y, alpha: 0.5, bias: bias, accumulate: true)
                #expect(difference(y, added) < tolerance(.float32))
            }
        }
    }

    /// Three adapters of different ranks on parts of the rows, two of them on parts of the columns.
    @Test(arguments: ElementType.allCases) func lowRankTermsOfMixedRows(type: ElementType) throws {
        var random = Random(2)
        let (m, k) = (29, 42)
        for n in [96, 112] {
            let x = try random.matrix(m, k, type)
            let w = try random.matrix(n, k, type)
            let parts: [(Range<Int>, Int, Int, Int)] = [
                (0..<5, 0, 64, 3), (5..<29, 0, 64, 16), (2..<20, 64, n - 64, 8),
                (20..<21, 64, n - 64, 1),
            ]
            // The u of all terms lie in one matrix, with NaN beside them: a term reads its own columns only.
            let wide = try Matrix(rows: m, columns: 40, type)
            wide.fill(.nan)
            var terms: [(Range<Int>, Int, Matrix, Matrix)] = []
            for (rows, first, outputs, rank) in parts {
                let u = try wide.rows(rows).columns(rank..<2 * rank)
                for i in 0..<rows.count { for r in 0..<rank { u[i, r] = random.next() } }
                terms.append((rows, first, u, try random.matrix(outputs, rank, type)))
                // Overlapping columns of other terms are written by the next; rows of one range are disjoint.
            }
            let copies = try terms.map { term in
                let u = try Matrix(
                    rows: term.2.rows, columns: term.2.columns, type, values: term.2.values)
                return (term.0, term.1, u, term.3)
            }
            let expected = Self.naive(x, w, terms: copies)
            try eachCompute { compute in
                let packed = try compute.pack(w, type)
                let list = try copies.map {
                    LowRankTerm(
                        rows: $0.0, firstColumn: $0.1, u: $0.2, up: try compute.pack($0.3, type))
                }
                let y = try Matrix(rows: m, columns: n)
                try compute.linear(x, packed, into: y, terms: list)
                #expect(difference(y, expected) < tolerance(.float32))
            }
        }
    }

    /// What lies right of a column view must not reach the product, not even as 0 · NaN.
    @Test(arguments: ElementType.allCases) func neighboursOfAnOddViewDoNotLeak(type: ElementType)
        throws
    {
        var random = Random(3)
        let wide = try Matrix(rows: 14, columns: 30, type)
        wide.fill(.nan)
        let x = try wide.columns(4..<11)
        for i in 0..<14 { for j in 0..<7 { x[i, j] = random.next() } }
        let w = try random.matrix(40, 7, type)
        let expected = Self.naive(x, w)
        try eachCompute { compute in
            let y = try Matrix(rows: 14, columns: 40)
            try compute.linear(x, compute.pack(w, type), into: y)
            #expect(difference(y, expected) < tolerance(.float32))
        }
    }

    @Test(arguments: ElementType.allCases, Activation.allCases)
    func gatedProducts(type: ElementType, activation: Activation) throws {
        var random = Random(4)
        let (m, f, k) = (27, 64, 33)
        let x = try random.matrix(m, k, type)
        let gate = try random.matrix(f, k, type)
        let up = try random.matrix(f, k, type)
        let u = try random.matrix(m, 5, type)
        let b = try random.matrix(f, 5, type)
        let bias = try random.matrix(1, 2 * f)
        let gates = Self.naive(x, gate, bias: try bias.columns(0..<f))
        let ups = Self.naive(
            x, up, bias: try bias.columns(f..<2 * f), terms: [(0..<m, 0, u, b)])
        let bare = Self.naive(x, gate)
        let expected = zip(gates, ups).map { gate, up in
            zip(gate, up).map { naiveActivation(activation, $0) * $1 }
        }
        try eachCompute { compute in
            let layout = try PackedMatrix.Layout(rows: 2 * f, columns: k, type, paired: true)
            let packed = try compute.pack([gate, up], layout)
            let terms = [
                LowRankTerm(rows: 0..<m, firstColumn: f, u: u, up: try compute.pack(b, type))
            ]
            for out in ElementType.allCases {
                let gated = try Matrix(rows: m, columns: f, out)
                let saved = try Matrix(rows: m, columns: 2 * f, out)
                try compute.linearGated(x, packed, activation, into: gated, saving: saved)
                #expect(difference(try saved.columns(0..<f), bare) < tolerance(out))
                try compute.linearGated(
                    x, packed, activation, into: gated, bias: bias, saving: saved, terms: terms)
                #expect(difference(gated, expected) < tolerance(out))
                #expect(difference(try saved.columns(0..<f), gates) < tolerance(out))
                #expect(difference(try saved.columns(f..<2 * f), ups) < tolerance(out))
            }
        }
    }

    @Test(arguments: ElementType.allCases) func inputGradients(type: ElementType) throws {
        var random = Random(5)
        for (m, n, k) in Self.sizes + [(15, 128, 96), (30, 64, 200)] {
            let paired = n % 64 == 0
            let dY = try random.matrix(m, n, type)
            let w = try random.matrix(n, k, type)
            let u = try random.matrix(m, 3, type)
            let aT = try random.matrix(k, 3, type)
            let wT = try Matrix(rows: k, columns: n, type)
            for i in 0..<n { for j in 0..<k { wT[j, i] = w[i, j] } }
            let expected = Self.naive(dY, wT, alpha: 2, terms: [(0..<m, 0, u, aT)])
            try eachCompute { compute in
                let layout = try PackedMatrix.Layout(rows: n, columns: k, type, paired: paired)
                let packed = try compute.pack([w], layout)
                let dX = try Matrix(rows: m, columns: k)
                try compute.linearBackwardInput(
                    dY, packed, into: dX, alpha: 2,
                    terms: [LowRankTerm(rows: 0..<m, u: u, up: compute.pack(aT, type))])
                #expect(difference(dX, expected) < tolerance(.float32))
            }
        }
    }

    @Test(arguments: ElementType.allCases) func unpackingGivesTheRowsBack(type: ElementType) throws
    {
        var random = Random(6)
        let w = try random.matrix(128, 21, type)
        try eachCompute { compute in
            for paired in [false, true] {
                let packed = try compute.pack(
                    [w], PackedMatrix.Layout(rows: 128, columns: 21, type, paired: paired))
                let out = try Matrix(rows: 128, columns: 21, type)
                try compute.unpack(packed, into: out)
                #expect(out.bits == w.bits)
            }
        }
    }

    @Test func wrongShapesAreRefused() throws {
        let compute = try Compute(pool: ThreadPool(threads: 1))
        let x = try Matrix(rows: 2, columns: 8, .bfloat16)
        let w = try PackedMatrix(PackedMatrix.Layout(rows: 64, columns: 8))
        let y = try Matrix(rows: 2, columns: 64)
        #expect(throws: KernelError.self) {
            try compute.linear(x, w, into: Matrix(rows: 2, columns: 63))
        }
        #expect(throws: KernelError.self) {
            try compute.linear(Matrix(rows: 2, columns: 8), w, into: y)
        }
        #expect(throws: KernelError.self) {
            try compute.linear(x.columns(0..<7), w, into: y)
        }
        let up = try PackedMatrix(PackedMatrix.Layout(rows: 32, columns: 4))
        for (rows, first) in [(0..<3, 0), (0..<2, 16), (0..<2, 64)] {
            #expect(throws: KernelError.self) {
                let u = try Matrix(rows: rows.count, columns: 4, .bfloat16)
                try compute.linear(
                    x, w, into: y,
                    terms: [LowRankTerm(rows: rows, firstColumn: first, u: u, up: up)])
            }
        }
        #expect(throws: KernelError.self) {
            try PackedMatrix.Layout(rows: 96, columns: 4, paired: true)
        }
    }
}

func naiveActivation(_ activation: Activation, _ g: Double) -> Double {
    switch activation {
    case .silu: g / (1 + exp(-g))
    case .geluTanh: 0.5 * g * (1 + tanh((2 / Double.pi).squareRoot() * (g + 0.044715 * g * g * g)))
    case .gelu: 0.5 * g * (1 + erf(g / 2.0.squareRoot()))
    }
}
