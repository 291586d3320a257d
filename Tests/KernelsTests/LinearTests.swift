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

    @Test(arguments: ElementType.allCases) func productsOfOddSizes(type: ElementType) throws {
        var random = Random(1)
        for (m, n, k) in [(1, 1, 1), (3, 33, 7), (13, 48, 31), (2, 70, 65), (25, 96, 64)] {
            let x = try random.matrix(m, k, type)
            let w = try random.matrix(n, k, type)
            let bias = try random.matrix(1, n)
            let expected = Self.naive(x, w, alpha: 0.5, bias: bias)
            try eachCompute { compute in
                let packed = try compute.pack(w, type)
                for out in ElementType.allCases {
                    let y = try Matrix(rows: m, columns: n, out)
                    try compute.linear(x, packed, into: y, alpha: 0.5, bias: bias)
                    #expect(difference(y, expected) < tolerance(out))
                }
            }
        }
    }
}
