import Kernels
import ModelFiles

/// Lays a checkpoint's matrices out for the kernels; `PackedModelWriter` writes the file.
public struct PanelPacker: MatrixPacker {
    /// Name and version of the order of bytes of a matrix (`PackedMatrix`).
    static let layout = "panel32.v1"
    static let pairedLayout = "panel32-paired.v1"
    static let vectorLayout = "vector.v1"

    let compute: Compute

    public init(compute: Compute) { self.compute = compute }

    public func plan(
        for config: ModelConfig, elementType: ModelFiles.ElementType
    ) throws -> [PackedTensor] {
        let layout = try DecoderLayout(config)
        let kernelType = try Self.kernelType(elementType)
        var result: [PackedTensor] = []
        for matrix in layout.matrices {
            let packed = try PackedMatrix.Layout(
                rows: matrix.rows, columns: matrix.columns, kernelType, paired: matrix.paired)
            result.append(
                PackedTensor(
                    name: matrix.name, elementType: elementType, rows: matrix.rows,
                    columns: matrix.columns,
                    layout: matrix.paired ? Self.pairedLayout : Self.layout,
                    byteCount: packed.byteCount, sources: matrix.sources))
        }
        for vector in layout.vectors {
            result.append(
                PackedTensor(
                    name: vector.name, elementType: .float32, rows: vector.count, columns: 1,
                    layout: Self.vectorLayout, byteCount: 4 * vector.count,
                    sources: vector.sources))
        }
        return result
    }

    public func pack(
        _ tensor: PackedTensor, from source: any TensorSource,
        into output: UnsafeMutableRawBufferPointer
    ) throws {
        if tensor.layout == Self.vectorLayout {
            let values = try tensor.sources.flatMap { try source.floats($0) }
            guard values.count == tensor.rows else {
                throw TransformerError(
                    .weights,
                    "\(tensor.sources.joined(separator: ", ")): \(values.count) elements, the "
                        + "config needs \(tensor.rows)")
            }
            values.withUnsafeBytes { output.copyMemory(from: $0) }
            return
        }
        let packed = try Self.matrix(
            sources: tensor.sources, rows: tensor.rows, columns: tensor.columns,
            paired: tensor.layout == Self.pairedLayout,
            elementType: Self.kernelType(tensor.elementType), from: source, compute: compute)
        packed.withBytes { output.copyMemory(from: $0) }
    }

    /// Reads tensors one below the other and packs them.
    static func matrix(
        sources: [String], rows: Int, columns: Int, paired: Bool,
        elementType: Kernels.ElementType, from source: any TensorSource, compute: Compute
    ) throws -> PackedMatrix {
        let joined = try Matrix(rows: rows, columns: columns, elementType)
        var first = 0
        for name in sources {
            let tensor = try source.require(name)
            guard tensor.rowElementCount == columns, first + tensor.rowCount <= rows else {
                throw TransformerError(
                    .weights,
                    "\(name) has shape \(tensor.shape), the config needs \(columns) columns")
            }
            for row in 0..<tensor.rowCount {
                try joined.withBytes(row: first + row) { bytes in
                    if elementType == .float32 {
                        try source.readFloats(
                            name, rows: row..<row + 1, into: bytes.bindMemory(to: Float.self))
                    } else {
                        try source.readBFloat16(
                            name, rows: row..<row + 1, into: bytes.bindMemory(to: UInt16.self))
                    }
                }
            }
            first += tensor.rowCount
        }
        guard first == rows else {
            throw TransformerError(
                .weights,
                "\(sources.joined(separator: ", ")): \(first) rows, the config needs \(rows)")
        }
        return try compute.pack(
            [joined],
            PackedMatrix.Layout(rows: rows, columns: columns, elementType, paired: paired))
    }

    static func kernelType(
        _ type: ModelFiles.ElementType
    ) throws(TransformerError) -> Kernels.ElementType {
        switch type {
        case .float32: return .float32
        case .bfloat16: return .bfloat16
        default:
            throw TransformerError(
                .unsupported, "weights of type \(type.rawValue) are not computed with")
        }
    }
}
