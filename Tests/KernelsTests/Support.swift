import Testing

@testable import Kernels

/// Random numbers in -1...1 from a seed.
struct Random {
    var state: UInt64

    init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }

    mutating func next() -> Float {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Float(Int32(truncatingIfNeeded: state >> 32)) / 2_147_483_648
    }

    mutating func matrix(
        _ rows: Int, _ columns: Int, _ type: ElementType = .float32, scale: Float = 1
    ) throws -> Matrix {
        let matrix = try Matrix(rows: rows, columns: columns, type)
        for i in 0..<rows { for j in 0..<columns { matrix[i, j] = next() * scale } }
        return matrix
    }

    mutating func index(below limit: Int) -> Int { Int((next() + 1) / 2 * Float(limit)) % limit }
}

/// `max|a - b| / max|b|`; NaN or infinity anywhere gives infinity.
func difference(_ a: Matrix, _ b: [[Double]]) -> Double {
    guard a.rows == b.count else { return .infinity }
    var worst = 0.0
    var largest = 1e-30
    for (i, row) in b.enumerated() {
        guard row.count == a.columns else { return .infinity }
        for (j, value) in row.enumerated() {
            let error = abs(Double(a[i, j]) - value)
            guard error.isFinite else { return .infinity }
            worst = max(worst, error)
            largest = max(largest, abs(value))
        }
    }
    return worst / largest
}

extension Matrix {
    var doubles: [[Double]] { (0..<rows).map { row($0).map(Double.init) } }
    var bits: [UInt32] { values.map(\.bitPattern) }
}

/// Every instruction set of this machine with 1 and 2 threads.
func eachCompute(_ body: (Compute) throws -> Void) throws {
    for set in Compute.availableInstructionSets {
        for threads in [1, 2] {
            try body(Compute(pool: ThreadPool(threads: threads), instructionSet: set))
        }
    }
}

/// Relative error allowed: float32 sums, or one rounding to bf16 beside them.
func tolerance(_ type: ElementType) -> Double { type == .float32 ? 1e-5 : 5e-3 }

/// `(f(x + e) - f(x - e)) / 2e` for every number of x.
func centralDifferences(_ x: [[Double]], _ f: ([[Double]]) -> Double) -> [[Double]] {
    var moved = x
    return x.indices.map { i in
        x[i].indices.map { j in
            let step = 1e-5
            moved[i][j] = x[i][j] + step
            let above = f(moved)
            moved[i][j] = x[i][j] - step
            let below = f(moved)
            moved[i][j] = x[i][j]
            return (above - below) / (2 * step)
        }
    }
}
