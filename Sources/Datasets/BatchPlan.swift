/// Which rows make which optimizer step: file order or a seeded shuffle, in batches, the last ones partial.
///
/// A window is the rows of one optimizer step: `accumulation` batches of `batchSize` rows, fewer at the end of an
/// epoch. Packing does not change windows, only how their rows are laid together for the model.
public struct BatchPlan: Sendable, Equatable {
    public let exampleCount: Int
    public let batchSize: Int
    public let accumulation: Int
    /// Nil for file order.
    public let shuffleSeed: UInt64?

    public init(exampleCount: Int, batchSize: Int, accumulation: Int, shuffleSeed: UInt64?) {
        self.exampleCount = exampleCount
        self.batchSize = max(1, batchSize)
        self.accumulation = max(1, accumulation)
        self.shuffleSeed = shuffleSeed
    }

    /// Rows of a full window.
    public var windowRows: Int { batchSize * accumulation }

    /// Optimizer steps of one pass over the rows, partial ones included.
    public var stepsPerEpoch: Int { (exampleCount + windowRows - 1) / windowRows }

    /// The rows of an epoch in the order in which they are trained. Depends on seed and epoch only.
    public func order(epoch: Int) -> [Int] {
        var rows = Array(0..<exampleCount)
        guard let shuffleSeed else { return rows }
        var random = SeededGenerator(seed: shuffleSeed, stream: UInt64(epoch))
        // Fisher–Yates, written out so that the order never changes with the standard library.
        for index in stride(from: rows.count - 1, through: 1, by: -1) {
            rows.swapAt(index, Int(random.below(UInt64(index + 1))))
        }
        return rows
    }

    /// The rows of a window, given the epoch's order.
    public func window(_ index: Int, of order: [Int]) -> ArraySlice<Int> {
        let start = index * windowRows
        return order[start..<min(start + windowRows, order.count)]
    }

    /// Lays rows together for the model: consecutive rows up to `maximumTokens`, at least one row each. With
    /// `packing` off a group never crosses the border of a batch.
    ///
    /// - Returns: Ranges of `window`'s indexes, from 0.
    public func groups(
        _ window: ArraySlice<Int>, lengths: (Int) -> Int, maximumTokens: Int, packing: Bool
    ) -> [Range<Int>] {
        var result: [Range<Int>] = []
        var start = 0
        var tokens = 0
        for (position, row) in window.enumerated() {
            let length = lengths(row)
            let atBorder = !packing && position % batchSize == 0
            if position > start, atBorder || tokens + length > maximumTokens {
                result.append(start..<position)
                start = position
                tokens = 0
            }
            tokens += length
        }
        if start < window.count { result.append(start..<window.count) }
        return result
    }
}

/// SplitMix64 (Steele, Lea & Flood 2014): small, exactly specified, the same on every machine.
public struct SeededGenerator: Sendable, Equatable, RandomNumberGenerator {
    private var state: UInt64

    public init(seed: UInt64, stream: UInt64 = 0) {
        state = seed
        // Streams start far apart: the stream's number goes through the mixer first.
        var mixer = SeededGenerator(state: stream &* 0xD134_2543_DE82_EF95 &+ 1)
        state = seed ^ mixer.next()
    }

    private init(state: UInt64) { self.state = state }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }

    /// A number below `bound` (at least 1), every one equally likely (Lemire 2019).
    public mutating func below(_ bound: UInt64) -> UInt64 {
        var product = next().multipliedFullWidth(by: bound)
        if product.low < bound {
            let threshold = (0 &- bound) % bound
            while product.low < threshold { product = next().multipliedFullWidth(by: bound) }
        }
        return product.high
    }
}
