/// The part of a GGUF file that was read to find its metadata.
///
/// `@unchecked Sendable` is sound because only the reader that made it lets it grow, before anybody else has it.
final class GGUFHeaderBytes: @unchecked Sendable {
    fileprivate(set) var bytes: [UInt8] = []

    func copy(_ range: Range<Int>) -> [UInt8] { [UInt8](bytes[range]) }
}

/// Reads a GGUF file's header from front to back, never past its end.
struct GGUFReader {
    struct TensorClaim {
        var name: String
        /// Innermost dimension first, as in the file.
        var dimensions: [Int]
        var type: UInt32
        var offset: UInt64
    }

    let file: SourceFile
    let read = GGUFHeaderBytes()
    private(set) var position = 0
    /// The key or tensor being read, for messages.
    private var item = "header"
    private static let maximumNesting = 4
    private static let maximumNameBytes = 1 << 16
    /// More metadata than this is refused: the largest vocabularies need about 20 MiB.
    static let maximumHeaderBytes = 256 << 20
    /// Elements of an array of whole numbers or floats; of an array of anything else but strings.
    private static let maximumNumbers = 1 << 24
    private static let maximumValues = 1 << 20

    init(file: SourceFile) { self.file = file }

    private var path: String { file.path }

    private func malformed(_ reason: String) -> ModelFileError {
        ModelFileError(.malformed, file: path, item: item, reason)
    }

    private var remaining: Int { file.count - position }

    private mutating func take(_ count: Int) throws -> Range<Int> {
        guard count >= 0, count <= remaining else {
            throw malformed("needs \(count) bytes at \(position), the file ends at \(file.count)")
        }
        let end = position + count
        guard end <= Self.maximumHeaderBytes else {
            throw malformed(
                "reaches beyond the \(Self.maximumHeaderBytes) bytes that a header may have")
        }
        if end > read.bytes.count {
            let have = read.bytes.count
            let wanted = min(file.count, max(end, have + min(have + 65536, 8 << 20)))
            read.bytes += try file.bytes(have..<wanted)
        }
        defer { position = end }
        return position..<end
    }

    private mutating func number<T: FixedWidthInteger>(_ type: T.Type = T.self) throws -> T {
        let range = try take(MemoryLayout<T>.size)
        return read.bytes.withUnsafeBytes {
            T(littleEndian: $0.loadUnaligned(fromByteOffset: range.lowerBound, as: T.self))
        }
    }

    /// A count of things that take at least `least` bytes each, so that it cannot exceed what is left.
    private mutating func count(least: Int, atMost limit: Int = .max) throws -> Int {
        let claimed: UInt64 = try number()
        guard claimed <= UInt64(limit) else {
            throw malformed("count \(claimed) is more than the \(limit) that are read")
        }
        guard claimed <= UInt64(remaining / least) else {
            throw malformed("count \(claimed) does not fit the \(remaining) bytes that are left")
        }
        return Int(claimed)
    }

    private mutating func stringRange() throws -> Range<Int> { try take(count(least: 1)) }

    private mutating func name(of what: String) throws -> String {
        let range = try stringRange()
        guard range.count <= Self.maximumNameBytes, !range.isEmpty,
            let text = String(validating: read.bytes[range], as: UTF8.self)
        else { throw malformed("\(what) is empty, too long or no UTF-8") }
        return text
    }

    mutating func header() throws -> (version: Int, tensorCount: Int, metadataCount: Int) {
        let magic = try take(4)
        guard read.bytes[magic].elementsEqual("GGUF".utf8) else {
            throw malformed("this is no GGUF file")
        }
        let version: UInt32 = try number()
        guard version == 2 || version == 3 else {
            let swapped = version.byteSwapped
            throw ModelFileError(
                .unsupported, file: path, item: "version",
                swapped == 2 || swapped == 3
                    ? "the file is big-endian" : "\(version) is not read; 2 and 3 are")
        }
        let tensors = try count(least: 1)
        let metadata = try count(least: 1)
        return (Int(version), tensors, metadata)
    }

    mutating func metadataEntry() throws -> (key: String, value: GGUFValue) {
        item = "metadata"
        let key = try name(of: "key")
        item = key
        let type: UInt32 = try number()
        return (key, try value(type, nesting: 0))
    }

    private mutating func value(_ type: UInt32, nesting: Int) throws -> GGUFValue {
        switch type {
        case 0: return .unsigned(UInt64(try number(UInt8.self)))
        case 1: return .signed(Int64(try number(Int8.self)))
        case 2: return .unsigned(UInt64(try number(UInt16.self)))
        case 3: return .signed(Int64(try number(Int16.self)))
        case 4: return .unsigned(UInt64(try number(UInt32.self)))
        case 5: return .signed(Int64(try number(Int32.self)))
        case 6: return .number(Double(Float(bitPattern: try number())))
        case 7:
            let byte: UInt8 = try number()
            guard byte <= 1 else { throw malformed("boolean is \(byte)") }
            return .bool(byte == 1)
        case 8:
            let range = try stringRange()
            return .string(read.copy(range))
        case 9: return try array(nesting: nesting)
        case 10: return .unsigned(try number())
        case 11: return .signed(try number())
        case 12: return .number(Double(bitPattern: try number()))
        default: throw malformed("value type \(type) is not known")
        }
    }

    private mutating func array(nesting: Int) throws -> GGUFValue {
        guard nesting < Self.maximumNesting else { throw malformed("arrays nest too deep") }
        let type: UInt32 = try number()
        switch type {
        case 8:
            let count = try count(least: 8)
            var ranges: [Range<Int>] = []
            for _ in 0..<count { ranges.append(try stringRange()) }
            return .strings(GGUFStrings(header: read, ranges: ranges))
        case 0...5, 10, 11:
            let count = try count(
                least: Self.integerWidth(type), atMost: Self.maximumNumbers)
            var values: [Int] = []
            for _ in 0..<count {
                guard let value = try value(type, nesting: nesting).integer else {
                    throw malformed("a number is too large")
                }
                values.append(value)
            }
            return .integers(values)
        case 6:
            let count = try count(least: 4, atMost: Self.maximumNumbers)
            var values: [Float] = []
            for _ in 0..<count { values.append(Float(bitPattern: try number())) }
            return .numbers(values)
        case 7, 9, 12:
            let count = try count(least: type == 7 ? 1 : 8, atMost: Self.maximumValues)
            var values: [GGUFValue] = []
            for _ in 0..<count { values.append(try value(type, nesting: nesting + 1)) }
            return .array(values)
        default: throw malformed("array type \(type) is not known")
        }
    }

    private static func integerWidth(_ type: UInt32) -> Int {
        switch type {
        case 0, 1: 1
        case 2, 3: 2
        case 4, 5: 4
        default: 8
        }
    }

    mutating func tensorClaim() throws -> TensorClaim {
        item = "tensors"
        let name = try name(of: "name")
        item = name
        let rank: UInt32 = try number()
        guard rank <= 8 else { throw malformed("\(rank) dimensions are too many") }
        var dimensions: [Int] = []
        for _ in 0..<rank {
            let size: UInt64 = try number()
            guard let value = Int(exactly: size) else {
                throw malformed("size \(size) is too large")
            }
            dimensions.append(value)
        }
        let type: UInt32 = try number()
        return TensorClaim(name: name, dimensions: dimensions, type: type, offset: try number())
    }
}
