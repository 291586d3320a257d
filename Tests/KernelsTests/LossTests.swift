import Glibc
import Testing

@testable import Kernels

@Suite struct LossTests {
    static func naive(
        _ hidden: [[Double]], _ head: [[Double]], _ labels: [Int32], scale: Double, cap: Double
    ) -> [Double] {
        zip(hidden, labels).map { h, label in
            guard label >= 0 else { return 0 }
            let logits = head.map { w -> Double in
                let z = scale * zip(h, w).reduce(0) { $0 + $1.0 * $1.1 }
                return cap > 0 ? cap * tanh(z / cap) : z
            }
            let top = logits.max()!
            return top + log(logits.reduce(0) { $0 + exp($1 - top) }) - logits[Int(label)]
        }
    }

    static func naiveGradient(
        _ h: [Double], _ head: [[Double]], _ label: Int, scale: Double, cap: Double
    ) -> [Double] {
        let raw = head.map { w in scale * zip(h, w).reduce(0) { $0 + $1.0 * $1.1 } }
        let logits = raw.map { cap > 0 ? cap * tanh($0 / cap) : $0 }
        let top = logits.max()!
        let sum = logits.reduce(0) { $0 + exp($1 - top) }
        var result = h.map { _ in 0.0 }
        for (n, w) in head.enumerated() {
            var d = exp(logits[n] - top) / sum - (n == label ? 1 : 0)
            d *= scale * (cap > 0 ? 1 - pow(logits[n] / cap, 2) : 1)
            for k in h.indices { result[k] += d * w[k] }
        }
        return result
    }

    /// Vocabularies below, at and above a chunk; logits small and so large that references must be raised.
    @Test(arguments: ElementType.allCases, [(33, 0.2), (768, 1), (1000, 1), (1601, 40)])
    func headLoss(type: ElementType, shape: (Int, Float)) throws {
        var random = Random(41)
        let (v, spread) = shape
        let (r, k) = (19, 26)
        let hidden = try random.matrix(r, k, type, scale: spread)
        let head = try random.matrix(v, k, type)
        let weights = try random.matrix(1, r)
        var labels = (0..<r).map { _ in Int32(random.index(below: v)) }
        labels[3] = -100
        for cap in [0, 3] as [Float] {
            let losses = Self.naive(
                hidden.doubles, head.doubles, labels, scale: 0.5, cap: Double(cap))
            let gradients = (0..<r).map { i in
                labels[i] < 0
                    ? Array(repeating: 0.0, count: k)
                    : Self.naiveGradient(
                        hidden.doubles[i], head.doubles, Int(labels[i]), scale: 0.5,
                        cap: Double(cap)
                    ).map { $0 * Double(weights[0, i]) * 0.25 }
            }
            let sum = (0..<r).reduce(0.0) { $0 + losses[$1] * Double(weights[0, $1]) }
            try eachCompute { compute in
                let packed = try compute.pack(head, type)
                let result = try Matrix.vector(r)
                let dHidden = try Matrix(rows: r, columns: k)
                dHidden.fill(.nan)
                let total = try compute.headLoss(
                    hidden, head: packed, labels: labels, weights: weights, logitScale: 0.5,
                    softCap: cap, losses: result, dHidden: dHidden, scale: 0.25)
                #expect(difference(result, [losses]) < 1e-5)
                #expect(difference(dHidden, gradients) < (type == .float32 ? 2e-5 : 1e-2))
                #expect(abs(total - sum) < 1e-4 * (1 + abs(sum)))
                let alone = try Matrix.vector(r)
                try compute.headLoss(
                    hidden, head: packed, labels: labels, logitScale: 0.5, softCap: cap,
                    losses: alone)
                #expect(alone.bits == result.bits)
            }
        }
    }

    @Test func gradientFormulaEqualsCentralDifferences() throws {
        var random = Random(42)
        let head = try random.matrix(17, 6).doubles
        let h = try random.matrix(1, 6).doubles
        for cap in [0.0, 1.5] {
            let slopes = centralDifferences(h) {
                Self.naive($0, head, [5], scale: 2, cap: cap)[0]
            }
            let gradient = Self.naiveGradient(h[0], head, 5, scale: 2, cap: cap)
            for (a, b) in zip(gradient, slopes[0]) { #expect(abs(a - b) < 1e-8) }
        }
    }

    /// A hidden state or a weight that is not a number never gives a number as loss.
    @Test(arguments: [Float.nan, .infinity]) func nonFiniteShows(bad: Float) throws {
        var random = Random(43)
        try eachCompute { compute in
            for type in ElementType.allCases {
                let hidden = try random.matrix(4, 20, type)
                let head = try random.matrix(100, 20, type)
                hidden[1, 3] = bad
                let losses = try Matrix.vector(4)
                let packed = try compute.pack(head, type)
                try compute.headLoss(hidden, head: packed, labels: [1, 2, 3, 4], losses: losses)
                #expect(!losses[0, 1].isFinite)
                #expect(losses[0, 0].isFinite && losses[0, 2].isFinite)
            }
        }
    }

    @Test func logitLoss() throws {
        var random = Random(44)
        let logits = try random.matrix(5, 45, scale: 20)
        let labels: [Int32] = [0, 44, -1, 7, 7]
        let weights = try random.matrix(1, 5)
        var losses: [Double] = []
        var gradients: [[Double]] = []
        for (i, row) in logits.doubles.enumerated() {
            let top = row.max()!
            let sum = row.reduce(0) { $0 + exp($1 - top) }
            let label = Int(labels[i])
            losses.append(label < 0 ? 0 : top + log(sum) - row[label])
            gradients.append(
                row.indices.map {
                    label < 0
                        ? 0
                        : 3 * Double(weights[0, i])
                            * (exp(row[$0] - top) / sum - ($0 == label ? 1 : 0))
                })
        }
        try eachCompute { compute in
            let work = try Matrix(rows: 5, columns: 45, values: logits.values)
            let result = try Matrix.vector(5)
            try compute.logitLoss(
                work, labels: labels, weights: weights, losses: result, gradient: true, scale: 3)
            #expect(difference(result, [losses]) < 1e-5)
            #expect(difference(work, gradients) < 1e-5)
            #expect(throws: KernelError.self) {
                try compute.logitLoss(
                    work, labels: [0, 1, 2, 3, 45], losses: result, gradient: false)
            }
        }
    }
}
