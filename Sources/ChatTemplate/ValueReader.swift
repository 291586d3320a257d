import JSONModel

/// Reads JSON straight into template values, keeping whole numbers of any length as Python does.
///
/// The text must have been accepted by `JSONValue.parse` before: this reader checks only what it
/// needs to stay within bounds.
struct ValueReader {
    private let bytes: [UInt8]
    private var position = 0

    /// - Throws: `JSONError` if the text is no JSON.
    static func read(_ bytes: [UInt8]) throws(JSONError) -> Value {
        _ = try JSONValue.parse(bytes)
        var reader = ValueReader(bytes: bytes)
        return reader.value()
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    private var current: UInt8 { position < bytes.count ? bytes[position] : 0 }

    private mutating func skipSpace() {
        while position < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[position]) {
            position += 1
        }
    }

    private mutating func value() -> Value {
        skipSpace()
        defer { skipSpace() }
        switch current {
        case UInt8(ascii: "{"): return object()
        case UInt8(ascii: "["): return array()
        case UInt8(ascii: "\""): return .string(string())
        case UInt8(ascii: "t"):
            position += 4
            return .bool(true)
        case UInt8(ascii: "f"):
            position += 5
            return .bool(false)
        case UInt8(ascii: "n"):
            position += 4
            return .none
        default: return number()
        }
    }

    private mutating func object() -> Value {
        let result = PythonDict()
        position += 1
        skipSpace()
        while position < bytes.count, current != UInt8(ascii: "}") {
            let key = string()
            skipSpace()
            position += 1
            result.set(.text(key), .string(key), value())
            if current == UInt8(ascii: ",") { position += 1 }
            skipSpace()
        }
        position += 1
        return .dictionary(result)
    }

    private mutating func array() -> Value {
        var items: [Value] = []
        position += 1
        skipSpace()
        while position < bytes.count, current != UInt8(ascii: "]") {
            items.append(value())
            if current == UInt8(ascii: ",") { position += 1 }
            skipSpace()
        }
        position += 1
        return .list(ValueItems(items))
    }

    private mutating func string() -> Text {
        let start = position
        position += 1
        while position < bytes.count, current != UInt8(ascii: "\"") {
            position += current == UInt8(ascii: "\\") ? 2 : 1
        }
        position = min(position + 1, bytes.count)
        let literal = Array(bytes[start..<position])
        return Text((try? JSONValue.parse(literal))?.string ?? "")
    }

    private mutating func number() -> Value {
        let start = position
        while position < bytes.count, "+-.eE0123456789".utf8.contains(current) { position += 1 }
        if position == start { position += 1 }
        let text = String(decoding: bytes[start..<min(position, bytes.count)], as: UTF8.self)
        if let number = Int(text) { return .int(number) }
        if let big = BigInteger(decimal: text) { return big.value }
        return .float(Double(text) ?? .nan)
    }
}
