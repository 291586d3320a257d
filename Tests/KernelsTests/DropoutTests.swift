import Testing

@testable import Kernels

@Suite struct DropoutTests {
    private func keys(_ count: Int) -> [UInt64] {
        (0..<UInt64(count)).map { DropoutMask.mixed($0 &+ 77) }
    }

    /// Number by number, from the bits as they are documented.
    private func isDropped(_ key: UInt64, _ column: Int, _ probability: Double) -> Bool {
        let state = key &+ DropoutMask.increment &* UInt64(column / 2 + 1)
        let bits = DropoutMask.mixed(state) >> (column % 2 == 0 ? 0 : 32)
        return Double(bits & 0xFFFF_FFFF) < (probability * 4_294_967_296).rounded(.down)
    }

    @Test(arguments: ElementType.allCases, [0, 0.3, 0.9]) func masksOfOddSizes(
        type: ElementType, probability: Double
    ) throws {
        var random = Random(3)
        for (m, n) in ColumnsTests.sizes {
            let x = try random.matrix(m, n, type)
            let before = try random.matrix(m, n)
            let mask = DropoutMask(probability: probability, keys: keys(m))
            for accumulate in [false, true] {
                let expected = (0..<m).map { row in
                    (0..<n).map { column in
                        let dropped = isDropped(mask.keys[row], column, probability)
                        return (accumulate ? Double(before[row, column]) : 0)
                            + (dropped ? 0 : Double(x[row, column]) / (1 - probability))
                    }
                }
                try eachCompute { compute in
                    let y = try Matrix(rows: m, columns: n, values: before.values)
                    try compute.dropOut(x, mask, into: y, accumulate: accumulate)
                    #expect(difference(y, expected) < tolerance(.float32))
                }
            }
        }
    }

    /// As many as the probability says, in every column and for every stream; streams share no mask.
    @Test func sharesAreTheProbability() throws {
        let compute = try Compute(pool: ThreadPool(threads: 2))
        let (m, n) = (4000, 64)
        let ones = try Matrix(rows: m, columns: n)
        ones.fill(1)
        let rows = DropoutMask(probability: 0.25, keys: keys(m))
        var masks: [Matrix] = []
        for name: UInt64 in [1, 2] {
            let y = try Matrix(rows: m, columns: n)
            try compute.dropOut(ones, rows.stream(name), into: y)
            let sums = try Matrix.vector(n)
            try compute.addColumnSums(of: y, into: sums)
            // Five standard deviations of a column's mean; the numbers are fixed, so this holds or does not.
            let bound = 5 * (0.25 / 0.75 / Double(m)).squareRoot()
            for column in 0..<n {
                #expect(abs(Double(sums[0, column]) / Double(m) - 1) < bound, "\(column)")
            }
            masks.append(y)
        }
        let both = (0..<m).reduce(0) { total, row in
            total + (0..<n).count { masks[0][row, $0] == 0 && masks[1][row, $0] == 0 }
        }
        #expect(abs(Double(both) / Double(m * n) - 0.0625) < 0.003)
    }

    @Test func wrongMasksAreRefused() throws {
        let compute = try Compute(pool: ThreadPool(threads: 1))
        let x = try Matrix(rows: 2, columns: 8)
        #expect(throws: KernelError.self) {
            try compute.dropOut(x, DropoutMask(probability: 0.1, keys: [1]), into: x)
        }
        #expect(throws: KernelError.self) {
            try compute.dropOut(x, DropoutMask(probability: 1, keys: [1, 2]), into: x)
        }
    }
}
