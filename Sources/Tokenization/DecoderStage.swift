import PatternMatching

/// One step of decoding as a machine that is fed token by token.
///
/// A stage gets whole tokens until a stage before it has fused them; from then on it gets fragments of
/// one long token. What comes out never changes afterwards, so streaming and plain decoding are one.
struct DecoderStage {
    private let step: Decoder
    /// Whether the input is fragments of one token instead of tokens.
    private let takesFragments: Bool
    private var pending: [UInt8] = []
    private var runOfBytes: [UInt8] = []
    /// How many U+FFFD at the start of the run have been given out.
    private var certain = 0
    private var stripped = 0
    private var stripping = true
    private var isFirst = true
    private var utf8 = LossyUTF8()
    private var held: [UInt8]?
    private let matcher: PatternMatcher?

    init(_ step: Decoder, takesFragments: Bool) {
        self.step = step
        self.takesFragments = takesFragments
        if case .replace(let pattern, _) = step {
            matcher = try? PatternMatcher(pattern)
        } else {
            matcher = nil
        }
    }

    /// Whether what comes out is fragments of one token.
    var givesFragments: Bool {
        switch step {
        case .byteLevel, .fuse: true
        default: takesFragments
        }
    }

    mutating func push(_ token: ArraySlice<UInt8>, _ emit: (ArraySlice<UInt8>) -> Void) {
        switch step {
        case .byteLevel:
            let bytes = ByteAlphabet.bytes(of: token)
            let text = utf8.push(bytes.map { $0[...] } ?? token)
            if !text.isEmpty { emit(text[...]) }
        case .byteFallback:
            if let byte = ByteFallback.byte(of: token) {
                pushByte(byte, emit)
            } else {
                flushRun(emit)
                emit(token)
            }
        case .fuse, .sequence: emit(token)
        case .strip(let content, let start, let stop):
            if takesFragments {
                stripFragment(token, content, start, stop, emit)
            } else {
                emit(Self.stripped(token, content, start, stop))
            }
        case .replaceLiteral, .replace:
            if takesFragments { pending.append(contentsOf: token) } else { emit(replaced(token)) }
        case .metaspace(let replacement, let dropsFirst):
            let content: [UInt8] = isFirst && dropsFirst ? [] : [0x20]
            isFirst = isFirst && takesFragments && token.isEmpty
            emit(Self.replacing(token, replacement, by: content))
        case .endOfWord(let suffix):
            // The last token's suffix falls away, all others' become a space: one token is held back.
            if let held { emit(Self.replacing(held[...], suffix, by: [0x20])) }
            held = Array(token)
        case .joinBySpaces:
            if !isFirst { emit([0x20]) }
            isFirst = false
            emit(token)
        }
    }

    mutating func finish(_ emit: (ArraySlice<UInt8>) -> Void) {
        switch step {
        case .byteLevel:
            let rest = utf8.finish()
            if !rest.isEmpty { emit(rest[...]) }
        case .byteFallback: flushRun(emit)
        case .strip(let content, _, let stop):
            guard takesFragments else { return }
            // The held part ends the text: cut up to `stop` of the content from its end.
            var end = pending.count
            var cut = 0
            while cut < stop, end >= content.count,
                pending[(end - content.count)..<end].elementsEqual(content)
            {
                end -= content.count
                cut += 1
            }
            if end > 0 { emit(pending[..<end]) }
            pending = []
        case .replaceLiteral, .replace:
            guard takesFragments else { return }
            emit(replaced(pending[...]))
            pending = []
        case .endOfWord(let suffix):
            if let held { emit(Self.replacing(held[...], suffix, by: [])) }
            held = nil
        default: break
        }
    }

    /// One bad byte in a run of byte tokens makes every byte of the run a replacement character, so
    /// nothing of a run is certain before it ends or breaks; but for U+FFFD at its start, which stands
    /// there either way.
    private mutating func pushByte(_ byte: UInt8, _ emit: (ArraySlice<UInt8>) -> Void) {
        runOfBytes.append(byte)
        if !utf8.isBroken { _ = utf8.push([byte]) }
        if utf8.isBroken {
            breakRun(emit)
        } else if runOfBytes.count == 3 * (certain + 1),
            runOfBytes.suffix(3).elementsEqual(LossyUTF8.replacement)
        {
            emit(LossyUTF8.replacement[...])
            certain += 1
        }
    }

    private mutating func breakRun(_ emit: (ArraySlice<UInt8>) -> Void) {
        for _ in 0..<(runOfBytes.count - certain) { emit(LossyUTF8.replacement[...]) }
        runOfBytes.removeAll(keepingCapacity: true)
        certain = 0
    }

    private mutating func flushRun(_ emit: (ArraySlice<UInt8>) -> Void) {
        if !utf8.isBroken { _ = utf8.finish() }
        if utf8.isBroken {
            breakRun(emit)
        } else if runOfBytes.count > 3 * certain {
            emit(runOfBytes[(3 * certain)...])
        }
        runOfBytes.removeAll(keepingCapacity: true)
        certain = 0
        utf8 = LossyUTF8()
    }

    private mutating func stripFragment(
        _ token: ArraySlice<UInt8>, _ content: [UInt8], _ start: Int, _ stop: Int,
        _ emit: (ArraySlice<UInt8>) -> Void
    ) {
        var rest = token
        while stripping, !rest.isEmpty {
            guard stripped < start, rest.starts(with: content) else {
                stripping = false
                break
            }
            rest = rest.dropFirst(content.count)
            stripped += 1
        }
        guard stop > 0 else {
            if !rest.isEmpty { emit(rest) }
            return
        }
        // Hold back a tail of the content, which may turn out to be the end.
        pending.append(contentsOf: rest)
        var tail = pending.count
        var count = 0
        while count < stop, tail >= content.count,
            pending[(tail - content.count)..<tail].elementsEqual(content)
        {
            tail -= content.count
            count += 1
        }
        if tail > 0 {
            emit(pending[..<tail])
            pending.removeFirst(tail)
        }
    }

    private static func stripped(
        _ token: ArraySlice<UInt8>, _ content: [UInt8], _ start: Int, _ stop: Int
    ) -> ArraySlice<UInt8> {
        var rest = token
        var count = 0
        while count < start, rest.starts(with: content) {
            rest = rest.dropFirst(content.count)
            count += 1
        }
        count = 0
        while count < stop, rest.count >= content.count,
            rest.suffix(content.count).elementsEqual(content)
        {
            rest = rest.dropLast(content.count)
            count += 1
        }
        return rest
    }

    private func replaced(_ token: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        switch step {
        case .replaceLiteral(let literal, let content):
            return Self.replacing(token, literal, by: content)
        case .replace(_, let content):
            guard let matcher else { return token }
            var result: [UInt8] = []
            var position = token.startIndex
            try? matcher.forEachMatch(inValidUTF8: token) { match in
                result.append(
                    contentsOf: token[position..<(token.startIndex + match.lowerBound)])
                result.append(contentsOf: content)
                position = token.startIndex + match.upperBound
            }
            result.append(contentsOf: token[position...])
            return result[...]
        default: return token
        }
    }

    private static func replacing(
        _ token: ArraySlice<UInt8>, _ literal: [UInt8], by content: [UInt8]
    ) -> ArraySlice<UInt8> {
        guard let first = literal.first, token.contains(first) else { return token }
        let bytes = Array(token)
        var result: [UInt8] = []
        var position = 0
        ByteSearch.forEachOccurrence(of: literal, in: bytes) { match in
            result.append(contentsOf: bytes[position..<match.lowerBound])
            result.append(contentsOf: content)
            position = match.upperBound
        }
        result.append(contentsOf: bytes[position...])
        return result[...]
    }
}

/// UTF-8 decoding that replaces each maximal ill-formed part by U+FFFD, fed piece by piece.
struct LossyUTF8 {
    static let replacement: [UInt8] = [0xEF, 0xBF, 0xBD]

    private var partial: [UInt8] = []
    private var missing = 0
    /// The values that the next continuation byte may have.
    private var lower: UInt8 = 0x80
    private var upper: UInt8 = 0xBF
    /// Whether something had to be replaced.
    private(set) var isBroken = false

    /// The characters that are complete with these bytes.
    mutating func push(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count + 3)
        for byte in bytes {
            if missing > 0 {
                if byte >= lower, byte <= upper {
                    partial.append(byte)
                    missing -= 1
                    (lower, upper) = (0x80, 0xBF)
                    if missing == 0 {
                        result.append(contentsOf: partial)
                        partial.removeAll(keepingCapacity: true)
                    }
                    continue
                }
                result.append(contentsOf: Self.replacement)
                isBroken = true
                partial.removeAll(keepingCapacity: true)
                missing = 0
            }
            start(byte, &result)
        }
        return result
    }

    private mutating func start(_ byte: UInt8, _ result: inout [UInt8]) {
        (lower, upper) = (0x80, 0xBF)
        switch byte {
        case ..<0x80:
            result.append(byte)
            return
        case 0xC2...0xDF: missing = 1
        case 0xE0: (missing, lower) = (2, 0xA0)
        case 0xED: (missing, upper) = (2, 0x9F)
        case 0xE1...0xEF: missing = 2
        case 0xF0: (missing, lower) = (3, 0x90)
        case 0xF4: (missing, upper) = (3, 0x8F)
        case 0xF1...0xF3: missing = 3
        default:
            result.append(contentsOf: Self.replacement)
            isBroken = true
            return
        }
        partial.append(byte)
    }

    /// What is left of a character that never became complete.
    mutating func finish() -> [UInt8] {
        defer { (partial, missing) = ([], 0) }
        guard missing > 0 else { return [] }
        isBroken = true
        return Self.replacement
    }
}
