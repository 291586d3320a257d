import JSONModel
import PatternMatching

/// What is done to the text before it is split, piece by piece between added tokens.
///
/// Each case does what the component of that name does in the `tokenizers` library (0.23).
indirect enum Normalizer: Sendable {
    case sequence([Normalizer])
    case unicode(UnicodeNormalization.Form)
    case lowercase
    case strip(left: Bool, right: Bool)
    case stripAccents
    case replace(TextPattern, content: [UInt8])
    case replaceLiteral([UInt8], content: [UInt8])
    case prepend([UInt8])
    case precompiled(PrecompiledCharsmap)
    case byteLevel

    init(_ json: JSONValue) throws(TokenizerError) {
        let component = Component(json, "normalizer")
        switch component.type {
        case "Sequence":
            var parts: [Normalizer] = []
            for part in try component.array("normalizers") { parts.append(try Normalizer(part)) }
            self = .sequence(parts)
        case "NFC": self = .unicode(.nfc)
        case "NFD": self = .unicode(.nfd)
        case "NFKC": self = .unicode(.nfkc)
        case "NFKD": self = .unicode(.nfkd)
        case "Lowercase": self = .lowercase
        case "Strip":
            self = .strip(
                left: try component.bool("strip_left", default: true),
                right: try component.bool("strip_right", default: true))
        case "StripAccents": self = .stripAccents
        case "Replace":
            let content = Array(try component.string("content").utf8)
            switch try component.pattern() {
            case .literal(let literal):
                guard !literal.isEmpty else {
                    throw component.refused("an empty string as pattern")
                }
                self = .replaceLiteral(Array(literal.utf8), content: content)
            case .expression(let source):
                self = .replace(try OnigurumaPattern.compile(source), content: content)
            }
        case "Prepend": self = .prepend(Array(try component.string("prepend").utf8))
        case "Precompiled":
            self = .precompiled(
                try PrecompiledCharsmap(base64: try component.string("precompiled_charsmap")))
        case "ByteLevel": self = .byteLevel
        default: throw component.unknownType()
        }
    }

    func apply(
        to text: inout NormalizedText, _ matchers: MatcherSet
    ) throws(TokenizerError) {
        switch self {
        case .sequence(let parts):
            for part in parts { try part.apply(to: &text, matchers) }
        case .unicode(let form):
            guard !UnicodeNormalization.isUnchanged(text.bytes, by: form) else { return }
            var rewriter = text.rewriter()
            for element in UnicodeNormalization.normalize(text.elements(), to: form) {
                rewriter.append(scalar: element.scalar, origin: Int(element.origin))
            }
            text.take(rewriter)
        case .lowercase: text.lowercase()
        case .strip(let left, let right): text.strip(left: left, right: right)
        case .stripAccents: text.removeMarks()
        case .replaceLiteral(let literal, let content):
            var matches: [Range<Int>] = []
            ByteSearch.forEachOccurrence(of: literal, in: text.bytes) { matches.append($0) }
            text.replace(matches, by: content)
        case .replace(let pattern, let content):
            var matches: [Range<Int>] = []
            try matchers.forEachMatch(of: pattern, in: text.bytes[...]) { matches.append($0) }
            text.replace(matches, by: content)
        case .prepend(let content):
            guard !text.bytes.isEmpty else { return }
            text.prepend(content)
        case .precompiled(let charsmap): charsmap.apply(to: &text)
        case .byteLevel: text.mapBytes()
        }
    }
}

extension NormalizedText {
    mutating func prepend(_ content: [UInt8]) {
        var rewriter = rewriter()
        rewriter.append(content, origin: origin(of: 0))
        rewriter.copy(0..<bytes.count, of: self)
        take(rewriter)
    }

    fileprivate mutating func lowercase() {
        var rewriter = rewriter()
        for element in elements() {
            let origin = Int(element.origin)
            if element.scalar < 0x80 {
                let isUpper = element.scalar >= 0x41 && element.scalar <= 0x5A
                rewriter.append(
                    scalar: isUpper ? element.scalar + 32 : element.scalar, origin: origin)
            } else if let scalar = Unicode.Scalar(element.scalar) {
                rewriter.append(scalar.properties.lowercaseMapping.utf8, origin: origin)
            }
        }
        take(rewriter)
    }

    fileprivate mutating func strip(left: Bool, right: Bool) {
        var range = 0..<bytes.count
        while left, !range.isEmpty {
            let (scalar, length) = UTF8Text.scalar(in: bytes, at: range.lowerBound)
            guard CharacterClass.isWhitespace(scalar) else { break }
            range = (range.lowerBound + length)..<range.upperBound
        }
        while right, !range.isEmpty {
            let (scalar, length) = UTF8Text.scalar(in: bytes, before: range.upperBound)
            guard CharacterClass.isWhitespace(scalar) else { break }
            range = range.lowerBound..<(range.upperBound - length)
        }
        if range.count < bytes.count { keep(range) }
    }

    fileprivate mutating func removeMarks() {
        guard bytes.contains(where: { $0 >= 0x80 }) else { return }
        var rewriter = rewriter()
        let elements = elements()
        if let first = elements.first, CharacterClass.isCombining(first.scalar) {
            startsAtOrigin = false
        }
        for element in elements where !CharacterClass.isCombining(element.scalar) {
            rewriter.append(scalar: element.scalar, origin: Int(element.origin))
        }
        take(rewriter)
    }

    fileprivate mutating func replace(_ matches: [Range<Int>], by content: [UInt8]) {
        guard let first = matches.first else { return }
        if first.lowerBound == 0, !first.isEmpty {
            // The library lets the new text stem from the last character that it takes the place of.
            var last = first.upperBound - 1
            while last > 0, bytes[last] & 0xC0 == 0x80 { last -= 1 }
            if content.isEmpty || origin(of: last) > 0 { startsAtOrigin = false }
        }
        var rewriter = rewriter()
        var position = 0
        for match in matches {
            rewriter.copy(position..<match.lowerBound, of: self)
            rewriter.append(content, origin: origin(of: match.lowerBound))
            position = match.upperBound
        }
        rewriter.copy(position..<bytes.count, of: self)
        take(rewriter)
    }

    fileprivate mutating func mapBytes() {
        var rewriter = rewriter()
        for (index, byte) in bytes.enumerated() {
            rewriter.append(scalar: ByteAlphabet.scalars[Int(byte)], origin: origin(of: index))
        }
        take(rewriter)
    }
}

enum ByteSearch {
    /// Occurrences from left to right that do not overlap.
    static func forEachOccurrence(
        of needle: [UInt8], in bytes: [UInt8], _ body: (Range<Int>) -> Void
    ) {
        guard let first = needle.first, bytes.count >= needle.count else { return }
        var position = 0
        let last = bytes.count - needle.count
        while position <= last {
            if bytes[position] == first,
                bytes[position..<(position + needle.count)].elementsEqual(needle)
            {
                body(position..<(position + needle.count))
                position += needle.count
            } else {
                position += 1
            }
        }
    }
}
