/// MarkupSafe's escaping.
enum HTMLText {
    static func escape(_ value: Value) -> Text {
        if case .string(let text) = value, text.isSafe { return text }
        return Text(escaped(PythonRepr.string(value)), isSafe: true)
    }

    static func escaped(_ bytes: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "&"): result += "&amp;".utf8
            case UInt8(ascii: "<"): result += "&lt;".utf8
            case UInt8(ascii: ">"): result += "&gt;".utf8
            case UInt8(ascii: "'"): result += "&#39;".utf8
            case UInt8(ascii: "\""): result += "&#34;".utf8
            default: result.append(byte)
            }
        }
        return result
    }

    /// `striptags`: comments and tags fall out, white space shrinks, common entities are read.
    static func withoutTags(_ bytes: [UInt8]) -> [UInt8] {
        func removing(_ text: [UInt8], _ open: String, _ close: String) -> [UInt8] {
            var result: [UInt8] = []
            var rest = text[...]
            while let start = PythonText.occurrences(of: Array(open.utf8), in: rest, limit: 1)
                .first,
                let end = PythonText.occurrences(
                    of: Array(close.utf8), in: rest[start...], limit: 1
                ).first
            {
                result += rest[..<start]
                rest = rest[(end + close.utf8.count)...]
            }
            return result + rest
        }
        let plain = removing(removing(bytes, "<!--", "-->"), "<", ">")
        var text = Array(PythonText.splitAtSpace(plain).joined(separator: [0x20]))
        for (entity, character) in [
            ("&lt;", "<"), ("&gt;", ">"), ("&#39;", "'"), ("&#34;", "\""), ("&quot;", "\""),
            ("&amp;", "&"),
        ] {
            text = PythonText.replacing(text, Array(entity.utf8), by: Array(character.utf8))
        }
        return text
    }
}
