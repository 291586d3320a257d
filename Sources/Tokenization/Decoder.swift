import JSONModel
import PatternMatching

/// How token texts become text again; each case does what the component of that name does in the
/// `tokenizers` library (0.23).
indirect enum Decoder: Sendable {
    case sequence([Decoder])
    case byteLevel
    case byteFallback
    case fuse
    case strip(content: [UInt8], start: Int, stop: Int)
    case replaceLiteral([UInt8], content: [UInt8])
    case replace(Pattern, content: [UInt8])
    case metaspace(replacement: [UInt8], dropsFirst: Bool)
    case endOfWord(suffix: [UInt8])
    /// No decoder in the file: tokens are joined by spaces.
    case joinBySpaces

    init(_ json: JSONValue) throws(TokenizerError) {
        let component = Component(json, "decoder")
        switch component.type {
        case "Sequence":
            var parts: [Decoder] = []
            for part in try component.array("decoders") { parts.append(try Decoder(part)) }
            self = .sequence(parts)
        case "ByteLevel": self = .byteLevel
        case "ByteFallback": self = .byteFallback
        case "Fuse": self = .fuse
        case "Strip":
            let (start, stop) = (
                try component.integer("start", default: 0),
                try component.integer("stop", default: 0)
            )
            guard (0...1024).contains(start), (0...1024).contains(stop) else {
                throw component.refused("a start or stop outside of 0...1024")
            }
            self = .strip(
                content: try component.character("content", default: " "), start: start, stop: stop)
        case "Replace":
            let content = Array(try component.string("content").utf8)
            switch try component.pattern() {
            case .literal(let literal):
                self = .replaceLiteral(Array(literal.utf8), content: content)
            case .expression(let source):
                self = .replace(try OnigurumaPattern.compile(source).exact, content: content)
            }
        case "Metaspace":
            let addsPrefix = try component.bool("add_prefix_space", default: true)
            let scheme = try component.string(
                "prepend_scheme", default: addsPrefix ? "always" : "never")
            self = .metaspace(
                replacement: try component.character("replacement", default: "▁"),
                dropsFirst: scheme != "never")
        case "BPEDecoder":
            self = .endOfWord(
                suffix: Array(try component.string("suffix", default: "</w>").utf8))
        default: throw component.unknownType()
        }
    }

    /// The steps in order, sequences flattened.
    var steps: [Decoder] {
        if case .sequence(let parts) = self { return parts.flatMap(\.steps) }
        return [self]
    }
}
