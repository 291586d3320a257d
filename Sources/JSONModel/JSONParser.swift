/// Why a text is not the JSON document that was expected, and where.
public struct JSONError: Error, Sendable, Equatable, CustomStringConvertible {
    public let message: String
    /// Bytes from the start of the text.
    public let offset: Int
    /// From 1; columns count bytes.
    public let line: Int
    public let column: Int

    public var description: String { "line \(line), column \(column): \(message)" }
}

extension JSONValue {
    /// Reads one document of RFC 8259, strictly: no comments, no trailing commas, no NaN, valid UTF-8,
    /// no repeated keys, nothing after it.
    ///
    /// Memory stays proportional to the text. Lone surrogates (`\ud800`) are refused, since no UTF-8
    /// string can hold them.
    ///
    /// - Parameter maximumDepth: How deep arrays and objects may nest.
    /// - Throws: `JSONError` with the place of the first fault.
    public static func parse(
        _ bytes: UnsafeRawBufferPointer, maximumDepth: Int = 128
    ) throws(JSONError) -> JSONValue {
        var parser = JSONParser(bytes: bytes, maximumDepth: maximumDepth)
        return try parser.document()
    }

    public static func parse(
        _ bytes: [UInt8], maximumDepth: Int = 128
    ) throws(JSONError) -> JSONValue {
        let result = bytes.withUnsafeBytes { buffer -> Result<JSONValue, JSONError> in
            do throws(JSONError) {
                return .success(try parse(buffer, maximumDepth: maximumDepth))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    public static func parse(
        _ text: String, maximumDepth: Int = 128
    ) throws(JSONError) -> JSONValue {
        try parse(Array(text.utf8), maximumDepth: maximumDepth)
    }
}

/// One pass over the bytes of a document.
struct JSONParser {
    private let bytes: UnsafeRawBufferPointer
    private let maximumDepth: Int
    private var position = 0

    init(bytes: UnsafeRawBufferPointer, maximumDepth: Int) {
        self.bytes = bytes
        self.maximumDepth = maximumDepth
    }

    mutating func document() throws(JSONError) -> JSONValue {
        skipWhitespace()
        let value = try self.value(depth: 0)
        skipWhitespace()
        guard position == bytes.count else { throw fault("unexpected text after the document") }
        return value
    }

    private func fault(_ message: String, at offset: Int? = nil) -> JSONError {
        let end = min(offset ?? position, bytes.count)
        var line = 1
        var lineStart = 0
        for index in 0..<end where bytes[index] == UInt8(ascii: "\n") {
            line += 1
            lineStart = index + 1
        }
        return JSONError(message: message, offset: end, line: line, column: end - lineStart + 1)
    }

    private mutating func skipWhitespace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0A, 0x0D: position += 1
            default: return
            }
        }
    }

    private mutating func value(depth: Int) throws(JSONError) -> JSONValue {
        guard position < bytes.count else { throw fault("unexpected end of text") }
        switch bytes[position] {
        case UInt8(ascii: "{"): return try object(depth: depth + 1)
        case UInt8(ascii: "["): return try array(depth: depth + 1)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try literal("true", .bool(true))
        case UInt8(ascii: "f"): return try literal("false", .bool(false))
        case UInt8(ascii: "n"): return try literal("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        default: throw fault("unexpected character")
        }
    }

    private mutating func literal(
        _ word: StaticString, _ value: JSONValue
    ) throws(JSONError) -> JSONValue {
        let length = word.utf8CodeUnitCount
        guard position + length <= bytes.count,
            (0..<length).allSatisfy({ bytes[position + $0] == word.utf8Start[$0] })
        else { throw fault("unexpected word") }
        position += length
        return value
    }

    private mutating func array(depth: Int) throws(JSONError) -> JSONValue {
        guard depth <= maximumDepth else { throw fault("nested deeper than \(maximumDepth)") }
        position += 1
        var elements: [JSONValue] = []
        skipWhitespace()
        if peek(UInt8(ascii: "]")) { return .array(elements) }
        while true {
            skipWhitespace()
            elements.append(try value(depth: depth))
            skipWhitespace()
            if peek(UInt8(ascii: ",")) { continue }
            if peek(UInt8(ascii: "]")) { return .array(elements) }
            throw fault("expected ',' or ']'")
        }
    }

    private mutating func object(depth: Int) throws(JSONError) -> JSONValue {
        guard depth <= maximumDepth else { throw fault("nested deeper than \(maximumDepth)") }
        position += 1
        var members: [(key: String, value: JSONValue)] = []
        // Few keys are compared one by one; many are kept in a set of byte strings.
        var seen: Set<[UInt8]> = []
        skipWhitespace()
        if peek(UInt8(ascii: "}")) { return .object(JSONObject()) }
        while true {
            skipWhitespace()
            let start = position
            guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else {
                throw fault("expected a key in double quotes")
            }
            let key = try string()
            if members.count == 16 { seen = Set(members.map { Array($0.key.utf8) }) }
            let isNew =
                members.count < 16
                ? !members.contains { $0.key.hasSameBytes(as: key) }
                : seen.insert(Array(key.utf8)).inserted
            guard isNew else { throw fault("the key \"\(key)\" is repeated", at: start) }
            skipWhitespace()
            guard peek(UInt8(ascii: ":")) else { throw fault("expected ':' after a key") }
            skipWhitespace()
            members.append((key, try value(depth: depth)))
            skipWhitespace()
            if peek(UInt8(ascii: ",")) { continue }
            if peek(UInt8(ascii: "}")) { return .object(JSONObject(unchecked: members)) }
            throw fault("expected ',' or '}'")
        }
    }

    /// Steps over `byte` if it comes next.
    private mutating func peek(_ byte: UInt8) -> Bool {
        guard position < bytes.count, bytes[position] == byte else { return false }
        position += 1
        return true
    }

    private mutating func number() throws(JSONError) -> JSONValue {
        let start = position
        _ = peek(UInt8(ascii: "-"))
        let leadingZero = position < bytes.count && bytes[position] == UInt8(ascii: "0")
        let digits = skipDigits()
        guard digits > 0, !(leadingZero && digits > 1) else {
            throw fault("malformed number", at: start)
        }
        var isWhole = true
        if peek(UInt8(ascii: ".")) {
            isWhole = false
            guard skipDigits() > 0 else { throw fault("malformed number", at: start) }
        }
        if peek(UInt8(ascii: "e")) || peek(UInt8(ascii: "E")) {
            isWhole = false
            if !peek(UInt8(ascii: "+")) { _ = peek(UInt8(ascii: "-")) }
            guard skipDigits() > 0 else { throw fault("malformed number", at: start) }
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if isWhole, let whole = Int64(text) { return .integer(whole) }
        guard let number = Double(text), number.isFinite else {
            throw fault("the number \(text.prefix(40)) is out of range", at: start)
        }
        return .number(number)
    }

    private mutating func skipDigits() -> Int {
        let start = position
        while position < bytes.count, bytes[position] &- UInt8(ascii: "0") < 10 { position += 1 }
        return position - start
    }

    private mutating func string() throws(JSONError) -> String {
        let start = position
        position += 1
        let contentStart = position
        var hasEscapes = false
        while true {
            guard position < bytes.count else {
                throw fault("the string does not end", at: start)
            }
            let byte = bytes[position]
            if byte == UInt8(ascii: "\"") { break }
            guard byte >= 0x20 else { throw fault("a control character inside a string") }
            if byte == UInt8(ascii: "\\") {
                hasEscapes = true
                position += 2
            } else {
                position += 1
            }
        }
        let content = UnsafeRawBufferPointer(rebasing: bytes[contentStart..<position])
        position += 1
        if hasEscapes { return try unescaped(content, offset: contentStart) }
        guard let text = String(validating: content, as: UTF8.self) else {
            throw fault("the string is not valid UTF-8", at: contentStart)
        }
        return text
    }

    private func unescaped(
        _ content: UnsafeRawBufferPointer, offset: Int
    ) throws(JSONError) -> String {
        var output: [UInt8] = []
        output.reserveCapacity(content.count)
        var index = 0
        while index < content.count {
            let byte = content[index]
            guard byte == UInt8(ascii: "\\") else {
                output.append(byte)
                index += 1
                continue
            }
            let escape = index + 1 < content.count ? content[index + 1] : 0
            index += 2
            switch escape {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): output.append(escape)
            case UInt8(ascii: "b"): output.append(0x08)
            case UInt8(ascii: "f"): output.append(0x0C)
            case UInt8(ascii: "n"): output.append(0x0A)
            case UInt8(ascii: "r"): output.append(0x0D)
            case UInt8(ascii: "t"): output.append(0x09)
            case UInt8(ascii: "u"):
                let scalar = try unicodeEscape(content, &index, offset: offset)
                output.append(contentsOf: Array(String(Character(scalar)).utf8))
            default: throw fault("unknown escape in a string", at: offset + index - 2)
            }
        }
        guard let text = String(validating: output, as: UTF8.self) else {
            throw fault("the string is not valid UTF-8", at: offset)
        }
        return text
    }

    /// Reads `XXXX` after `\u` at `index`, and the second half of a surrogate pair.
    private func unicodeEscape(
        _ content: UnsafeRawBufferPointer, _ index: inout Int, offset: Int
    ) throws(JSONError) -> Unicode.Scalar {
        guard let first = hexadecimal(content, at: index) else {
            throw fault("\\u needs four hexadecimal digits", at: offset + index)
        }
        index += 4
        if let scalar = Unicode.Scalar(first) { return scalar }
        guard first < 0xDC00, index + 1 < content.count, content[index] == UInt8(ascii: "\\"),
            content[index + 1] == UInt8(ascii: "u"),
            let second = hexadecimal(content, at: index + 2), (0xDC00..<0xE000).contains(second),
            let scalar = Unicode.Scalar(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
        else { throw fault("a lone surrogate in a \\u escape", at: offset + index - 4) }
        index += 6
        return scalar
    }

    private func hexadecimal(_ content: UnsafeRawBufferPointer, at index: Int) -> UInt32? {
        guard index + 4 <= content.count else { return nil }
        var value: UInt32 = 0
        for byte in content[index..<index + 4] {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | UInt32(byte - 0x30)
            case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | UInt32(byte - 0x57)
            case UInt8(ascii: "A")...UInt8(ascii: "F"): value = value << 4 | UInt32(byte - 0x37)
            default: return nil
            }
        }
        return value
    }
}
