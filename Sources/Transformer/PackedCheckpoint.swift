import Kernels
import ModelFiles

/// A packed model read as the checkpoint that it was made from: each tensor by its Hugging Face name, in the type that the
/// packed file keeps.
public struct PackedCheckpoint: TensorSource {
    /// Where a tensor lies in a packed one.
    private struct Place: Sendable {
        let packed: PackedTensor
        let firstRow: Int
    }

    public let path: String
    public let tensors: [TensorDescription]
    private let file: PackedModelFile
    private let places: [String: Place]
    private let matrices: [String: PackedMatrix]
    private let vectors: [String: [Float]]

    /// - Throws: `TransformerError.unsupported` when the file keeps a tensor in another shape than the checkpoint had it.
    public init(config: ModelConfig, packed file: PackedModelFile) throws {
        self.file = file
        path = file.path
        var shapes: [String: [Int]] = [:]
        for tensor in config.expectedTensors { shapes[tensor.name] = tensor.shape }
        var places: [String: Place] = [:]
        var matrices: [String: PackedMatrix] = [:]
        var vectors: [String: [Float]] = [:]
        var found: [TensorDescription] = []
        for packed in file.tensors {
            var row = 0
            for name in packed.sources {
                guard let shape = shapes[name],
                    shape.count == 1 || shape.dropFirst().reduce(1, *) == packed.columns
                else {
                    throw TransformerError(
                        .unsupported, "\(name) is not packed as its checkpoint has it")
                }
                places[name] = Place(packed: packed, firstRow: row)
                row += shape[0]
                found.append(
                    TensorDescription(name: name, elementType: packed.elementType, shape: shape))
            }
            guard row == packed.rows else {
                throw TransformerError(
                    .unsupported,
                    "\(packed.sources.joined(separator: ", ")) are not packed as their checkpoint has them"
                )
            }
            if packed.layout == PanelPacker.vectorLayout {
                vectors[packed.name] = try file.floats(of: packed.name)
                continue
            }
            guard [PanelPacker.layout, PanelPacker.pairedLayout].contains(packed.layout) else {
                throw TransformerError(
                    .unsupported, "\(packed.name) has the order \(packed.layout)")
            }
            matrices[packed.name] = try PackedMatrix(
                viewing: file.bytes(of: packed.name), owner: file,
                PackedMatrix.Layout(
                    rows: packed.rows, columns: packed.columns,
                    PanelPacker.kernelType(packed.elementType),
                    paired: packed.layout == PanelPacker.pairedLayout))
        }
        tensors = found.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
        (self.places, self.matrices, self.vectors) = (places, matrices, vectors)
    }

    public func description(of name: String) -> TensorDescription? {
        tensors.first { $0.name == name }
    }

    public func readFloats(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<Float>
    ) throws {
        guard let place = places[name] else {
            throw ModelFileError(.missingTensor, file: path, item: name, "no such tensor")
        }
        let columns = place.packed.columns
        guard rows.lowerBound >= 0, place.firstRow + rows.upperBound <= place.packed.rows,
            output.count == rows.count * columns
        else {
            throw ModelFileError(
                .shapeMismatch, file: path, item: name, "rows \(rows) do not fill \(output.count)")
        }
        if let vector = vectors[place.packed.name] {
            for (index, row) in rows.enumerated() { output[index] = vector[place.firstRow + row] }
            return
        }
        guard let matrix = matrices[place.packed.name] else { return }
        var index = 0
        for row in rows {
            for column in 0..<columns {
                output[index] = matrix[place.firstRow + row, column]
                index += 1
            }
        }
    }

    public func readBFloat16(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<UInt16>
    ) throws {
        var floats = [Float](repeating: 0, count: output.count)
        try floats.withUnsafeMutableBufferPointer { try readFloats(name, rows: rows, into: $0) }
        for (index, value) in floats.enumerated() { output[index] = FloatFormat.bfloat16(value) }
    }
}
