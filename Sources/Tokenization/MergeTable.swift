/// BPE merges by their pair of ids: an open-addressed table from `left << 32 | right` to
/// `rank << 32 | merged id`.
struct MergeTable: Sendable {
    private(set) var keys: [UInt64]
    private(set) var values: [UInt64]

    /// Marks an empty slot; no pair of valid ids has it.
    static let empty = UInt64.max
    /// The answer for a pair that never merges; above every real value.
    static let none = UInt64.max

    /// Merges in order of rank; of a repeated pair the last one counts, as in the library.
    init(_ merges: [(left: Int32, right: Int32, merged: Int32)]) {
        var size = 16
        while size < merges.count * 2 { size *= 2 }
        keys = [UInt64](repeating: Self.empty, count: size)
        values = [UInt64](repeating: Self.none, count: size)
        for (rank, merge) in merges.enumerated() {
            let key = UInt64(UInt32(merge.left)) << 32 | UInt64(UInt32(merge.right))
            var slot = Self.hash(key) & (size - 1)
            while keys[slot] != Self.empty, keys[slot] != key { slot = (slot + 1) & (size - 1) }
            keys[slot] = key
            values[slot] = UInt64(rank) << 32 | UInt64(UInt32(merge.merged))
        }
    }

    init(keys: [UInt64], values: [UInt64], idCount: Int) throws(TokenizerError) {
        guard keys.count == values.count, keys.count.nonzeroBitCount == 1,
            keys.contains(Self.empty),
            values.allSatisfy({ $0 == Self.none || Int($0 & 0xFFFF_FFFF) < idCount })
        else { throw TokenizerError(.malformed, "compiled tokenizer: the merges are broken") }
        self.keys = keys
        self.values = values
    }

    /// `rank << 32 | merged id`, or `none`.
    @inline(__always)
    func value(_ left: Int32, _ right: Int32) -> UInt64 {
        let key = UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
        let mask = keys.count - 1
        var slot = Self.hash(key) & mask
        while true {
            let found = keys[slot]
            if found == key { return values[slot] }
            if found == Self.empty { return Self.none }
            slot = (slot + 1) & mask
        }
    }

    @inline(__always)
    private static func hash(_ key: UInt64) -> Int {
        let mixed = (key ^ (key >> 32)) &* 0x9E37_79B9_7F4A_7C15
        return Int(truncatingIfNeeded: mixed >> 20)
    }
}
