import JSONModel

/// Reads Codable wire types out of a `JSONValue`.
///
/// Unlike Foundation's decoder it keeps opaque fields exactly as they were (order of keys, form of
/// numbers), names the key of a wrong value as a path (`tasks[3].lease`), and builds no coding path
/// unless there is an error to report.
public enum WireDecoder {
    /// - Throws: `BAD_HEADER` that names the key, when a field is missing or of another type.
    public static func decode<T: Decodable>(_ type: T.Type, from value: JSONValue) throws(WireError)
        -> T
    {
        do {
            return try ValueReader(value: value).read(type)
        } catch let error as WireError {
            throw error
        } catch {
            throw describe(error)
        }
    }

    /// Turns what the standard library's own conformances throw into a `WireError`.
    static func describe(_ error: any Error) -> WireError {
        guard let error = error as? DecodingError else {
            return WireError(.badHeader, "\(error)")
        }
        switch error {
        case .dataCorrupted(let context), .typeMismatch(_, let context),
            .valueNotFound(_, let context), .keyNotFound(_, let context):
            return WireError(.badHeader, context.debugDescription)
        @unknown default:
            return WireError(.badHeader, "\(error)")
        }
    }

    static func mismatch(_ expected: String, _ value: JSONValue) -> WireError {
        WireError(.badHeader, "must be \(expected), not \(value.kindName)")
    }

    static func missing() -> WireError { WireError(.badHeader, "is missing") }
}

/// An enumeration of words whose decoding error lists the words that there are.
public protocol WireEnumeration: RawRepresentable, CaseIterable where RawValue == String {}

extension WireEnumeration where Self: Decodable {
    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let value = Self(rawValue: text) else {
            let words = Self.allCases.map { "`\($0.rawValue)`" }.joined(separator: ", ")
            throw WireError(.badHeader, "must be one of \(words), not `\(text.prefix(80))`")
        }
        self = value
    }
}

// MARK: - The decoder

struct ValueReader: Decoder, SingleValueDecodingContainer {
    let value: JSONValue

    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
        guard case .object(let object) = value else {
            throw WireDecoder.mismatch("an object", value)
        }
        return KeyedDecodingContainer(ObjectReader<Key>(object: object))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
        guard case .array(let elements) = value else {
            throw WireDecoder.mismatch("an array", value)
        }
        return ArrayReader(elements: elements)
    }

    func singleValueContainer() throws -> any SingleValueDecodingContainer { self }

    func decodeNil() -> Bool { value == .null }

    func decode(_ type: Bool.Type) throws -> Bool {
        guard case .bool(let flag) = value else {
            throw WireDecoder.mismatch("true or false", value)
        }
        return flag
    }

    func decode(_ type: String.Type) throws -> String {
        guard case .string(let text) = value else { throw WireDecoder.mismatch("a string", value) }
        return text
    }

    func decode(_ type: Double.Type) throws -> Double {
        guard let number = value.double else { throw WireDecoder.mismatch("a number", value) }
        return number
    }

    func decode(_ type: Float.Type) throws -> Float { Float(try decode(Double.self)) }

    func decode(_ type: Int.Type) throws -> Int {
        guard let number = value.integer else {
            throw WireDecoder.mismatch("a whole number", value)
        }
        return number
    }

    private func narrow<I: FixedWidthInteger>(_ type: I.Type) throws -> I {
        let number = try decode(Int.self)
        guard let narrow = I(exactly: number) else {
            throw WireError(.badHeader, "\(number) is outside \(I.min)...\(I.max)")
        }
        return narrow
    }

    func decode(_ type: Int8.Type) throws -> Int8 { try narrow(type) }
    func decode(_ type: Int16.Type) throws -> Int16 { try narrow(type) }
    func decode(_ type: Int32.Type) throws -> Int32 { try narrow(type) }
    func decode(_ type: Int64.Type) throws -> Int64 { try narrow(type) }
    func decode(_ type: UInt.Type) throws -> UInt { try narrow(type) }
    func decode(_ type: UInt8.Type) throws -> UInt8 { try narrow(type) }
    func decode(_ type: UInt16.Type) throws -> UInt16 { try narrow(type) }
    func decode(_ type: UInt32.Type) throws -> UInt32 { try narrow(type) }
    func decode(_ type: UInt64.Type) throws -> UInt64 { try narrow(type) }

    func decode<T: Decodable>(_ type: T.Type) throws -> T { try read(type) }

    func read<T: Decodable>(_ type: T.Type) throws -> T {
        if type == JSONValue.self, let opaque = value as? T { return opaque }
        return try T(from: self)
    }
}

private struct ObjectReader<Key: CodingKey>: KeyedDecodingContainerProtocol {
    let object: JSONObject

    var codingPath: [any CodingKey] { [] }
    var allKeys: [Key] { object.entries.compactMap { Key(stringValue: $0.key) } }

    func contains(_ key: Key) -> Bool { object[key.stringValue] != nil }

    func decodeNil(forKey key: Key) throws -> Bool {
        guard let value = object[key.stringValue] else { return true }
        if case .null = value { return true }
        return false
    }

    /// The value under `key` read by `body`, with `key` put before the path of any error.
    private func field<T>(_ key: Key, _ body: (ValueReader) throws -> T) throws -> T {
        do {
            guard let value = object[key.stringValue] else { throw WireDecoder.missing() }
            return try body(ValueReader(value: value))
        } catch let error as WireError {
            throw error.inside(key.stringValue)
        } catch {
            throw WireDecoder.describe(error).inside(key.stringValue)
        }
    }

    private func optional<T>(_ key: Key, _ body: (ValueReader) throws -> T) throws -> T? {
        guard let value = object[key.stringValue] else { return nil }
        if case .null = value { return nil }
        do {
            return try body(ValueReader(value: value))
        } catch let error as WireError {
            throw error.inside(key.stringValue)
        } catch {
            throw WireDecoder.describe(error).inside(key.stringValue)
        }
    }

    func decode(_ type: Bool.Type, forKey key: Key) throws -> Bool {
        try field(key) { try $0.decode(type) }
    }
    func decode(_ type: String.Type, forKey key: Key) throws -> String {
        try field(key) { try $0.decode(type) }
    }
    func decode(_ type: Double.Type, forKey key: Key) throws -> Double {
        try field(key) { try $0.decode(type) }
    }
    func decode(_ type: Float.Type, forKey key: Key) throws -> Float {
        try field(key) { try $0.decode(type) }
    }
    func decode(_ type: Int.Type, forKey key: Key) throws -> Int {
        try field(key) { try $0.decode(type) }
    }
    func decode(_ type: Int8.Type, forKey key: Key) throws -> Int8 {
        try field(key) { try $0.decode(type) }
    }
    func decode(_ type: Int16.Type, forKey key: Key) throws -> Int16 {
        try field(key) { try $0.decode(type) }
    }
    func decode(_ type: Int32.Type, forKey key: Key) throws -> Int32 {
        try field(key) { try $0.decode(type) }
    }
    func decode(_ type: Int64.Type, forKey key: Key) throws -> Int64 {
        try field(key) { try $0.decode(type) }
    }
    func decode(_ type: UInt.Type, forKey key: Key) throws -> UInt {
        try field(key) { try $0.decode(type) }
    }
    func decode(_ type: UInt8.Type, forKey key: Key) throws -> UInt8 {
        try field(key) { try $0.decode(type) }
    }
    func decode(_ type: UInt16.Type, forKey key: Key) throws -> UInt16 {
        try field(key) { try $0.decode(type) }
    }
    func decode(_ type: UInt32.Type, forKey key: Key) throws -> UInt32 {
        try field(key) { try $0.decode(type) }
    }
    func decode(_ type: UInt64.Type, forKey key: Key) throws -> UInt64 {
        try field(key) { try $0.decode(type) }
    }
    func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T {
        try field(key) { try $0.read(type) }
    }

    func decodeIfPresent(_ type: Bool.Type, forKey key: Key) throws -> Bool? {
        try optional(key) { try $0.decode(type) }
    }
    func decodeIfPresent(_ type: String.Type, forKey key: Key) throws -> String? {
        try optional(key) { try $0.decode(type) }
    }
    func decodeIfPresent(_ type: Double.Type, forKey key: Key) throws -> Double? {
        try optional(key) { try $0.decode(type) }
    }
    func decodeIfPresent(_ type: Int.Type, forKey key: Key) throws -> Int? {
        try optional(key) { try $0.decode(type) }
    }
    func decodeIfPresent<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T? {
        try optional(key) { try $0.read(type) }
    }

    func nestedContainer<NestedKey: CodingKey>(keyedBy type: NestedKey.Type, forKey key: Key) throws
        -> KeyedDecodingContainer<NestedKey>
    {
        try field(key) { try $0.container(keyedBy: type) }
    }
    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
        try field(key) { try $0.unkeyedContainer() }
    }
    func superDecoder() throws -> any Decoder { ValueReader(value: .object(object)) }
    func superDecoder(forKey key: Key) throws -> any Decoder { try field(key) { $0 } }
}

private struct ArrayReader: UnkeyedDecodingContainer {
    let elements: [JSONValue]
    var currentIndex = 0

    init(elements: [JSONValue]) { self.elements = elements }

    var codingPath: [any CodingKey] { [] }
    var count: Int? { elements.count }
    var isAtEnd: Bool { currentIndex >= elements.count }

    private mutating func next<T>(_ body: (ValueReader) throws -> T) throws -> T {
        guard currentIndex < elements.count else {
            throw WireError(.badHeader, "has only \(elements.count) elements")
        }
        do {
            let result = try body(ValueReader(value: elements[currentIndex]))
            currentIndex += 1
            return result
        } catch let error as WireError {
            throw error.inside("[\(currentIndex)]")
        } catch {
            throw WireDecoder.describe(error).inside("[\(currentIndex)]")
        }
    }

    mutating func decodeNil() throws -> Bool {
        guard currentIndex < elements.count, case .null = elements[currentIndex] else {
            return false
        }
        currentIndex += 1
        return true
    }
    mutating func decode(_ type: Bool.Type) throws -> Bool { try next { try $0.decode(type) } }
    mutating func decode(_ type: String.Type) throws -> String { try next { try $0.decode(type) } }
    mutating func decode(_ type: Double.Type) throws -> Double { try next { try $0.decode(type) } }
    mutating func decode(_ type: Float.Type) throws -> Float { try next { try $0.decode(type) } }
    mutating func decode(_ type: Int.Type) throws -> Int { try next { try $0.decode(type) } }
    mutating func decode(_ type: Int8.Type) throws -> Int8 { try next { try $0.decode(type) } }
    mutating func decode(_ type: Int16.Type) throws -> Int16 { try next { try $0.decode(type) } }
    mutating func decode(_ type: Int32.Type) throws -> Int32 { try next { try $0.decode(type) } }
    mutating func decode(_ type: Int64.Type) throws -> Int64 { try next { try $0.decode(type) } }
    mutating func decode(_ type: UInt.Type) throws -> UInt { try next { try $0.decode(type) } }
    mutating func decode(_ type: UInt8.Type) throws -> UInt8 { try next { try $0.decode(type) } }
    mutating func decode(_ type: UInt16.Type) throws -> UInt16 { try next { try $0.decode(type) } }
    mutating func decode(_ type: UInt32.Type) throws -> UInt32 { try next { try $0.decode(type) } }
    mutating func decode(_ type: UInt64.Type) throws -> UInt64 { try next { try $0.decode(type) } }
    mutating func decode<T: Decodable>(_ type: T.Type) throws -> T {
        try next { try $0.read(type) }
    }
    mutating func nestedContainer<NestedKey: CodingKey>(keyedBy type: NestedKey.Type) throws
        -> KeyedDecodingContainer<NestedKey>
    {
        try next { try $0.container(keyedBy: type) }
    }
    mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer {
        try next { try $0.unkeyedContainer() }
    }
    mutating func superDecoder() throws -> any Decoder { try next { $0 } }
}
