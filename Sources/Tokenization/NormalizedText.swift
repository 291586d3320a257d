/// A stretch of text on its way to the model: its bytes, and where each came from in the original.
struct NormalizedText {
    var bytes: [UInt8]
    /// The original offset of each byte and of the end; nil while bytes are as in the original.
    var origins: [Int32]?
    /// The original offset of the first byte, when `origins` is nil.
    var base: Int
    /// Whether the first character stems from the very start of the whole text (Metaspace `first`).
    var startsAtOrigin: Bool

    init(bytes: [UInt8], base: Int) {
        self.bytes = bytes
        self.base = base
        startsAtOrigin = base == 0
    }

    func origin(of index: Int) -> Int { origins.map { Int($0[index]) } ?? base + index }

    /// A writer for a changed form of this text.
    func rewriter() -> TextRewriter { TextRewriter(capacity: bytes.count + 16) }

    mutating func take(_ rewriter: consuming TextRewriter) {
        let end = Int32(origin(of: bytes.count))
        var rewriter = rewriter
        rewriter.origins.append(end)
        bytes = rewriter.bytes
        origins = rewriter.origins
    }

    /// Keeps only a range of the bytes.
    mutating func keep(_ range: Range<Int>) {
        if range.lowerBound > 0 { startsAtOrigin = false }
        if let origins {
            self.origins = Array(origins[range.lowerBound...range.upperBound])
        } else {
            base += range.lowerBound
        }
        bytes = Array(bytes[range])
    }

    func elements() -> [UnicodeNormalization.Element] {
        var result: [UnicodeNormalization.Element] = []
        result.reserveCapacity(bytes.count)
        var position = 0
        while position < bytes.count {
            let (scalar, length) = UTF8Text.scalar(in: bytes, at: position)
            result.append(.init(scalar: scalar, origin: Int32(origin(of: position))))
            position += length
        }
        return result
    }
}

/// Collects the bytes of a changed text together with their origins.
struct TextRewriter {
    var bytes: [UInt8] = []
    var origins: [Int32] = []

    init(capacity: Int) {
        bytes.reserveCapacity(capacity)
        origins.reserveCapacity(capacity + 1)
    }

    mutating func append(_ part: some Collection<UInt8>, origin: Int) {
        for byte in part {
            bytes.append(byte)
            origins.append(Int32(origin))
        }
    }

    mutating func append(scalar: UInt32, origin: Int) {
        let before = bytes.count
        UTF8Text.append(scalar, to: &bytes)
        for _ in before..<bytes.count { origins.append(Int32(origin)) }
    }

    /// Copies a range of the old text as it stands.
    mutating func copy(_ range: Range<Int>, of text: NormalizedText) {
        bytes.append(contentsOf: text.bytes[range])
        for index in range { origins.append(Int32(text.origin(of: index))) }
    }
}
