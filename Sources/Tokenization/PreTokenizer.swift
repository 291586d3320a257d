import JSONModel
import PatternMatching

/// A stretch of normalized text, cut into pieces that the model sees one by one.
struct PieceBuffer {
    var text: NormalizedText
    /// In order, not overlapping, none empty.
    var pieces: [Range<Int>]

    init(_ text: NormalizedText) {
        self.text = text
        pieces = text.bytes.isEmpty ? [] : [0..<text.bytes.count]
    }
}

/// What cuts the text into pieces before the model. Each case does what the component of that name
/// does in the `tokenizers` library (0.23).
indirect enum PreTokenizer: Sendable {
    /// How a matched delimiter is treated.
    enum Behavior: String, Sendable {
        case removed = "Removed"
        case isolated = "Isolated"
        case mergedWithPrevious = "MergedWithPrevious"
        case mergedWithNext = "MergedWithNext"
        case contiguous = "Contiguous"
    }

    /// What finds the delimiters.
    enum Delimiter: Sendable {
        case pattern(TextPattern, inverted: Bool)
        case numeric
        case whitespace
        case punctuation
        case character([UInt8])
        /// All but `\w+|[^\w\s]+` of Rust's regular expressions; the pieces are cut where a word ends too.
        case whitespaceAroundWords
    }

    enum PrependScheme: String, Sendable {
        case always
        case first
        case never
    }

    case sequence([PreTokenizer])
    case split(Delimiter, Behavior)
    /// Cuts by GPT-2's regex (if any) and maps bytes to characters.
    case byteLevel(addPrefixSpace: Bool, pattern: TextPattern?)
    case metaspace(replacement: [UInt8], scheme: PrependScheme, splits: Bool)

    /// The regex inside of ByteLevel.
    static let gpt2Pattern =
        #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

    init(_ json: JSONValue) throws(TokenizerError) {
        let component = Component(json, "pre_tokenizer")
        switch component.type {
        case "Sequence":
            var parts: [PreTokenizer] = []
            for part in try component.array("pretokenizers") {
                parts.append(try PreTokenizer(part))
            }
            self = .sequence(parts)
        case "ByteLevel":
            let usesRegex = try component.bool("use_regex", default: true)
            self = .byteLevel(
                addPrefixSpace: try component.bool("add_prefix_space"),
                pattern: usesRegex ? try OnigurumaPattern.compile(Self.gpt2Pattern) : nil)
        case "Split":
            let pattern: TextPattern
            switch try component.pattern() {
            case .literal(let literal): pattern = try OnigurumaPattern.compile(literal: literal)
            case .expression(let source): pattern = try OnigurumaPattern.compile(source)
            }
            self = .split(
                .pattern(pattern, inverted: try component.bool("invert", default: false)),
                try Self.behavior(component, default: nil))
        case "Digits":
            let individual = try component.bool("individual_digits", default: false)
            self = .split(.numeric, individual ? .isolated : .contiguous)
        case "Metaspace": self = try Self.metaspace(component)
        case "WhitespaceSplit": self = .split(.whitespace, .removed)
        case "Whitespace":
            self = .split(.whitespaceAroundWords, .removed)
        case "Punctuation":
            self = .split(.punctuation, try Self.behavior(component, default: .isolated))
        case "CharDelimiterSplit":
            self = .split(.character(try component.character("delimiter", default: "")), .removed)
        default: throw component.unknownType()
        }
    }

    private static func behavior(
        _ component: Component, default value: Behavior?
    ) throws(TokenizerError) -> Behavior {
        let name = try component.string("behavior", default: value?.rawValue)
        guard let behavior = Behavior(rawValue: name) else {
            throw component.refused("the behavior \"\(name)\"")
        }
        return behavior
    }

    private static func metaspace(_ component: Component) throws(TokenizerError) -> PreTokenizer {
        let replacement = try component.character("replacement", default: "▁")
        // Older files say add_prefix_space instead of prepend_scheme.
        let addsPrefix = try component.bool("add_prefix_space", default: true)
        let name = try component.string("prepend_scheme", default: addsPrefix ? "always" : "never")
        guard let scheme = PrependScheme(rawValue: name) else {
            throw component.refused("the prepend_scheme \"\(name)\"")
        }
        return .metaspace(
            replacement: replacement, scheme: scheme,
            splits: try component.bool("split", default: true))
    }

    /// Whether the last step maps bytes, so that the model may read raw bytes instead.
    var endsWithByteLevel: Bool {
        switch self {
        case .byteLevel: true
        case .sequence(let parts): parts.last?.endsWithByteLevel ?? false
        default: false
        }
    }

    /// - Parameter raw: leave the last step's bytes unmapped.
    func apply(
        to buffer: inout PieceBuffer, _ matchers: MatcherSet, raw: Bool
    ) throws(TokenizerError) {
        switch self {
        case .sequence(let parts):
            for (index, part) in parts.enumerated() {
                try part.apply(to: &buffer, matchers, raw: raw && index == parts.count - 1)
            }
        case .split(let delimiter, let behavior):
            try Self.split(&buffer, by: delimiter, behavior, matchers)
        case .byteLevel(let addPrefixSpace, let pattern):
            if addPrefixSpace { prefixPieces(&buffer, [0x20]) { _ in true } }
            if let pattern {
                try Self.split(
                    &buffer, by: .pattern(pattern, inverted: false), .isolated, matchers)
            }
            if !raw { mapPieces(&buffer) }
        case .metaspace(let replacement, let scheme, let splits):
            replaceSpaces(&buffer, by: replacement)
            switch scheme {
            case .always: prefixPieces(&buffer, replacement) { _ in true }
            case .first: prefixPieces(&buffer, replacement) { $0 }
            case .never: break
            }
            if splits {
                try Self.split(&buffer, by: .character(replacement), .mergedWithNext, matchers)
            }
        }
    }
}

// MARK: - Cutting

extension PreTokenizer {
    private static func split(
        _ buffer: inout PieceBuffer, by delimiter: Delimiter, _ behavior: Behavior,
        _ matchers: MatcherSet
    ) throws(TokenizerError) {
        var result: [Range<Int>] = []
        result.reserveCapacity(buffer.pieces.count + buffer.text.bytes.count / 4)
        for piece in buffer.pieces {
            // Handed over and back: a copy for each piece would take quadratic time.
            var parts = SplitCollector(behavior: behavior, taking: &result)
            switch delimiter {
            case .pattern(let pattern, let inverted):
                var position = piece.lowerBound
                let slice = buffer.text.bytes[piece]
                try matchers.forEachMatch(of: pattern, in: slice) { match in
                    let from = piece.lowerBound + match.lowerBound
                    let to = piece.lowerBound + match.upperBound
                    if from > position { parts.add(position..<from, isMatch: inverted) }
                    parts.add(from..<to, isMatch: !inverted)
                    position = to
                }
                if position < piece.upperBound {
                    parts.add(position..<piece.upperBound, isMatch: inverted)
                }
            case .numeric:
                splitScalars(buffer, piece, &parts, CharacterClass.isNumeric)
            case .whitespace:
                splitScalars(buffer, piece, &parts, CharacterClass.isWhitespace)
            case .punctuation:
                splitScalars(buffer, piece, &parts, CharacterClass.isPunctuation)
            case .character(let bytes):
                let wanted = UTF8Text.scalar(in: bytes, at: 0).scalar
                splitScalars(buffer, piece, &parts) { $0 == wanted }
            case .whitespaceAroundWords: splitWords(buffer, piece, &parts)
            }
            result = parts.finish()
        }
        buffer.pieces = result
    }

    @inline(__always)
    private static func splitScalars(
        _ buffer: PieceBuffer, _ piece: Range<Int>, _ parts: inout SplitCollector,
        _ isDelimiter: (UInt32) -> Bool
    ) {
        var start = piece.lowerBound
        var position = start
        while position < piece.upperBound {
            let (scalar, length) = UTF8Text.scalar(in: buffer.text.bytes, at: position)
            if isDelimiter(scalar) {
                if position > start { parts.add(start..<position, isMatch: false) }
                parts.add(position..<(position + length), isMatch: true)
                start = position + length
            }
            position += length
        }
        if start < piece.upperBound { parts.add(start..<piece.upperBound, isMatch: false) }
    }

    private static func splitWords(
        _ buffer: PieceBuffer, _ piece: Range<Int>, _ parts: inout SplitCollector
    ) {
        var start = piece.lowerBound
        var position = start
        var kind: CharacterClass.WordKind?
        while position < piece.upperBound {
            let (scalar, length) = UTF8Text.scalar(in: buffer.text.bytes, at: position)
            let next = CharacterClass.wordKind(scalar)
            if let kind, kind != next {
                parts.add(start..<position, isMatch: kind == .space)
                start = position
            }
            kind = next
            position += length
        }
        if let kind { parts.add(start..<piece.upperBound, isMatch: kind == .space) }
    }

    /// Puts `prefix` before each piece that does not begin with it and of which `wanted` holds (given
    /// whether the piece is at the very start of the text).
    private func prefixPieces(
        _ buffer: inout PieceBuffer, _ prefix: [UInt8], _ wanted: (Bool) -> Bool
    ) {
        let text = buffer.text
        func needs(_ piece: Range<Int>) -> Bool {
            wanted(piece.lowerBound == 0 && text.startsAtOrigin)
                && !text.bytes[piece].starts(with: prefix)
        }
        guard buffer.pieces.contains(where: needs) else { return }
        rewrite(&buffer) { rewriter, piece in
            if needs(piece) {
                rewriter.append(prefix, origin: text.origin(of: piece.lowerBound))
            }
            rewriter.copy(piece, of: text)
        }
    }

    private func replaceSpaces(_ buffer: inout PieceBuffer, by replacement: [UInt8]) {
        let text = buffer.text
        guard text.bytes.contains(0x20) else { return }
        rewrite(&buffer) { rewriter, piece in
            for index in piece {
                if text.bytes[index] == 0x20 {
                    rewriter.append(replacement, origin: text.origin(of: index))
                } else {
                    rewriter.copy(index..<(index + 1), of: text)
                }
            }
        }
    }

    private func mapPieces(_ buffer: inout PieceBuffer) {
        let text = buffer.text
        rewrite(&buffer) { rewriter, piece in
            for index in piece {
                rewriter.append(
                    scalar: ByteAlphabet.scalars[Int(text.bytes[index])],
                    origin: text.origin(of: index))
            }
        }
    }

    private func rewrite(
        _ buffer: inout PieceBuffer, _ body: (inout TextRewriter, Range<Int>) -> Void
    ) {
        var rewriter = buffer.text.rewriter()
        var pieces: [Range<Int>] = []
        pieces.reserveCapacity(buffer.pieces.count)
        for piece in buffer.pieces {
            let start = rewriter.bytes.count
            body(&rewriter, piece)
            if rewriter.bytes.count > start { pieces.append(start..<rewriter.bytes.count) }
        }
        if let first = buffer.pieces.first, first.lowerBound > 0 {
            buffer.text.startsAtOrigin = false
        }
        buffer.text.take(rewriter)
        buffer.pieces = pieces
    }
}

/// Joins stretches of text and delimiters into pieces by a behavior; empty ones fall out.
private struct SplitCollector {
    let behavior: PreTokenizer.Behavior
    private var pieces: [Range<Int>]
    private let start: Int
    private var previousMatch = false

    /// - Parameter pieces: Those so far; `finish` gives them back with the new ones.
    init(behavior: PreTokenizer.Behavior, taking pieces: inout [Range<Int>]) {
        self.behavior = behavior
        start = pieces.count
        self.pieces = []
        swap(&self.pieces, &pieces)
    }

    /// Adds the next stretch; stretches cover the text from left to right.
    mutating func add(_ range: Range<Int>, isMatch: Bool) {
        switch behavior {
        case .isolated:
            if !range.isEmpty { pieces.append(range) }
        case .removed:
            if !isMatch, !range.isEmpty { pieces.append(range) }
        case .contiguous:
            if isMatch == previousMatch, pieces.count > start {
                extend(to: range.upperBound)
            } else {
                pieces.append(range)
            }
            previousMatch = isMatch
        case .mergedWithPrevious:
            if isMatch, !previousMatch, pieces.count > start {
                extend(to: range.upperBound)
            } else {
                pieces.append(range)
            }
            previousMatch = isMatch
        case .mergedWithNext:
            // A delimiter takes the text after it; of several in a row only the last does.
            if !isMatch, previousMatch, pieces.count > start {
                extend(to: range.upperBound)
            } else {
                pieces.append(range)
            }
            previousMatch = isMatch
        }
    }

    private mutating func extend(to end: Int) {
        let last = pieces.count - 1
        pieces[last] = pieces[last].lowerBound..<end
    }

    mutating func finish() -> [Range<Int>] {
        switch behavior {
        case .isolated, .removed: break
        default:
            var kept = start
            for index in start..<pieces.count where !pieces[index].isEmpty {
                pieces[kept] = pieces[index]
                kept += 1
            }
            pieces.removeLast(pieces.count - kept)
        }
        var result: [Range<Int>] = []
        swap(&result, &pieces)
        return result
    }
}
