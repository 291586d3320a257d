import JSONModel
import LinuxSystem

/// One matrix or vector of a packed model file, as the packer lays it out.
public struct PackedTensor: Sendable, Equatable {
    /// What the engine asks for; the Hugging Face name, or a name the packer gives to joined matrices.
    public let name: String
    /// Type of the packed elements.
    public let elementType: ElementType
    /// Output features of a matrix; elements of a vector.
    public let rows: Int
    /// Input features of a matrix; 1 for a vector.
    public let columns: Int
    /// The packer's name for the order of the bytes, with its version: `panel32.v1`, `rows`.
    public let layout: String
    /// Bytes in the packed form, padding included.
    public let byteCount: Int
    /// The source tensors that it is made from, in the packer's order.
    public let sources: [String]

    public init(
        name: String, elementType: ElementType, rows: Int, columns: Int, layout: String,
        byteCount: Int, sources: [String]
    ) {
        self.name = name
        self.elementType = elementType
        self.rows = rows
        self.columns = columns
        self.layout = layout
        self.byteCount = byteCount
        self.sources = sources
    }
}

/// Knows the layout of the kernels' matrices; supplied by who links both `ModelFiles` and `Kernels`.
public protocol MatrixPacker: Sendable {
    /// What the packed file of this model holds, in order. Every expected tensor must be in some entry's `sources`.
    ///
    /// - Parameter elementType: `bfloat16` or `float32`, for the matrices.
    func plan(for config: ModelConfig, elementType: ElementType) throws -> [PackedTensor]
    /// Fills `output` (zeroed, `tensor.byteCount` bytes, 64-byte aligned) from the source.
    func pack(
        _ tensor: PackedTensor, from source: any TensorSource,
        into output: UnsafeMutableRawBufferPointer) throws
}

/// A packer without kernels: every tensor row-major in the type asked for, vectors in float32.
public struct RowMajorPacker: MatrixPacker {
    public static let layout = "rows"

    public init() {}

    public func plan(for config: ModelConfig, elementType: ElementType) throws -> [PackedTensor] {
        config.expectedTensors.map { tensor in
            let type = tensor.role == .vector ? .float32 : elementType
            let rows = tensor.shape[0]
            let columns = tensor.shape.dropFirst().reduce(1, *)
            return PackedTensor(
                name: tensor.name, elementType: type, rows: rows, columns: columns,
                layout: Self.layout, byteCount: rows * columns * type.byteWidth,
                sources: [tensor.name])
        }
    }

    public func pack(
        _ tensor: PackedTensor, from source: any TensorSource,
        into output: UnsafeMutableRawBufferPointer
    ) throws {
        let name = tensor.sources[0]
        if tensor.elementType == .float32 {
            try source.readFloats(
                name, rows: 0..<tensor.rows, into: output.bindMemory(to: Float.self))
        } else {
            try source.readBFloat16(
                name, rows: 0..<tensor.rows, into: output.bindMemory(to: UInt16.self))
        }
    }
}

/// The fixed parts of the packed file's form.
///
/// ```
/// 0    8   magic "LORAQPM1"
/// 8    4   layout version of this header, little-endian
/// 12   4   page size, 4096
/// 16   8   bytes of the JSON header
/// 24   8   bytes of the whole file
/// 32   64  SHA-256 of the JSON header, hexadecimal
/// 96   …   JSON header: {"base", "tensors": [{name, dtype, rows, columns, layout, offset, bytes, sources}], …}
///      …   zeros up to a page; then each tensor on its own pages
/// -4096 …  last page: "LORAQEND", SHA-256 (hexadecimal) of all bytes between header and this page
/// ```
enum PackedForm {
    static let magic = Array("LORAQPM1".utf8)
    static let endMagic = Array("LORAQEND".utf8)
    static let version = 1
    static let pageBytes = 4096
    static let prefixBytes = 96
    static let maximumHeaderBytes = 64 << 20
}
