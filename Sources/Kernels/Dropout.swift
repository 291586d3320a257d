/// Which numbers of a matrix a dropout leaves out (Srivastava et al. 2014): a function of a key per row and the column.
///
/// The bits of columns 2i and 2i + 1 are the halves (low, high) of SplitMix64's i-th output (Steele et al. 2014) after
/// the row's key; a number is dropped where they are below `probability · 2³²`. Nothing is stored, and the same keys give
/// the same mask in the backward pass, in any order, on any number of threads.
public struct DropoutMask: Sendable {
    /// In [0, 1).
    public let probability: Double
    /// One for each row.
    public let keys: [UInt64]

    public init(probability: Double, keys: [UInt64]) {
        self.probability = probability
        self.keys = keys
    }

    /// SplitMix64's increment.
    public static let increment: UInt64 = 0x9E37_79B9_7F4A_7C15

    /// SplitMix64's output for a state.
    public static func mixed(_ state: UInt64) -> UInt64 {
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// Keys of a stream of their own, for one of several masks over the same rows.
    public func stream(_ name: UInt64) -> DropoutMask {
        DropoutMask(probability: probability, keys: keys.map { Self.mixed($0 ^ name) })
    }

    fileprivate var threshold: UInt32 {
        UInt32(min(probability * 4_294_967_296, 4_294_967_295))
    }
}

extension Compute {
    /// `y = x · mask / (1 - probability)`, or `y += …`.
    ///
    /// - Parameters:
    ///   - x: `[M, N]`, either element type.
    ///   - mask: With M keys.
    ///   - y: `[M, N]`, either element type; may be x itself when not accumulated.
    public func dropOut(
        _ x: Matrix, _ mask: DropoutMask, into y: Matrix, accumulate: Bool = false
    ) throws(KernelError) {
        try y.expect(x.rows, x.columns, "y")
        try require(mask.keys.count == x.rows, "\(mask.keys.count) keys for \(x.rows) rows")
        try require(
            mask.probability >= 0 && mask.probability < 1, .range,
            "a dropout of \(mask.probability); it is at least 0 and below 1")
        let factor = Float(1 / (1 - mask.probability))
        let threshold = mask.threshold
        pool.run { thread, threads in
            for row in x.rows * thread / threads..<x.rows * (thread + 1) / threads {
                var state = mask.keys[row]
                var column = 0
                while column < x.columns {
                    state &+= DropoutMask.increment
                    let bits = DropoutMask.mixed(state)
                    for half in 0..<min(2, x.columns - column) {
                        let part = UInt32(truncatingIfNeeded: bits >> (32 * UInt64(half)))
                        let index = column + half
                        let value = part < threshold ? 0 : x.element(row, index) * factor
                        y.setElement(
                            row, index, accumulate ? y.element(row, index) + value : value)
                    }
                    column += 2
                }
            }
        }
    }
}

extension Matrix {
    /// A number, without checks.
    @inline(__always) fileprivate func element(_ row: Int, _ column: Int) -> Float {
        switch elementType {
        case .float32: floats(row)[column]
        case .bfloat16: Float(bitPattern: UInt32(halves(row)[column]) << 16)
        }
    }

    @inline(__always) fileprivate func setElement(_ row: Int, _ column: Int, _ value: Float) {
        switch elementType {
        case .float32: floats(row)[column] = value
        case .bfloat16: halves(row)[column] = bfloat16Bits(value)
        }
    }
}
