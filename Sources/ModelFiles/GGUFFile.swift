/// A GGUF file (version 2 or 3), opened and checked: typed metadata and the tensors' places.
///
/// Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every length and offset is a claim, checked
/// against the file's size before it is used; nothing is reserved by such a number.
public struct GGUFFile: Sendable {
    public let path: String
    public let version: Int
    /// Metadata by key, in file order.
    public let metadata: [(key: String, value: GGUFValue)]
    public let tensors: [GGUFTensor]
    let file: SourceFile
    private let metadataIndexes: [String: Int]
    private let tensorIndexes: [String: Int]

    public init(path: String) throws { try self.init(SourceFile(path: path)) }

    init(_ file: SourceFile) throws {
        let path = file.path
        self.path = path
        self.file = file
        var reader = GGUFReader(file: file)
        let header = try reader.header()
        version = header.version
        var metadata: [(key: String, value: GGUFValue)] = []
        var metadataIndexes: [String: Int] = [:]
        for _ in 0..<header.metadataCount {
            let entry = try reader.metadataEntry()
            guard metadataIndexes.updateValue(metadata.count, forKey: entry.key) == nil else {
                throw ModelFileError(.malformed, file: path, item: entry.key, "occurs twice")
            }
            metadata.append(entry)
        }
        self.metadata = metadata
        self.metadataIndexes = metadataIndexes
        let alignment = try Self.alignment(metadata, path: path)
        let claims = try (0..<header.tensorCount).map { _ in try reader.tensorClaim() }
        let tensors = try Self.place(
            claims, after: reader.position, alignment: alignment, total: file.count, path: path)
        var tensorIndexes: [String: Int] = [:]
        for (index, tensor) in tensors.enumerated() {
            guard tensorIndexes.updateValue(index, forKey: tensor.name) == nil else {
                throw ModelFileError(
                    .duplicateTensor, file: path, item: tensor.name, "occurs twice")
            }
        }
        self.tensors = tensors
        self.tensorIndexes = tensorIndexes
    }

    public func value(_ key: String) -> GGUFValue? {
        metadataIndexes[key].map { metadata[$0].value }
    }

    /// The dequantised elements of rows of a tensor, row-major; `output` holds exactly those.
    func readFloats(
        _ tensor: GGUFTensor, rows: Range<Int>, into output: UnsafeMutableBufferPointer<Float>
    ) throws {
        // One-dimensional tensors have rows of one element and are never quantized by rows.
        let width = tensor.shape.dropFirst().reduce(1, *)
        let start = tensor.bytes.lowerBound + rows.lowerBound * tensor.rowBytes
        let blocks = rows.count * width / tensor.type.blockElements
        try file.forEachPiece(at: start, elements: blocks, width: tensor.type.blockBytes) {
            bytes, first in
            let begin = first * tensor.type.blockElements
            let number = bytes.count / tensor.type.blockBytes * tensor.type.blockElements
            tensor.type.dequantize(
                bytes, into: UnsafeMutableBufferPointer(rebasing: output[begin..<begin + number]))
        }
    }

    /// The whole tensor, dequantised, row-major.
    public func floats(_ tensor: GGUFTensor) throws -> [Float] {
        var values = [Float](repeating: 0, count: tensor.shape.reduce(1, *))
        let rows = tensor.shape.first ?? 1
        try values.withUnsafeMutableBufferPointer {
            if tensor.shape.count < 2 {
                // A vector is one row.
                let whole = GGUFTensor(
                    name: tensor.name, type: tensor.type, shape: [1] + tensor.shape,
                    bytes: tensor.bytes)
                try readFloats(whole, rows: 0..<1, into: $0)
            } else {
                try readFloats(tensor, rows: 0..<rows, into: $0)
            }
        }
        return values
    }

    public func tensor(_ name: String) -> GGUFTensor? { tensorIndexes[name].map { tensors[$0] } }

    private static func alignment(
        _ metadata: [(key: String, value: GGUFValue)], path: String
    ) throws -> Int {
        guard let value = metadata.first(where: { $0.key == "general.alignment" })?.value else {
            return 32
        }
        guard let alignment = value.integer, alignment >= 8, alignment <= 1 << 20,
            alignment & (alignment - 1) == 0
        else {
            throw ModelFileError(
                .malformed, file: path, item: "general.alignment",
                "is not a power of two from 8 to 1048576")
        }
        return alignment
    }

    private static func place(
        _ claims: [GGUFReader.TensorClaim], after end: Int, alignment: Int, total: Int, path: String
    ) throws -> [GGUFTensor] {
        guard !claims.isEmpty else { return [] }
        guard let start = Checked.aligned(end, to: alignment), start <= total else {
            throw ModelFileError(.malformed, file: path, "ends before its tensors' data")
        }
        let tensors = try claims.map { claim -> GGUFTensor in
            func malformed(_ reason: String) -> ModelFileError {
                ModelFileError(.malformed, file: path, item: claim.name, reason)
            }
            guard let type = GGUFQuantization(rawValue: claim.type) else {
                throw ModelFileError(
                    .unsupported, file: path, item: claim.name,
                    "tensor type \(claim.type) is not read; readable are "
                        + GGUFQuantization.allCases.map(\.name).joined(separator: ", "))
            }
            guard !claim.dimensions.contains(0) else {
                throw malformed("dimensions \(claim.dimensions) leave it without an element")
            }
            let width = claim.dimensions.first ?? 1
            guard width % type.blockElements == 0 else {
                throw malformed(
                    "row of \(width) elements is not made of \(type.name) blocks of "
                        + "\(type.blockElements)")
            }
            guard let elements = Checked.product(claim.dimensions),
                let bytes = Checked.product([elements / type.blockElements, type.blockBytes])
            else { throw malformed("dimensions \(claim.dimensions) are too large") }
            guard claim.offset % UInt64(alignment) == 0 else {
                throw malformed("offset \(claim.offset) is not a multiple of \(alignment)")
            }
            guard claim.offset <= UInt64(total - start), bytes <= total - start - Int(claim.offset)
            else {
                throw malformed(
                    "offset \(claim.offset) and \(bytes) bytes do not lie in the file's "
                        + "\(total - start) bytes of data")
            }
            let begin = start + Int(claim.offset)
            return GGUFTensor(
                name: claim.name, type: type, shape: Array(claim.dimensions.reversed()),
                bytes: begin..<(begin + bytes))
        }
        let ordered = tensors.filter { !$0.bytes.isEmpty }.sorted {
            $0.bytes.lowerBound < $1.bytes.lowerBound
        }
        for (a, b) in zip(ordered, ordered.dropFirst())
        where a.bytes.upperBound > b.bytes.lowerBound {
            throw ModelFileError(
                .duplicateTensor, file: path, item: b.name, "its bytes overlap those of \(a.name)")
        }
        return tensors
    }
}

/// A tensor of a GGUF file.
public struct GGUFTensor: Sendable, Equatable {
    public let name: String
    public let type: GGUFQuantization
    /// Outermost dimension first, the reverse of the order in the file.
    public let shape: [Int]
    /// Where its bytes lie in the file.
    public let bytes: Range<Int>

    /// Bytes of one row of the first dimension.
    var rowBytes: Int {
        shape.dropFirst().reduce(1, *) * type.blockBytes / type.blockElements
    }
}

/// A metadata value.
public enum GGUFValue: Sendable {
    case unsigned(UInt64)
    case signed(Int64)
    case number(Double)
    case bool(Bool)
    case string([UInt8])
    case array([GGUFValue])
    /// An array of strings, kept as places in the header.
    case strings(GGUFStrings)
    /// An array of whole numbers.
    case integers([Int])
    /// An array of floats.
    case numbers([Float])

    public var integer: Int? {
        switch self {
        case .unsigned(let value): Int(exactly: value)
        case .signed(let value): Int(exactly: value)
        default: nil
        }
    }
    /// A float, or a whole number as one.
    public var double: Double? {
        if case .number(let value) = self { return value }
        return integer.map(Double.init)
    }
    public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    public var bytes: [UInt8]? { if case .string(let value) = self { value } else { nil } }
    /// The text, nil if it is no valid UTF-8.
    public var string: String? { bytes.flatMap { String(validating: $0, as: UTF8.self) } }
    public var strings: GGUFStrings? { if case .strings(let value) = self { value } else { nil } }
    public var integers: [Int]? { if case .integers(let value) = self { value } else { nil } }
    public var numbers: [Float]? { if case .numbers(let value) = self { value } else { nil } }
}

/// An array of strings inside a GGUF file's header.
public struct GGUFStrings: Sendable, RandomAccessCollection {
    let header: GGUFHeaderBytes
    let ranges: [Range<Int>]

    public var startIndex: Int { 0 }
    public var endIndex: Int { ranges.count }
    public subscript(position: Int) -> [UInt8] {
        header.copy(ranges[position])
    }
}
