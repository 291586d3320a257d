extension JSONValue {
    /// The document as UTF-8, without spaces, or with two spaces of indentation.
    ///
    /// Numbers are written so that they read back equal; a non-finite number, for which JSON has no
    /// form, is written as `null`. With `sortedKeys` members are ordered by the bytes of their keys,
    /// which makes the text canonical (equal documents give equal bytes).
    public func serialized(pretty: Bool = false, sortedKeys: Bool = false) -> [UInt8] {
        var writer = JSONWriter(pretty: pretty, sortedKeys: sortedKeys)
        writer.write(self, indent: 0)
        return writer.output
    }

    /// `serialized()` as a string.
    public func text(pretty: Bool = false, sortedKeys: Bool = false) -> String {
        String(decoding: serialized(pretty: pretty, sortedKeys: sortedKeys), as: UTF8.self)
    }
}

struct JSONWriter {
    let pretty: Bool
    let sortedKeys: Bool
    var output: [UInt8] = []

    init(pretty: Bool, sortedKeys: Bool) {
        self.pretty = pretty
        self.sortedKeys = sortedKeys
    }

    mutating func write(_ value: JSONValue, indent: Int) {
        switch value {
        case .null: append("null")
        case .bool(let flag): append(flag ? "true" : "false")
        case .integer(let whole): append(String(whole))
        case .number(let number): append(JSONWriter.text(of: number))
        case .string(let string): write(string)
        case .array(let elements):
            container("[", "]", elements, indent: indent) { writer, element in
                writer.write(element, indent: indent + 1)
            }
        case .object(let object):
            let entries =
                sortedKeys
                ? object.entries.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
                : object.entries
            container("{", "}", entries, indent: indent) { writer, entry in
                writer.write(entry.key)
                writer.append(writer.pretty ? ": " : ":")
                writer.write(entry.value, indent: indent + 1)
            }
        }
    }

    private mutating func container<Element>(
        _ open: String, _ close: String, _ elements: [Element], indent: Int,
        body: (inout JSONWriter, Element) -> Void
    ) {
        append(open)
        for (index, element) in elements.enumerated() {
            if index > 0 { append(",") }
            newline(indent + 1)
            body(&self, element)
        }
        if !elements.isEmpty { newline(indent) }
        append(close)
    }

    private mutating func newline(_ indent: Int) {
        guard pretty else { return }
        output.append(UInt8(ascii: "\n"))
        output.append(contentsOf: repeatElement(UInt8(ascii: " "), count: indent * 2))
    }

    private mutating func append(_ text: String) { output.append(contentsOf: text.utf8) }

    mutating func write(_ string: String) {
        output.append(UInt8(ascii: "\""))
        for byte in string.utf8 {
            switch byte {
            case UInt8(ascii: "\""): append("\\\"")
            case UInt8(ascii: "\\"): append("\\\\")
            case 0x0A: append("\\n")
            case 0x0D: append("\\r")
            case 0x09: append("\\t")
            case 0..<0x20:
                append("\\u00")
                let digits = Array("0123456789abcdef".utf8)
                output.append(digits[Int(byte >> 4)])
                output.append(digits[Int(byte & 15)])
            default: output.append(byte)
            }
        }
        output.append(UInt8(ascii: "\""))
    }

    /// The shortest text that reads back as the same `Double`.
    static func text(of number: Double) -> String { number.isFinite ? "\(number)" : "null" }
}
