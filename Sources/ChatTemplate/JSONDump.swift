/// `json.dumps` as the `tojson` of transformers calls it.
struct JSONDump {
    var ensuresASCII = false
    /// Text of one level of indentation; nil for one line.
    var indent: [UInt8]?
    var itemSeparator: [UInt8] = Array(", ".utf8)
    var keySeparator: [UInt8] = Array(": ".utf8)
    var sortsKeys = false

    private static let maximumDepth = 200

    func dump(_ value: Value) throws -> [UInt8] {
        var output: [UInt8] = []
        try write(value, level: 0, &output)
        return output
    }

    private func write(_ value: Value, level: Int, _ output: inout [UInt8]) throws {
        guard level < Self.maximumDepth else {
            throw TemplateError("LimitError", "tojson: nested deeper than \(Self.maximumDepth)")
        }
        switch value {
        case .none: output += "null".utf8
        case .bool(let flag): output += (flag ? "true" : "false").utf8
        case .int, .big: output += PythonRepr.repr(value).utf8
        case .float(let number): output += Self.text(of: number).utf8
        case .string(let text): writeString(text.bytes, &output)
        case .list(let items), .tuple(let items):
            try container("[", "]", items.count, level, &output) { index, output in
                try write(items[index], level: level + 1, &output)
            }
        case .dictionary(let dictionary):
            var entries: [(key: [UInt8], value: Value)] = []
            var sortable = dictionary.entries
            if sortsKeys {
                sortable = try sortable.sorted { try PythonCompare.less($0.key, $1.key) }
            }
            for (key, value) in sortable { entries.append((try Self.key(key), value)) }
            try container("{", "}", entries.count, level, &output) { index, output in
                writeString(entries[index].key, &output)
                output += keySeparator
                try write(entries[index].value, level: level + 1, &output)
            }
        default:
            throw TemplateError(
                "TypeError", "Object of type \(value.typeName) is not JSON serializable")
        }
    }

    private func container(
        _ open: String, _ close: String, _ count: Int, _ level: Int, _ output: inout [UInt8],
        _ element: (Int, inout [UInt8]) throws -> Void
    ) throws {
        output += open.utf8
        for index in 0..<count {
            if index > 0 { output += itemSeparator }
            newline(level + 1, &output)
            try element(index, &output)
        }
        if count > 0 { newline(level, &output) }
        output += close.utf8
    }

    private func newline(_ level: Int, _ output: inout [UInt8]) {
        guard let indent else { return }
        output.append(0x0A)
        for _ in 0..<level { output += indent }
    }

    private static func key(_ key: Value) throws -> [UInt8] {
        switch key {
        case .string(let text): return text.bytes
        case .none: return Array("null".utf8)
        case .bool(let flag): return Array((flag ? "true" : "false").utf8)
        case .int, .big: return Array(PythonRepr.repr(key).utf8)
        case .float(let number): return Array(text(of: number).utf8)
        default:
            throw TemplateError(
                "TypeError",
                "keys must be str, int, float, bool or None, not \(key.typeName)")
        }
    }

    private static func text(of number: Double) -> String {
        number.isNaN
            ? "NaN"
            : number.isInfinite
                ? (number < 0 ? "-Infinity" : "Infinity") : PythonRepr.text(of: number)
    }

    private func writeString(_ bytes: [UInt8], _ output: inout [UInt8]) {
        output.append(UInt8(ascii: "\""))
        var position = 0
        while position < bytes.count {
            let byte = bytes[position]
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): output += [UInt8(ascii: "\\"), byte]
            case 0x0A: output += "\\n".utf8
            case 0x0D: output += "\\r".utf8
            case 0x09: output += "\\t".utf8
            case 0x08: output += "\\b".utf8
            case 0x0C: output += "\\f".utf8
            case ..<0x20: output += ("\\u" + PythonRepr.hex(UInt32(byte), 4)).utf8
            default:
                guard ensuresASCII, byte >= 0x7F else {
                    output.append(byte)
                    break
                }
                let (scalar, length) = PythonText.scalar(in: bytes, at: position)
                if byte == 0x7F {
                    output.append(byte)
                } else {
                    for unit in String(Unicode.Scalar(scalar) ?? "\u{FFFD}").utf16 {
                        output += ("\\u" + PythonRepr.hex(UInt32(unit), 4)).utf8
                    }
                }
                position += length - 1
            }
            position += 1
        }
        output.append(UInt8(ascii: "\""))
    }
}
