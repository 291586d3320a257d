/// A bounded cache from pieces of text to their ids: direct-mapped, one entry a slot.
///
/// Pieces of up to 23 bytes and eight ids are kept; its memory is fixed from the start (about 1.8 MB).
struct PieceCache {
    private static let slotBits = 14
    private static let maximumLength = 23
    private static let maximumIDs = 8

    private var keys = [UInt64](repeating: 0, count: 3 << slotBits)
    private var counts = [UInt8](repeating: 0, count: 1 << slotBits)
    private var ids = [Int32](repeating: 0, count: maximumIDs << slotBits)

    struct Key {
        let words: (UInt64, UInt64, UInt64)
        let slot: Int
    }

    /// Nil for pieces that are too long to be kept.
    @inline(__always)
    static func key(_ piece: ArraySlice<UInt8>) -> Key? {
        guard piece.count <= maximumLength else { return nil }
        var words: (UInt64, UInt64, UInt64) = (0, 0, UInt64(piece.count) << 56)
        var shift: UInt64 = 0
        for byte in piece {
            if shift < 64 {
                words.0 |= UInt64(byte) << shift
            } else if shift < 128 {
                words.1 |= UInt64(byte) << (shift - 64)
            } else {
                words.2 |= UInt64(byte) << (shift - 128)
            }
            shift += 8
        }
        var hash = words.0 &* 0x9E37_79B9_7F4A_7C15
        hash = (hash ^ words.1 ^ (hash >> 32)) &* 0xC2B2_AE3D_27D4_EB4F
        hash = (hash ^ words.2 ^ (hash >> 29)) &* 0x1656_67B1_9E37_79F9
        return Key(words: words, slot: Int(truncatingIfNeeded: hash >> (64 - UInt64(slotBits))))
    }

    /// Appends the ids of a kept piece; false if it is not there.
    @inline(__always)
    func append(_ key: Key, to result: inout [Int32]) -> Bool {
        let slot = key.slot
        guard keys[3 * slot + 2] == key.words.2, keys[3 * slot] == key.words.0,
            keys[3 * slot + 1] == key.words.1
        else { return false }
        let start = slot * Self.maximumIDs
        for index in 0..<Int(counts[slot]) { result.append(ids[start + index]) }
        return true
    }

    mutating func store(_ key: Key, _ found: [Int32]) {
        guard found.count <= Self.maximumIDs else { return }
        let slot = key.slot
        keys[3 * slot] = key.words.0
        keys[3 * slot + 1] = key.words.1
        keys[3 * slot + 2] = key.words.2
        counts[slot] = UInt8(found.count)
        let start = slot * Self.maximumIDs
        for (index, id) in found.enumerated() { ids[start + index] = id }
    }
}
