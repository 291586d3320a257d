/// Token texts by id and ids by text, both over bytes (never over Swift's `String` equality).
struct Vocabulary: Sendable {
    /// The texts one after the other, in order of id.
    private(set) var blob: [UInt8]
    /// Where the text of each id starts in `blob`; one more for the end.
    private(set) var starts: [UInt32]
    /// Whether an id has a token at all, one bit each.
    private(set) var present: [UInt64]
    /// Open addressing, `id + 1` or 0; the length is a power of two.
    private(set) var slots: [UInt32]

    /// Ids at or above this are refused: memory is never reserved by a number from a file.
    static let maximumID: Int32 = 4_000_000

    /// One more than the highest id.
    var idCount: Int { starts.count - 1 }
    private(set) var count: Int

    /// - Parameter lastWins: a repeated text takes its last id (Unigram lists), else it is refused.
    init(_ entries: [(text: [UInt8], id: Int32)], lastWins: Bool = false) throws(TokenizerError) {
        let highest = entries.reduce(-1) { max($0, $1.id) }
        guard highest <= Self.maximumID, entries.allSatisfy({ $0.id >= 0 }) else {
            throw TokenizerError(
                .malformed, "a token id lies outside of 0...\(Self.maximumID)")
        }
        var order = [Int32](repeating: -1, count: Int(highest) + 1)
        for (index, entry) in entries.enumerated() {
            guard order[Int(entry.id)] < 0 else {
                throw TokenizerError(.malformed, "two tokens have the id \(entry.id)")
            }
            order[Int(entry.id)] = Int32(index)
        }
        blob = []
        starts = [0]
        starts.reserveCapacity(order.count + 1)
        present = [UInt64](repeating: 0, count: (order.count + 63) / 64)
        for (id, index) in order.enumerated() {
            if index >= 0 {
                blob.append(contentsOf: entries[Int(index)].text)
                present[id >> 6] |= 1 << UInt64(id & 63)
            }
            starts.append(UInt32(blob.count))
        }
        var size = 16
        while size < entries.count * 2 { size *= 2 }
        slots = [UInt32](repeating: 0, count: size)
        count = entries.count
        for (id, index) in order.enumerated() where index >= 0 {
            let text = entries[Int(index)].text
            var slot = Int(truncatingIfNeeded: Self.hash(text[...])) & (size - 1)
            while slots[slot] != 0, !equals(Int(slots[slot] - 1), text[...]) {
                slot = (slot + 1) & (size - 1)
            }
            if slots[slot] != 0, !lastWins {
                throw TokenizerError(
                    .malformed,
                    "the token '\(String(decoding: text, as: UTF8.self))' occurs twice")
            }
            slots[slot] = UInt32(id + 1)
        }
    }

    /// From the arrays of a compiled tokenizer, which were checked when they were read.
    init(
        blob: [UInt8], starts: [UInt32], present: [UInt64], slots: [UInt32], count: Int
    ) throws(TokenizerError) {
        let ids = starts.count - 1
        guard ids >= 0, starts.last.map(Int.init) == blob.count,
            zip(starts, starts.dropFirst()).allSatisfy({ $0 <= $1 }),
            present.count == (ids + 63) / 64, slots.count.nonzeroBitCount == 1,
            slots.allSatisfy({ $0 <= UInt32(ids) }), slots.contains(0), count <= ids
        else { throw TokenizerError(.malformed, "compiled tokenizer: the vocabulary is broken") }
        self.blob = blob
        self.starts = starts
        self.present = present
        self.slots = slots
        self.count = count
    }

    func contains(id: Int32) -> Bool {
        id >= 0 && id < idCount && present[Int(id) >> 6] & (1 << UInt64(id & 63)) != 0
    }

    /// The text of an id; empty where there is none.
    func text(of id: Int32) -> ArraySlice<UInt8> {
        guard contains(id: id) else { return [] }
        return blob[Int(starts[Int(id)])..<Int(starts[Int(id) + 1])]
    }

    func id(of text: ArraySlice<UInt8>) -> Int32? {
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: Self.hash(text)) & mask
        while slots[slot] != 0 {
            let id = Int(slots[slot] - 1)
            if equals(id, text) { return Int32(id) }
            slot = (slot + 1) & mask
        }
        return nil
    }

    func id(of text: String) -> Int32? { id(of: Array(text.utf8)[...]) }

    @inline(__always)
    private func equals(_ id: Int, _ text: ArraySlice<UInt8>) -> Bool {
        let start = Int(starts[id])
        guard Int(starts[id + 1]) - start == text.count else { return false }
        var position = start
        for byte in text {
            if blob[position] != byte { return false }
            position += 1
        }
        return true
    }

    /// FNV-1a with a final mix; part of the compiled form, so it must not change.
    @inline(__always)
    static func hash(_ text: ArraySlice<UInt8>) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in text { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return hash ^ (hash >> 29)
    }
}
