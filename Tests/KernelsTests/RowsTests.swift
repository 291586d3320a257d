import Glibc
import Testing

@testable import Kernels

@Suite struct RowsTests {
    @Test(arguments: ElementType.allCases) func gatherTakesRows(type: ElementType) throws {
        var random = Random(21)
        let table = try random.matrix(90, 37, type)
        let ids: [Int32] = [3, 0, 89, 3, 41, 80]
        let expected = ids.map { table.doubles[Int($0)].map { $0 * 1.5 } }
        try eachCompute { compute in
            let out = try Matrix(rows: ids.count, columns: 37)
            try compute.gather(ids, from: table, scale: 1.5, into: out)
            #expect(difference(out, expected) < 1e-6)
            out.fill(0)
            try compute.gather(ids, from: compute.pack(table, type), scale: 1.5, into: out)
            #expect(difference(out, expected) < 1e-6)
            for id in [-1, 90] as [Int32] {
                #expect(throws: KernelError.self) {
                    try compute.gather([id], from: table, into: out.rows(0..<1))
                }
            }
        }
    }

    static func naiveNorm(
        _ x: [[Double]], _ weight: [Double], _ bias: [Double]?, _ groups: Int, layer: Bool
    ) -> [[Double]] {
        x.map { row in
            let n = row.count / groups
            return (0..<groups).flatMap { g -> [Double] in
                let part = row[g * n..<(g + 1) * n]
                let mean = layer ? part.reduce(0, +) / Double(n) : 0
                let square = part.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(n)
                let inverse = 1 / (square + 1e-3).squareRoot()
                return part.enumerated().map {
                    ($1 - mean) * inverse * weight[$0] + (bias?[$0] ?? 0)
                }
            }
        }
    }

    @Test(arguments: [false, true], [1, 3]) func norms(layer: Bool, groups: Int) throws {
        var random = Random(22)
        let n = 37
        let (m, columns) = (9, 37 * groups)
        let x = try random.matrix(m, columns)
        let weight = try random.matrix(1, n)
        let bias = try random.matrix(1, n)
        let dY = try random.matrix(m, columns)
        let biases = layer ? bias.doubles[0] : nil
        let expected = Self.naiveNorm(x.doubles, weight.doubles[0], biases, groups, layer: layer)
        func loss(_ x: [[Double]], _ w: [Double], _ b: [Double]?) -> Double {
            zip(Self.naiveNorm(x, w, b, groups, layer: layer), dY.doubles).reduce(0) {
                $0 + zip($1.0, $1.1).reduce(0) { $0 + $1.0 * $1.1 }
            }
        }
        let slope = centralDifferences(x.doubles) { loss($0, weight.doubles[0], biases) }
        let weightSlope = centralDifferences(weight.doubles) { loss(x.doubles, $0[0], biases) }
        let biasSlope = centralDifferences(bias.doubles) {
            loss(x.doubles, weight.doubles[0], $0[0])
        }
        try eachCompute { compute in
            let inverse = try Matrix(rows: m, columns: groups)
            let mean = try Matrix(rows: m, columns: groups)
            for type in ElementType.allCases {
                let y = try Matrix(rows: m, columns: columns, type)
                if layer {
                    try compute.layerNorm(
                        x, weight: weight, bias: bias, groups: groups, epsilon: 1e-3, into: y,
                        inverse: inverse, mean: mean)
                } else {
                    try compute.rmsNorm(
                        x, weight: weight, groups: groups, epsilon: 1e-3, into: y, inverse: inverse)
                }
                #expect(difference(y, expected) < tolerance(type))
            }
            let dX = try Matrix(rows: m, columns: columns)
            dX.fill(1)
            let dWeight = try Matrix.vector(n)
            let dBias = try Matrix.vector(n)
            if layer {
                try compute.layerNormBackward(
                    dY, x: x, weight: weight, inverse: inverse, mean: mean, groups: groups,
                    into: dX, accumulate: true, dWeight: dWeight, dBias: dBias)
                #expect(difference(dBias, biasSlope) < 1e-5)
            } else {
                try compute.rmsNormBackward(
                    dY, x: x, weight: weight, inverse: inverse, groups: groups, into: dX,
                    accumulate: true, dWeight: dWeight)
            }
            #expect(difference(dX, slope.map { $0.map { $0 + 1 } }) < 1e-5)
            #expect(difference(dWeight, weightSlope) < 1e-5)
        }
    }

    @Test(arguments: [(8, 8), (24, 16), (64, 64), (80, 20)]) func rotation(
        headDim: Int, rotaryDim: Int
    ) throws {
        var random = Random(23)
        let x = try random.matrix(5, 3 * headDim)
        let positions: [Int32] = [4, 0, 7, 7, 1]
        let cosine = try Matrix(rows: 8, columns: rotaryDim / 2)
        let sine = try Matrix(rows: 8, columns: rotaryDim / 2)
        for p in 0..<8 {
            for i in 0..<rotaryDim / 2 {
                let angle = Double(p) * pow(100, -Double(i) / Double(rotaryDim / 2))
                cosine[p, i] = Float(cos(angle))
                sine[p, i] = Float(sin(angle))
            }
        }
        let expected = x.doubles.enumerated().map { i, row in
            row.indices.map { column -> Double in
                let (h, c) = column.quotientAndRemainder(dividingBy: headDim)
                guard c < rotaryDim else { return row[column] }
                let half = rotaryDim / 2
                let co = Double(cosine[Int(positions[i]), c % half])
                let si = Double(sine[Int(positions[i]), c % half])
                let partner = row[h * headDim + (c + half) % rotaryDim]
                return row[column] * co + (c < half ? -partner : partner) * si
            }
        }
        try eachCompute { compute in
            for type in ElementType.allCases {
                let y = try Matrix(rows: 5, columns: 3 * headDim, type)
                try compute.rotate(
                    x, headDim: headDim, positions: positions, cosine: cosine, sine: sine, into: y)
                #expect(difference(y, expected) < tolerance(type))
                let back = try Matrix(rows: 5, columns: 3 * headDim)
                try compute.rotate(
                    y, headDim: headDim, positions: positions, cosine: cosine, sine: sine,
                    inverse: true, into: back)
                #expect(difference(back, x.doubles) < 2 * tolerance(type))
            }
        }
    }

    @Test(arguments: Activation.allCases, [true, false])
    func activations(activation: Activation, gated: Bool) throws {
        var random = Random(24)
        let gate = try random.matrix(4, 37, scale: 6)
        let up = try random.matrix(4, 37)
        let dY = try random.matrix(4, 37)
        let ups = gated ? up.doubles : up.doubles.map { $0.map { _ in 1 } }
        let expected = zip(gate.doubles, ups).map {
            zip($0, $1).map { naiveActivation(activation, $0) * $1 }
        }
        func slope(_ g: Double) -> Double {
            (naiveActivation(activation, g + 1e-5) - naiveActivation(activation, g - 1e-5)) / 2e-5
        }
        let dGates = (0..<4).map { i in
            (0..<37).map { Double(dY[i, $0]) * ups[i][$0] * slope(Double(gate[i, $0])) }
        }
        let dUps = (0..<4).map { i in
            (0..<37).map { Double(dY[i, $0]) * naiveActivation(activation, Double(gate[i, $0])) }
        }
        try eachCompute { compute in
            let y = try Matrix(rows: 4, columns: 37)
            try compute.activate(activation, gate: gate, up: gated ? up : nil, into: y)
            #expect(difference(y, expected) < 1e-5)
            let dGate = try Matrix(rows: 4, columns: 37)
            let dUp = try Matrix(rows: 4, columns: 37)
            let again = try Matrix(rows: 4, columns: 37)
            try compute.activateBackward(
                activation, dY: dY, gate: gate, up: gated ? up : nil, dGate: dGate,
                dUp: gated ? dUp : nil, recomputing: again)
            #expect(difference(dGate, dGates) < 1e-5)
            if gated { #expect(difference(dUp, dUps) < 1e-5) }
            #expect(again.bits == y.bits)
        }
    }

    @Test func combineConvertsAndAdds() throws {
        var random = Random(25)
        let x = try random.matrix(3, 21)
        let y = try random.matrix(3, 21)
        try eachCompute { compute in
            let half = try Matrix(rows: 3, columns: 21, .bfloat16)
            try compute.copy(x, to: half)
            for (a, b) in zip(half.values, x.values) {
                #expect(a == Float(bitPattern: UInt32(bfloat16Bits(b)) << 16))
            }
            let sum = try Matrix(rows: 3, columns: 21, values: y.values)
            try compute.combine(x, alpha: 2, into: sum, beta: 3)
            let expected = zip(x.doubles, y.doubles).map { zip($0, $1).map { 2 * $0 + 3 * $1 } }
            #expect(difference(sum, expected) < 1e-6)
            sum.fill(.nan)
            try compute.copy(x, to: sum)
            #expect(sum.bits == x.bits)
            let odd = try Matrix(rows: 1, columns: 20, .bfloat16)
            odd.fill(.nan)
            try compute.copy(Matrix(vector: Array(repeating: .nan, count: 20)), to: odd)
            #expect(odd.values.allSatisfy { $0.isNaN })
        }
    }

    @Test func softmaxAndLogSumExp() throws {
        var random = Random(26)
        let x = try random.matrix(5, 100, scale: 80)
        let sums = x.doubles.map { row in
            row.max()! + log(row.reduce(0) { $0 + exp($1 - row.max()!) })
        }
        let expected = zip(x.doubles, sums).map { row, sum in row.map { exp($0 - sum) } }
        try eachCompute { compute in
            let p = try Matrix(rows: 5, columns: 100, values: x.values)
            let logSum = try Matrix.vector(5)
            try compute.logSumExp(p, into: logSum)
            #expect(difference(logSum, [sums]) < 1e-6)
            #expect(p.bits == x.bits)
            try compute.softmax(p)
            #expect(difference(p, expected) < 1e-5)
        }
    }

    @Test func softCapBoundsEveryNumber() throws {
        var random = Random(27)
        let x = try random.matrix(3, 37, scale: 60)
        let expected = x.doubles.map { $0.map { 30 * tanh($0 / 30) } }
        try eachCompute { compute in
            for type in ElementType.allCases {
                let y = try Matrix(rows: 3, columns: 37, type)
                try compute.copy(x, to: y)
                try compute.softCap(y, 30)
                #expect(difference(y, expected) < tolerance(type))
            }
            let bad = try Matrix(vector: [.nan, .infinity, -.infinity, 0])
            try compute.softCap(bad, 30)
            #expect(bad[0, 0].isNaN && bad[0, 1] == 30 && bad[0, 2] == -30 && bad[0, 3] == 0)
            #expect(throws: KernelError.self) { try compute.softCap(x, 0) }
        }
    }

    @Test func everyNonFiniteNumberIsFound() throws {
        try eachCompute { compute in
            for type in ElementType.allCases {
                let x = try Matrix(rows: 3, columns: 37, type)
                x.fill(3e38)
                let good = try compute.isFinite(x)
                #expect(good)
                for bad in [Float.nan, .infinity, -.infinity] {
                    for (i, j) in [(0, 0), (1, 15), (2, 36)] {
                        x[i, j] = bad
                        let found = try !compute.isFinite(x)
                        #expect(found)
                        x[i, j] = 0
                    }
                }
            }
        }
    }
}
