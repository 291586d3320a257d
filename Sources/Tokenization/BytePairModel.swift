/// Byte-pair encoding (Sennrich et al. 2016) as the `tokenizers` library does it: of all adjacent
/// pairs the one of lowest rank merges first, the leftmost of equals.
struct BytePairModel: Sendable {
    struct Options: Sendable, Equatable {
        /// A piece that is a token as a whole is taken as it is.
        var ignoresMerges = false
        /// A character without a token becomes the tokens `<0x..>` of its bytes.
        var fallsBackToBytes = false
        /// Unknown characters in a row become one unknown token.
        var fusesUnknown = false
        var unknownToken: [UInt8]?
        var continuingPrefix: [UInt8] = []
        var endOfWordSuffix: [UInt8] = []
    }

    let merges: MergeTable
    let options: Options
    let unknownID: Int32?
    /// The token of each byte's character, for pieces of raw bytes; -1 where there is none.
    private let alphabetIDs: [Int32]
    /// Whether every byte's character is a token, so that raw bytes need no mapping.
    private let coversAllBytes: Bool
    /// The tokens `<0x00>` … `<0xFF>`; -1 where there is none.
    private let fallbackIDs: [Int32]
    /// The token of each ASCII character; -1 where there is none.
    private let asciiIDs: [Int32]

    /// Words up to this many symbols merge by scanning; longer ones through a heap.
    private static let scanLimit = 64

    init(vocabulary: Vocabulary, merges: MergeTable, options: Options) throws(TokenizerError) {
        self.merges = merges
        self.options = options
        unknownID = options.unknownToken.flatMap { vocabulary.id(of: $0[...]) }
        alphabetIDs = ByteAlphabet.scalars.map { scalar in
            var text: [UInt8] = []
            UTF8Text.append(scalar, to: &text)
            return vocabulary.id(of: text[...]) ?? -1
        }
        coversAllBytes = alphabetIDs.allSatisfy { $0 >= 0 }
        fallbackIDs = ByteFallback.tokens.map { vocabulary.id(of: $0[...]) ?? -1 }
        asciiIDs = (0..<128).map { vocabulary.id(of: [UInt8($0)][...]) ?? -1 }
    }

    /// Working memory of one encoding at a time.
    struct Workspace {
        var ids: [Int32] = []
        /// Bytes of the piece that each symbol covers.
        var lengths: [Int32] = []
        var values: [UInt64] = []
        var next: [Int32] = []
        var previous: [Int32] = []
        var heap: MergeHeap = MergeHeap()
        var characters: [UInt8] = []
    }

    /// Encodes one piece; the symbols are left in `workspace.ids` and `.lengths`.
    ///
    /// - Parameter raw: the bytes are not yet mapped to the byte alphabet.
    func encode(
        _ piece: ArraySlice<UInt8>, raw: Bool, _ vocabulary: Vocabulary,
        _ workspace: inout Workspace
    ) throws(TokenizerError) {
        workspace.ids.removeAll(keepingCapacity: true)
        workspace.lengths.removeAll(keepingCapacity: true)
        if options.ignoresMerges {
            let whole: Int32?
            if raw {
                workspace.characters.removeAll(keepingCapacity: true)
                ByteAlphabet.appendCharacters(for: piece, to: &workspace.characters)
                whole = vocabulary.id(of: workspace.characters[...])
            } else {
                whole = vocabulary.id(of: piece)
            }
            if let whole {
                workspace.ids.append(whole)
                workspace.lengths.append(Int32(piece.count))
                return
            }
        }
        if raw, coversAllBytes {
            for byte in piece {
                workspace.ids.append(alphabetIDs[Int(byte)])
                workspace.lengths.append(1)
            }
        } else if raw {
            try symbols(ofRaw: piece, vocabulary, &workspace)
        } else {
            try symbols(of: piece, vocabulary, &workspace)
        }
        if workspace.ids.count > Self.scanLimit {
            mergeLong(&workspace)
        } else if workspace.ids.count > 1 {
            mergeShort(&workspace)
        }
    }

    /// The symbols of raw bytes whose alphabet the vocabulary lacks in part: those of the mapped
    /// characters, unknown ones as the options say, their lengths counted in raw bytes again.
    ///
    /// A fallback token stands for one byte of a mapped character of up to two: the first of them gets
    /// the raw byte, the second none.
    private func symbols(
        ofRaw piece: ArraySlice<UInt8>, _ vocabulary: Vocabulary, _ workspace: inout Workspace
    ) throws(TokenizerError) {
        workspace.characters.removeAll(keepingCapacity: true)
        ByteAlphabet.appendCharacters(for: piece, to: &workspace.characters)
        let characters = workspace.characters
        try symbols(of: characters[...], vocabulary, &workspace)
        var position = 0
        for index in workspace.lengths.indices {
            let end = position + Int(workspace.lengths[index])
            // Each mapped character begins with the one byte of it that is no continuation.
            workspace.lengths[index] = Int32(
                characters[position..<end].count { $0 & 0xC0 != 0x80 })
            position = end
        }
    }

    /// The symbols of the characters, with unknown ones as the options say.
    private func symbols(
        of piece: ArraySlice<UInt8>, _ vocabulary: Vocabulary, _ workspace: inout Workspace
    ) throws(TokenizerError) {
        var pendingUnknown = 0
        // What has no token at all is left out; the next token's range (or the last one's) covers it.
        var leftOut = 0
        func flush(_ workspace: inout Workspace) {
            guard pendingUnknown > 0, let unknownID else { return }
            workspace.ids.append(unknownID)
            workspace.lengths.append(Int32(pendingUnknown))
            pendingUnknown = 0
        }
        let plain = options.continuingPrefix.isEmpty && options.endOfWordSuffix.isEmpty
        var position = piece.startIndex
        while position < piece.endIndex {
            let first = piece[position]
            let length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
            let end = min(position + length, piece.endIndex)
            let found: Int32?
            if plain, first < 0x80 {
                found = asciiIDs[Int(first)] >= 0 ? asciiIDs[Int(first)] : nil
            } else if plain {
                found = vocabulary.id(of: piece[position..<end])
            } else {
                var text = position == piece.startIndex ? [] : options.continuingPrefix
                text.append(contentsOf: piece[position..<end])
                if end == piece.endIndex { text.append(contentsOf: options.endOfWordSuffix) }
                found = vocabulary.id(of: text[...])
            }
            if let found {
                flush(&workspace)
                workspace.ids.append(found)
                workspace.lengths.append(Int32(end - position + leftOut))
                leftOut = 0
            } else if options.fallsBackToBytes,
                piece[position..<end].allSatisfy({ fallbackIDs[Int($0)] >= 0 })
            {
                // As in the library, a pending unknown is not written out first.
                for byte in piece[position..<end] {
                    workspace.ids.append(fallbackIDs[Int(byte)])
                    workspace.lengths.append(1)
                }
            } else if options.unknownToken != nil {
                guard unknownID != nil else {
                    throw TokenizerError(
                        .malformed, "model: the unk_token is not in the vocabulary")
                }
                if !options.fusesUnknown { flush(&workspace) }
                pendingUnknown += end - position
            } else {
                leftOut += end - position
            }
            position = end
        }
        flush(&workspace)
        if leftOut > 0, let last = workspace.lengths.indices.last {
            workspace.lengths[last] += Int32(leftOut)
        }
    }

    private func mergeShort(_ work: inout Workspace) {
        var count = work.ids.count
        work.values.removeAll(keepingCapacity: true)
        for index in 0..<(count - 1) {
            work.values.append(merges.value(work.ids[index], work.ids[index + 1]))
        }
        while count > 1 {
            var best = MergeTable.none
            var place = 0
            for index in 0..<(count - 1) where work.values[index] < best {
                best = work.values[index]
                place = index
            }
            if best == MergeTable.none { break }
            work.ids[place] = Int32(truncatingIfNeeded: best & 0xFFFF_FFFF)
            work.lengths[place] += work.lengths[place + 1]
            work.ids.remove(at: place + 1)
            work.lengths.remove(at: place + 1)
            work.values.remove(at: place)
            count -= 1
            if place > 0 {
                work.values[place - 1] = merges.value(work.ids[place - 1], work.ids[place])
            }
            if place < count - 1 {
                work.values[place] = merges.value(work.ids[place], work.ids[place + 1])
            }
        }
    }

    private func mergeLong(_ work: inout Workspace) {
        let count = work.ids.count
        work.next = (1...Int32(count)).map { $0 }
        work.previous = (-1..<Int32(count - 1)).map { $0 }
        work.values = [UInt64](repeating: MergeTable.none, count: count)
        work.heap.removeAll()
        for index in 0..<(count - 1) {
            let value = merges.value(work.ids[index], work.ids[index + 1])
            work.values[index] = value
            if value != MergeTable.none { work.heap.push(rank: value >> 32, place: index) }
        }
        while let (rank, place) = work.heap.pop() {
            let value = work.values[place]
            // Stale: the pair at this place has changed since.
            guard value != MergeTable.none, value >> 32 == rank else { continue }
            let right = Int(work.next[place])
            let after = work.next[right]
            work.ids[place] = Int32(truncatingIfNeeded: value & 0xFFFF_FFFF)
            work.lengths[place] += work.lengths[right]
            work.lengths[right] = 0
            work.values[right] = MergeTable.none
            work.next[place] = after
            if Int(after) < count { work.previous[Int(after)] = Int32(place) }
            work.values[place] = MergeTable.none
            if Int(after) < count { refresh(place, Int(after), &work) }
            let before = work.previous[place]
            if before >= 0 { refresh(Int(before), place, &work) }
        }
        var kept = 0
        var index = 0
        while index < count {
            work.ids[kept] = work.ids[index]
            work.lengths[kept] = work.lengths[index]
            kept += 1
            index = Int(work.next[index])
        }
        work.ids.removeLast(count - kept)
        work.lengths.removeLast(count - kept)
    }

    @inline(__always)
    private func refresh(_ left: Int, _ right: Int, _ work: inout Workspace) {
        let value = merges.value(work.ids[left], work.ids[right])
        work.values[left] = value
        if value != MergeTable.none { work.heap.push(rank: value >> 32, place: left) }
    }
}

/// A binary heap of (rank, place), lowest first.
struct MergeHeap {
    private var keys: [UInt64] = []

    mutating func removeAll() { keys.removeAll(keepingCapacity: true) }

    mutating func push(rank: UInt64, place: Int) {
        keys.append(rank << 32 | UInt64(place))
        var child = keys.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            if keys[parent] <= keys[child] { break }
            keys.swapAt(parent, child)
            child = parent
        }
    }

    mutating func pop() -> (rank: UInt64, place: Int)? {
        guard let first = keys.first else { return nil }
        let last = keys.removeLast()
        if !keys.isEmpty {
            keys[0] = last
            var parent = 0
            while true {
                var child = 2 * parent + 1
                if child >= keys.count { break }
                if child + 1 < keys.count, keys[child + 1] < keys[child] { child += 1 }
                if keys[parent] <= keys[child] { break }
                keys.swapAt(parent, child)
                parent = child
            }
        }
        return (first >> 32, Int(first & 0xFFFF_FFFF))
    }
}

enum ByteFallback {
    /// `<0x00>` … `<0xFF>`.
    static let tokens: [[UInt8]] = {
        let digits = Array("0123456789ABCDEF".utf8)
        return (0..<256).map { Array("<0x".utf8) + [digits[$0 >> 4], digits[$0 & 15], 0x3E] }
    }()

    /// The byte that a token text stands for, as Rust's `u8::from_str_radix` reads it.
    static func byte(of token: ArraySlice<UInt8>) -> UInt8? {
        guard token.count == 6, token.starts(with: [0x3C, 0x30, 0x78]), token.last == 0x3E else {
            return nil
        }
        let digits = token.dropFirst(3).dropLast()
        return UInt8(String(decoding: digits, as: UTF8.self), radix: 16)
    }
}
