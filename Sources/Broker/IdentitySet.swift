/// Which ids a batch file has used, and on which line: 128 bits of hash and a line number per id,
/// not the id itself, so that a million ids take 40 MB at most.
///
/// Two different ids are taken for one with a chance of n²/2¹²⁹, which no file reaches.
struct IdentitySet {
    private var first: [UInt64]
    private var second: [UInt64]
    /// Line number from 1; 0 marks a free place.
    private var lines: [UInt32]
    private(set) var count = 0

    init() {
        first = Array(repeating: 0, count: 1_024)
        second = first
        lines = Array(repeating: 0, count: 1_024)
    }

    /// Adds an id, or gives the line that had it before.
    mutating func insert(_ id: String, line: Int) -> Int? {
        if (count + 1) * 4 > lines.count * 3 { grow() }
        let (high, low) = Self.hash(id)
        var place = Int(truncatingIfNeeded: high) & (lines.count - 1)
        while lines[place] != 0 {
            if first[place] == high, second[place] == low { return Int(lines[place]) }
            place = (place + 1) & (lines.count - 1)
        }
        put(high, low, UInt32(clamping: line), at: place)
        count += 1
        return nil
    }

    private mutating func put(_ high: UInt64, _ low: UInt64, _ line: UInt32, at place: Int) {
        first[place] = high
        second[place] = low
        lines[place] = line
    }

    private mutating func grow() {
        let old = (first, second, lines)
        let capacity = lines.count * 2
        first = Array(repeating: 0, count: capacity)
        second = first
        lines = Array(repeating: 0, count: capacity)
        for index in old.2.indices where old.2[index] != 0 {
            var place = Int(truncatingIfNeeded: old.0[index]) & (capacity - 1)
            while lines[place] != 0 { place = (place + 1) & (capacity - 1) }
            put(old.0[index], old.1[index], old.2[index], at: place)
        }
    }

    /// Two SipHashes under different prefixes; the keys are the process's own random ones.
    private static func hash(_ id: String) -> (UInt64, UInt64) {
        var id = id
        return id.withUTF8 { bytes in
            var high = Hasher()
            high.combine(UInt8(1))
            high.combine(bytes: UnsafeRawBufferPointer(bytes))
            var low = Hasher()
            low.combine(UInt8(2))
            low.combine(bytes: UnsafeRawBufferPointer(bytes))
            return (
                UInt64(bitPattern: Int64(high.finalize())),
                UInt64(bitPattern: Int64(low.finalize()))
            )
        }
    }
}
