/// SentencePiece's precompiled character map: a Darts double array from byte sequences to offsets of
/// NUL-terminated replacements. Source: `spm_precompiled` of the `tokenizers` library.
struct PrecompiledCharsmap: Sendable {
    private let units: [UInt32]
    private let replacements: [UInt8]

    /// - Parameter base64: the `precompiled_charsmap` of the file.
    init(base64: String) throws(TokenizerError) {
        guard let bytes = Self.decode(base64: base64), bytes.count >= 4 else {
            throw TokenizerError(.malformed, "normalizer Precompiled: the charsmap is not base64")
        }
        let size = (0..<4).reduce(0) { $0 | Int(bytes[$1]) << (8 * $1) }
        guard size % 4 == 0, size > 0, size <= bytes.count - 4 else {
            throw TokenizerError(
                .malformed,
                "normalizer Precompiled: the charsmap claims \(size) bytes of trie in \(bytes.count)"
            )
        }
        units = (0..<(size / 4)).map { unit in
            (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[4 + unit * 4 + $1]) << UInt32(8 * $1) }
        }
        replacements = Array(bytes[(4 + size)...])
    }

    /// Each grapheme of less than six bytes is looked up as a whole, then each of its characters. As
    /// in the library the shortest entry that begins the key decides.
    func apply(to text: inout NormalizedText) {
        let original = String(decoding: text.bytes, as: UTF8.self)
        var rewriter = text.rewriter()
        var position = 0
        for grapheme in original {
            let bytes = Array(grapheme.utf8)
            if bytes.count < 6, let replacement = replacement(for: bytes[...]) {
                note(replacement, at: position, &text)
                rewriter.append(replacement, origin: text.origin(of: position))
                position += bytes.count
                continue
            }
            var index = 0
            while index < bytes.count {
                let length = UTF8Text.scalar(in: bytes, at: index).length
                let character = bytes[index..<(index + length)]
                if let replacement = replacement(for: character) {
                    note(replacement, at: position, &text)
                    rewriter.append(replacement, origin: text.origin(of: position))
                } else {
                    rewriter.append(character, origin: text.origin(of: position))
                }
                index += length
                position += length
            }
        }
        text.take(rewriter)
    }

    private func note(
        _ replacement: ArraySlice<UInt8>, at position: Int, _ text: inout NormalizedText
    ) {
        if position == 0, replacement.isEmpty { text.startsAtOrigin = false }
    }

    private func replacement(for key: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        guard let start = firstPrefixValue(of: key), start <= replacements.count else { return nil }
        let end = replacements[start...].firstIndex(of: 0) ?? replacements.count
        return replacements[start..<end]
    }

    /// The value of the shortest key that begins `key`. Every index is checked: units come from a file.
    private func firstPrefixValue(of key: ArraySlice<UInt8>) -> Int? {
        var node = Self.offset(units[0])
        for byte in key {
            if byte == 0 { return nil }
            node ^= Int(byte)
            guard node < units.count, units[node] & 0x8000_00FF == UInt32(byte) else { return nil }
            let unit = units[node]
            node ^= Self.offset(unit)
            if unit >> 8 & 1 == 1 {
                guard node < units.count else { return nil }
                return Int(units[node] & 0x7FFF_FFFF)
            }
        }
        return nil
    }

    private static func offset(_ unit: UInt32) -> Int {
        Int(unit >> 10) << Int((unit & (1 << 9)) >> 6)
    }

    private static func decode(base64: String) -> [UInt8]? {
        var result: [UInt8] = []
        var buffer: UInt32 = 0
        var bits: UInt32 = 0
        for character in base64.utf8 {
            let value: UInt32
            switch character {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = UInt32(character) - 65
            case UInt8(ascii: "a")...UInt8(ascii: "z"): value = UInt32(character) - 71
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = UInt32(character) + 4
            case UInt8(ascii: "+"): value = 62
            case UInt8(ascii: "/"): value = 63
            case UInt8(ascii: "="): continue
            default: return nil
            }
            buffer = (buffer & 0xFF) << 6 | value
            bits += 6
            if bits >= 8 {
                bits -= 8
                result.append(UInt8(truncatingIfNeeded: buffer >> bits))
            }
        }
        return result
    }
}
