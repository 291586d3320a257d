import Testing

@testable import Kernels

@Suite struct ColumnsTests {
    static let sizes = [(1, 1), (3, 33), (17, 48), (40, 7)]

    @Test(arguments: ElementType.allCases) func scalesAndBiasesOfOddSizes(
        type: ElementType
    ) throws {
        var random = Random(1)
        for (m, n) in Self.sizes {
            let start = try random.matrix(m, n, type)
            let scale = try random.matrix(1, n)
            let bias = try random.matrix(1, n)
            for added in [nil, bias] {
                let expected = start.doubles.map { row in
                    row.indices.map {
                        row[$0] * Double(scale[0, $0]) + Double(added?[0, $0] ?? 0)
                    }
                }
                try eachCompute { compute in
                    // A view in a wider matrix: what stands beside it stays.
                    let wide = try Matrix(rows: m, columns: n + 9, type)
                    wide.fill(7)
                    let x = try wide.columns(4..<4 + n)
                    try compute.copy(start, to: x)
                    try compute.scaleColumns(x, by: scale, adding: added)
                    #expect(difference(x, expected) < tolerance(type))
                    #expect((0..<m).allSatisfy { wide[$0, 3] == 7 && wide[$0, 4 + n] == 7 })
                }
            }
        }
    }

    @Test(arguments: ElementType.allCases) func sumsOfOddSizes(type: ElementType) throws {
        var random = Random(2)
        for (m, n) in Self.sizes {
            let x = try random.matrix(m, n, type)
            let y = try random.matrix(m, n)
            let before = try random.matrix(1, n)
            for factor in [nil, y] {
                let expected = [
                    (0..<n).map { column in
                        (0..<m).reduce(Double(before[0, column])) {
                            $0 + Double(x[$1, column]) * Double(factor?[$1, column] ?? 1)
                        }
                    }
                ]
                try eachCompute { compute in
                    let sums = try Matrix(rows: 1, columns: n, values: before.values)
                    try compute.addColumnSums(of: x, times: factor, into: sums)
                    #expect(difference(sums, expected) < tolerance(.float32))
                }
            }
        }
    }

    /// Rows of a table that several tokens share get the sum of their gradients.
    @Test func scatteredRowsAddUp() throws {
        var random = Random(4)
        let ids: [Int32] = [3, 0, 3, 4, 3]
        for n in [1, 33, 48] {
            let x = try random.matrix(ids.count, n)
            let before = try random.matrix(6, n)
            let expected = (0..<6).map { row in
                (0..<n).map { column in
                    ids.indices.reduce(Double(before[row, column])) {
                        $0 + (ids[$1] == row ? 0.5 * Double(x[$1, column]) : 0)
                    }
                }
            }
            try eachCompute { compute in
                let table = try Matrix(rows: 6, columns: n, values: before.values)
                try compute.scatterAdd(x, scale: 0.5, to: ids, of: table)
                #expect(difference(table, expected) < tolerance(.float32))
                #expect(throws: KernelError.self) {
                    try compute.scatterAdd(x, scale: 1, to: [0, 1, 2, 3, 6], of: table)
                }
            }
        }
    }

    /// The slope of `softCap`, by difference quotients of it.
    @Test func theSlopeOfASoftCap() throws {
        let compute = try Compute(pool: ThreadPool(threads: 2))
        let cap: Float = 3
        let x = try Matrix(rows: 2, columns: 5, values: (0..<10).map { Float($0) * 0.7 - 3 })
        func capped(_ shift: Float) throws -> Matrix {
            let y = try Matrix(rows: 2, columns: 5, values: x.values.map { $0 + shift })
            try compute.softCap(y, cap)
            return y
        }
        let slope = try Matrix(rows: 2, columns: 5)
        slope.fill(1)
        try compute.softCapBackward(slope, y: capped(0), cap)
        let (above, below) = (try capped(1e-2).values, try capped(-1e-2).values)
        for (index, value) in slope.values.enumerated() {
            #expect(abs(value - (above[index] - below[index]) / 2e-2) < 1e-3)
        }
    }

    @Test func wrongShapesAreRefused() throws {
        let compute = try Compute(pool: ThreadPool(threads: 1))
        let x = try Matrix(rows: 2, columns: 8)
        #expect(throws: KernelError.self) {
            try compute.scaleColumns(x, by: Matrix(rows: 1, columns: 7))
        }
        #expect(throws: KernelError.self) {
            try compute.addColumnSums(
                of: x, times: Matrix(rows: 3, columns: 8), into: Matrix(rows: 1, columns: 8))
        }
        #expect(throws: KernelError.self) {
            try compute.addColumnSums(of: x, into: Matrix(rows: 1, columns: 8, .bfloat16))
        }
    }
}
