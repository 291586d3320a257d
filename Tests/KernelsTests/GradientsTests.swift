import Testing

@testable import Kernels

@Suite struct GradientsTests {
    @Test(arguments: ElementType.allCases) func contractions(type: ElementType) throws {
        var random = Random(51)
        for (m, p, q) in [
            (1, 1, 1), (7, 3, 40), (129, 16, 70), (300, 100, 5), (64, 33, 33), (258, 8, 96),
        ] {
            let x = try random.matrix(m, p, type)
            let y = try random.matrix(m, q, type)
            let before = try random.matrix(p, q)
            let (xs, ys) = (x.doubles, y.doubles)
            let sums = (0..<p).map { i in
                (0..<q).map { j in 0.5 * (0..<m).reduce(0.0) { $0 + xs[$1][i] * ys[$1][j] } }
            }
            let added = zip(sums, before.doubles).map { zip($0, $1).map { $0 + $1 } }
            try eachCompute { compute in
                let g = try Matrix(rows: p, columns: q, values: before.values)
                try compute.contract(x, y, into: g, alpha: 0.5)
                #expect(difference(g, added) < 1e-5)
                try compute.contract(x, y, into: g, alpha: 0.5, accumulate: false)
                #expect(difference(g, sums) < 1e-5)
            }
        }
    }

    /// Three steps against the formula in double precision (torch.optim.AdamW, single tensor).
    @Test func adamW() throws {
        var random = Random(52)
        let start = try random.matrix(3, 37)
        let gradients = try (0..<3).map { _ in try random.matrix(3, 37) }
        var (w, m, v) = (start.doubles, start.doubles, start.doubles)
        for i in 0..<3 { for j in 0..<37 { (m[i][j], v[i][j]) = (0, 0) } }
        var powers = (1.0, 1.0)
        for gradient in gradients {
            powers = (powers.0 * 0.9, powers.1 * 0.99)
            for i in 0..<3 {
                for j in 0..<37 {
                    let g = Double(gradient[i, j]) * 0.5
                    w[i][j] *= 1 - 1e-2 * 0.1
                    m[i][j] = 0.9 * m[i][j] + 0.1 * g
                    v[i][j] = 0.99 * v[i][j] + 0.01 * g * g
                    let root = (v[i][j] / (1 - powers.1)).squareRoot() + 1e-6
                    w[i][j] -= 1e-2 * m[i][j] / (1 - powers.0) / root
                }
            }
        }
        try eachCompute { compute in
            let parameter = try Matrix(rows: 3, columns: 37, values: start.values)
            let moment1 = try Matrix(rows: 3, columns: 37)
            let moment2 = try Matrix(rows: 3, columns: 37)
            for (i, gradient) in gradients.enumerated() {
                try compute.adamW(
                    parameter: parameter, gradient: gradient, moment1: moment1, moment2: moment2,
                    step: i + 1, learningRate: 1e-2, gradientScale: 0.5, beta2: 0.99,
                    epsilon: 1e-6, weightDecay: 0.1)
            }
            #expect(difference(parameter, w) < 1e-6)
            #expect(difference(moment2, v) < 1e-5)
        }
    }

    @Test func squaredNorms() throws {
        var random = Random(53)
        for (m, n) in [(1, 1), (3, 37), (2, 9000), (5, 64)] {
            let x = try random.matrix(m, n)
            let expected = x.doubles.reduce(0) { $0 + $1.reduce(0) { $0 + $1 * $1 } }
            var results: Set<UInt64> = []
            try eachCompute { compute in
                let norm = try compute.squaredNorm(x)
                #expect(abs(norm - expected) < 1e-9 * expected)
                if compute.instructionSet != .reference { results.insert(norm.bitPattern) }
            }
            #expect(results.count == 1)
            x[m - 1, n - 1] = .nan
            let compute = try Compute(pool: ThreadPool(threads: 1))
            let norm = try compute.squaredNorm(x)
            #expect(norm.isNaN)
        }
    }

    @Test func floatProducts() throws {
        var random = Random(54)
        let products = try FloatProducts(threads: 2)
        #expect(!products.coreName.isEmpty)
        let a = try random.matrix(7, 33)
        let b = try random.matrix(7, 20)
        let c = try random.matrix(33, 20)
        let expected = (0..<33).map { i in
            (0..<20).map { j in
                2 * (0..<7).reduce(0.0) { $0 + Double(a[$1, i]) * Double(b[$1, j]) }
                    + Double(c[i, j])
            }
        }
        try products.multiply(a, transposed: true, b, into: c, alpha: 2, beta: 1)
        #expect(difference(c, expected) < 1e-5)
        #expect(throws: KernelError.self) { try products.multiply(a, b, into: c) }
    }
}
