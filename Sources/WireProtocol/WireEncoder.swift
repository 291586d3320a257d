import JSONModel

/// Writes Codable wire types into a `JSONValue`, keys in the order of the type's fields.
public enum WireEncoder {
    /// - Throws: `INTERNAL` when a value has no JSON form (a number that is not finite).
    public static func encode(_ value: some Encodable) throws(WireError) -> JSONValue {
        do {
            return try json(of: value)
        } catch let error as WireError {
            throw error
        } catch {
            throw WireError(.internalError, "\(error)")
        }
    }

    static func json<T: Encodable>(of value: T) throws -> JSONValue {
        if let opaque = value as? JSONValue { return opaque }
        let writer = ValueWriter()
        try value.encode(to: writer)
        return writer.finish()
    }

    static func number(_ value: Double) throws -> JSONValue {
        guard value.isFinite else {
            throw WireError(.internalError, "\(value) has no JSON form")
        }
        return .number(value)
    }

    static func integer(_ value: some BinaryInteger) throws -> JSONValue {
        guard let exact = Int64(exactly: value) else {
            throw WireError(.internalError, "\(value) is beyond 64 signed bits")
        }
        return .integer(exact)
    }
}

/// One value being written: the encoder, and the storage of its one container.
private final class ValueWriter: Encoder, SingleValueEncodingContainer {
    enum Shape {
        case single(JSONValue)
        case object
        case array
    }
    var shape = Shape.single(.null)
    var object = JSONObject()
    var array: [JSONValue] = []

    func finish() -> JSONValue {
        switch shape {
        case .single(let value): value
        case .object: .object(object)
        case .array: .array(array)
        }
    }

    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
        shape = .object
        return KeyedEncodingContainer(ObjectWriter<Key>(target: self))
    }
    func unkeyedContainer() -> any UnkeyedEncodingContainer {
        shape = .array
        return ArrayWriter(target: self)
    }
    func singleValueContainer() -> any SingleValueEncodingContainer { self }

    func encodeNil() throws { shape = .single(.null) }
    func encode(_ value: Bool) throws { shape = .single(.bool(value)) }
    func encode(_ value: String) throws { shape = .single(.string(value)) }
    func encode(_ value: Double) throws { shape = .single(try WireEncoder.number(value)) }
    func encode(_ value: Float) throws { shape = .single(try WireEncoder.number(Double(value))) }
    func encode(_ value: Int) throws { shape = .single(.integer(Int64(value))) }
    func encode(_ value: Int8) throws { shape = .single(.integer(Int64(value))) }
    func encode(_ value: Int16) throws { shape = .single(.integer(Int64(value))) }
    func encode(_ value: Int32) throws { shape = .single(.integer(Int64(value))) }
    func encode(_ value: Int64) throws { shape = .single(.integer(value)) }
    func encode(_ value: UInt) throws { shape = .single(try WireEncoder.integer(value)) }
    func encode(_ value: UInt8) throws { shape = .single(.integer(Int64(value))) }
    func encode(_ value: UInt16) throws { shape = .single(.integer(Int64(value))) }
    func encode(_ value: UInt32) throws { shape = .single(.integer(Int64(value))) }
    func encode(_ value: UInt64) throws { shape = .single(try WireEncoder.integer(value)) }
    func encode<T: Encodable>(_ value: T) throws {
        shape = .single(try WireEncoder.json(of: value))
    }
}

private struct ObjectWriter<Key: CodingKey>: KeyedEncodingContainerProtocol {
    let target: ValueWriter

    var codingPath: [any CodingKey] { [] }

    private func put(_ key: Key, _ value: JSONValue) {
        target.object[key.stringValue] = value
    }

    func encodeNil(forKey key: Key) throws { put(key, .null) }
    func encode(_ value: Bool, forKey key: Key) throws { put(key, .bool(value)) }
    func encode(_ value: String, forKey key: Key) throws { put(key, .string(value)) }
    func encode(_ value: Double, forKey key: Key) throws { put(key, try WireEncoder.number(value)) }
    func encode(_ value: Float, forKey key: Key) throws {
        put(key, try WireEncoder.number(Double(value)))
    }
    func encode(_ value: Int, forKey key: Key) throws { put(key, .integer(Int64(value))) }
    func encode(_ value: Int8, forKey key: Key) throws { put(key, .integer(Int64(value))) }
    func encode(_ value: Int16, forKey key: Key) throws { put(key, .integer(Int64(value))) }
    func encode(_ value: Int32, forKey key: Key) throws { put(key, .integer(Int64(value))) }
    func encode(_ value: Int64, forKey key: Key) throws { put(key, .integer(value)) }
    func encode(_ value: UInt, forKey key: Key) throws { put(key, try WireEncoder.integer(value)) }
    func encode(_ value: UInt8, forKey key: Key) throws { put(key, .integer(Int64(value))) }
    func encode(_ value: UInt16, forKey key: Key) throws { put(key, .integer(Int64(value))) }
    func encode(_ value: UInt32, forKey key: Key) throws { put(key, .integer(Int64(value))) }
    func encode(_ value: UInt64, forKey key: Key) throws {
        put(key, try WireEncoder.integer(value))
    }
    func encode<T: Encodable>(_ value: T, forKey key: Key) throws {
        put(key, try WireEncoder.json(of: value))
    }
    func nestedContainer<NestedKey: CodingKey>(keyedBy type: NestedKey.Type, forKey key: Key)
        -> KeyedEncodingContainer<NestedKey>
    {
        // No wire type nests containers by hand; values go in through `encode`.
        KeyedEncodingContainer(ObjectWriter<NestedKey>(target: ValueWriter()))
    }
    func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
        ArrayWriter(target: ValueWriter())
    }
    func superEncoder() -> any Encoder { target }
    func superEncoder(forKey key: Key) -> any Encoder { target }
}

private struct ArrayWriter: UnkeyedEncodingContainer {
    let target: ValueWriter

    var codingPath: [any CodingKey] { [] }
    var count: Int { target.array.count }

    func encodeNil() throws { target.array.append(.null) }
    func encode(_ value: Bool) throws { target.array.append(.bool(value)) }
    func encode(_ value: String) throws { target.array.append(.string(value)) }
    func encode(_ value: Double) throws { target.array.append(try WireEncoder.number(value)) }
    func encode(_ value: Float) throws {
        target.array.append(try WireEncoder.number(Double(value)))
    }
    func encode(_ value: Int) throws { target.array.append(.integer(Int64(value))) }
    func encode(_ value: Int8) throws { target.array.append(.integer(Int64(value))) }
    func encode(_ value: Int16) throws { target.array.append(.integer(Int64(value))) }
    func encode(_ value: Int32) throws { target.array.append(.integer(Int64(value))) }
    func encode(_ value: Int64) throws { target.array.append(.integer(value)) }
    func encode(_ value: UInt) throws { target.array.append(try WireEncoder.integer(value)) }
    func encode(_ value: UInt8) throws { target.array.append(.integer(Int64(value))) }
    func encode(_ value: UInt16) throws { target.array.append(.integer(Int64(value))) }
    func encode(_ value: UInt32) throws { target.array.append(.integer(Int64(value))) }
    func encode(_ value: UInt64) throws { target.array.append(try WireEncoder.integer(value)) }
    func encode<T: Encodable>(_ value: T) throws {
        target.array.append(try WireEncoder.json(of: value))
    }
    func nestedContainer<NestedKey: CodingKey>(keyedBy type: NestedKey.Type)
        -> KeyedEncodingContainer<NestedKey>
    {
        KeyedEncodingContainer(ObjectWriter<NestedKey>(target: ValueWriter()))
    }
    func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer {
        ArrayWriter(target: ValueWriter())
    }
    func superEncoder() -> any Encoder { target }
}
