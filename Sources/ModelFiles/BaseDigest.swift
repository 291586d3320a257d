import JSONModel
import LinuxSystem

/// What a base model is known by: SHA-256 over its effective configuration and its tensors.
public enum BaseDigest {
    /// Rows are read in pieces of about this many elements.
    static let pieceElements = 1 << 20

    /// Digests the canonical configuration and the weights.
    ///
    /// A GGUF file and the Hugging Face folder made from it (same weights in bfloat16) have one digest.
    ///
    /// - Parameter progress: Called with tensors done and tensors in all.
    public static func compute(
        config: ModelConfig, source: any TensorSource,
        progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
    ) throws -> ContentDigest {
        base(
            config: config, weights: try weights(config: config, source: source, progress: progress)
        )
    }

    /// What `compute` makes of a configuration and the digest of its weights.
    static func base(config: ModelConfig, weights: ContentDigest) -> ContentDigest {
        var builder = DigestBuilder()
        builder.update(Array("loraq base v2\n".utf8))
        builder.update(config.canonicalJSON.serialized(sortedKeys: true))
        builder.update(Array("\n\(weights.text)\n".utf8))
        return builder.finish()
    }

    /// Digests each tensor of the architecture in bytewise order of the names: a line of JSON with name, type and shape,
    /// then the elements (bfloat16 as they are, others as float32). So others can tell whether a folder still has the weights.
    static func weights(
        config: ModelConfig, source: any TensorSource,
        progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
    ) throws -> ContentDigest {
        var builder = DigestBuilder()
        let names = config.expectedTensors.map(\.name).sorted(by: bytewisePrecedes)
        for (index, name) in names.enumerated() {
            try update(&builder, with: try source.require(name), of: source)
            try progress(index + 1, names.count)
        }
        return builder.finish()
    }

    /// Digests one tensor: a line of JSON with name, type and shape, then its elements.
    static func update(
        _ builder: inout DigestBuilder, with tensor: TensorDescription, of source: any TensorSource
    ) throws {
        let head: JSONValue = [
            "dtype": .string(tensor.elementType.rawValue), "name": .string(tensor.name),
            "shape": .array(tensor.shape.map { .integer(Int64($0)) }),
        ]
        builder.update(head.serialized(sortedKeys: true))
        builder.update([10])
        let width = max(1, tensor.rowElementCount)
        let step = max(1, pieceElements / width)
        var row = 0
        while row < tensor.rowCount {
            let rows = row..<min(row + step, tensor.rowCount)
            if tensor.elementType == .bfloat16 {
                var piece = [UInt16](repeating: 0, count: rows.count * tensor.rowElementCount)
                try piece.withUnsafeMutableBufferPointer {
                    try source.readBFloat16(tensor.name, rows: rows, into: $0)
                }
                piece.withUnsafeBytes { builder.update($0) }
            } else {
                var piece = [Float](repeating: 0, count: rows.count * tensor.rowElementCount)
                try piece.withUnsafeMutableBufferPointer {
                    try source.readFloats(tensor.name, rows: rows, into: $0)
                }
                piece.withUnsafeBytes { builder.update($0) }
            }
            row = rows.upperBound
        }
    }
}
