import JSONModel

/// One `.safetensors` file, opened and checked: 8 bytes of header length, a JSON header, the tensors' bytes.
///
/// Every number in the header is a claim. Ranges must lie inside the file, must not overlap, must fit
/// type and shape, and must cover the data without gaps, as the format's own reader demands.
/// Source: https://github.com/huggingface/safetensors (README, "Format").
public struct SafetensorsFile: TensorSource {
    public let path: String
    public let tensors: [TensorDescription]
    /// The header's `__metadata__`: strings by key, in file order.
    public let metadata: [(key: String, value: String)]

    private let file: SourceFile
    private let stored: [String: StoredTensor]

    /// The format's own limit on the header.
    static let maximumHeaderBytes = 100_000_000

    /// - Throws: `ModelFileError` naming file, tensor and reason.
    public init(path: String) throws { try self.init(SourceFile(path: path)) }

    init(_ file: SourceFile) throws {
        self.file = file
        let path = file.path
        self.path = path
        let total = file.count
        func malformed(_ reason: String) -> ModelFileError {
            ModelFileError(.malformed, file: path, reason)
        }
        guard total >= 8 else {
            throw malformed("\(total) bytes are too few for a safetensors file")
        }
        let claimed = try file.bytes(0..<8).withUnsafeBytes {
            UInt64(littleEndian: $0.loadUnaligned(fromByteOffset: 0, as: UInt64.self))
        }
        guard claimed <= UInt64(Self.maximumHeaderBytes), Int(claimed) <= total - 8 else {
            throw malformed(
                "header length \(claimed) does not fit the file's \(total) bytes "
                    + "(limit \(Self.maximumHeaderBytes))")
        }
        let dataStart = 8 + Int(claimed)
        let header: JSONValue
        do {
            header = try JSONValue.parse(file.bytes(8..<dataStart))
        } catch let error as ModelFileError {
            throw error
        } catch {
            throw malformed("header is no JSON: \(error)")
        }
        guard let members = header.object else { throw malformed("header is no JSON object") }

        var metadata: [(key: String, value: String)] = []
        var stored: [String: StoredTensor] = [:]
        for (name, value) in members.entries {
            if name == "__metadata__" {
                metadata = try Self.metadata(value, path: path)
                continue
            }
            let tensor = try Self.tensor(
                name, value, dataStart: dataStart, total: total, path: path)
            guard stored.updateValue(tensor, forKey: name) == nil else {
                throw ModelFileError(.duplicateTensor, file: path, item: name, "occurs twice")
            }
        }
        try Self.checkCoverage(stored, dataStart: dataStart, total: total, path: path)
        self.metadata = metadata
        self.stored = stored
        tensors = stored.values.map(\.description).sorted { bytewisePrecedes($0.name, $1.name) }
    }

    private static func metadata(_ value: JSONValue, path: String) throws -> [(
        key: String, value: String
    )] {
        guard let entries = value.object?.entries else {
            throw ModelFileError(
                .malformed, file: path, item: "__metadata__", "is \(value.kindName), no object")
        }
        return try entries.map { entry in
            guard let text = entry.value.string else {
                throw ModelFileError(
                    .malformed, file: path, item: "__metadata__.\(entry.key)", "is no string")
            }
            return (entry.key, text)
        }
    }

    private static func tensor(
        _ name: String, _ value: JSONValue, dataStart: Int, total: Int, path: String
    ) throws -> StoredTensor {
        func malformed(_ reason: String) -> ModelFileError {
            ModelFileError(.malformed, file: path, item: name, reason)
        }
        guard let typeName = value["dtype"]?.string else { throw malformed("has no dtype") }
        guard let type = ElementType(rawValue: typeName) else {
            throw ModelFileError(
                .unsupported, file: path, item: name, "dtype \(typeName) is not known")
        }
        guard let dimensions = value["shape"]?.array else { throw malformed("has no shape") }
        let shape = try dimensions.map { dimension in
            guard let size = dimension.integer, size >= 0 else {
                throw malformed("shape \(value["shape"]?.text() ?? "") is not a list of sizes")
            }
            return size
        }
        guard let offsets = value["data_offsets"]?.array, offsets.count == 2,
            let begin = offsets[0].integer, let end = offsets[1].integer
        else { throw malformed("has no pair data_offsets") }
        guard begin >= 0, begin <= end, end <= total - dataStart else {
            throw malformed(
                "data_offsets [\(begin), \(end)] do not lie in the file's "
                    + "\(total - dataStart) bytes of data")
        }
        guard let bytes = Checked.product(shape + [type.byteWidth]), bytes == end - begin else {
            throw malformed(
                "shape \(shape) of \(typeName) does not make the \(end - begin) bytes of data_offsets"
            )
        }
        return StoredTensor(
            description: TensorDescription(name: name, elementType: type, shape: shape),
            bytes: (dataStart + begin)..<(dataStart + end))
    }

    private static func checkCoverage(
        _ stored: [String: StoredTensor], dataStart: Int, total: Int, path: String
    ) throws {
        var position = dataStart
        let ordered = stored.values.sorted {
            ($0.bytes.lowerBound, $0.bytes.upperBound) < ($1.bytes.lowerBound, $1.bytes.upperBound)
        }
        for tensor in ordered {
            guard tensor.bytes.lowerBound >= position else {
                throw ModelFileError(
                    .duplicateTensor, file: path, item: tensor.description.name,
                    "its bytes overlap those of another tensor")
            }
            guard tensor.bytes.lowerBound == position else {
                throw ModelFileError(
                    .malformed, file: path, item: tensor.description.name,
                    "\(tensor.bytes.lowerBound - position) bytes before it belong to no tensor")
            }
            position = tensor.bytes.upperBound
        }
        guard position == total else {
            throw ModelFileError(
                .malformed, file: path,
                "the tensors end \(total - position) bytes before the file does")
        }
    }

    public func description(of name: String) -> TensorDescription? { stored[name]?.description }

    public func readFloats(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<Float>
    ) throws {
        let tensor = try find(name)
        try checkRows(tensor.description, rows, capacity: output.count)
        try StoredTensorReader.readFloats(tensor, of: file, rows: rows, into: output)
    }

    public func readBFloat16(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<UInt16>
    ) throws {
        let tensor = try find(name)
        try checkRows(tensor.description, rows, capacity: output.count)
        try StoredTensorReader.readBFloat16(tensor, of: file, rows: rows, into: output)
    }

    /// The whole tensor of an integer type, row-major.
    public func integers(_ name: String) throws -> [Int64] {
        let tensor = try find(name)
        return try file.bytes(tensor.bytes).withUnsafeBytes { bytes in
            let count = tensor.description.elementCount
            func read<T: FixedWidthInteger>(_ type: T.Type) -> [Int64] {
                (0..<count).map {
                    Int64(
                        truncatingIfNeeded: T(
                            littleEndian: bytes.loadUnaligned(
                                fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self)))
                }
            }
            switch tensor.description.elementType {
            case .int64, .uint64: return read(Int64.self)
            case .int32: return read(Int32.self)
            case .int16: return read(Int16.self)
            case .int8: return read(Int8.self)
            case .uint32: return read(UInt32.self)
            case .uint16: return read(UInt16.self)
            case .uint8, .bool: return read(UInt8.self)
            default:
                throw ModelFileError(
                    .unsupported, file: path, item: name,
                    "type \(tensor.description.elementType.rawValue) is no integer type")
            }
        }
    }

    public func checkUnchanged() throws { try file.checkUnchanged() }

    private func find(_ name: String) throws -> StoredTensor {
        guard let tensor = stored[name] else {
            throw ModelFileError(.missingTensor, file: path, item: name, "no such tensor")
        }
        return tensor
    }
}
