import JSONModel
import LinuxSystem

/// Writes a whole checkpoint as one `.safetensors` file, a piece of a tensor at a time: what is in memory does not grow
/// with the model.
///
/// Source: https://github.com/huggingface/safetensors#format.
public enum SafetensorsStreamWriter {
    /// Rows are read in pieces of about this many elements.
    static let pieceElements = 1 << 20

    /// - Parameters:
    ///   - tensors: What to write, under these names and in these types: `F32` or `BF16`.
    ///   - source: Where their numbers come from; wider ones are rounded to nearest even.
    ///   - progress: Called after each tensor with bytes done and bytes in all; throwing ends the work, and nothing is
    ///     left under `path`.
    /// - Returns: Bytes of the file.
    /// - Throws: `ModelFileError`, or what `progress` throws.
    @discardableResult
    public static func write(
        _ tensors: [TensorDescription], from source: any TensorSource, to path: String,
        mode: UInt32 = 0o644, progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
    ) throws -> Int {
        // Wide elements first, as safetensors orders them, so that each tensor is aligned to its own width.
        let ordered = tensors.sorted {
            $0.elementType.byteWidth != $1.elementType.byteWidth
                ? $0.elementType.byteWidth > $1.elementType.byteWidth
                : bytewisePrecedes($0.name, $1.name)
        }
        if let wrong = ordered.first(where: { ![.float32, .bfloat16].contains($0.elementType) }) {
            throw ModelFileError(
                .unsupported, file: path, item: wrong.name,
                "\(wrong.elementType.rawValue) is not written; F32 and BF16 are")
        }
        let header = header(ordered)
        let total = ordered.reduce(0) { $0 + $1.elementCount * $1.elementType.byteWidth }
        var writer: DurableFileWriter
        do { writer = try DurableFileWriter(path: path, mode: mode) } catch {
            throw ModelFileError(.unwritable, file: path, "\(error)")
        }
        do {
            try withUnsafeBytes(of: UInt64(header.count).littleEndian) { try writer.append($0) }
            try writer.append(header)
            var done = 0
            for tensor in ordered {
                try append(tensor, from: source, to: &writer)
                done += tensor.elementCount * tensor.elementType.byteWidth
                try progress(done, total)
            }
            try writer.commit()
        } catch let error as SystemError {
            writer.abandon()
            throw ModelFileError(.unwritable, file: path, "\(error)")
        } catch {
            writer.abandon()
            throw error
        }
        return 8 + header.count + total
    }

    private static func header(_ tensors: [TensorDescription]) -> [UInt8] {
        var members: [(key: String, value: JSONValue)] = [("__metadata__", ["format": "pt"])]
        var offset = 0
        for tensor in tensors {
            let end = offset + tensor.elementCount * tensor.elementType.byteWidth
            let entry: JSONValue = [
                "dtype": .string(tensor.elementType.rawValue),
                "shape": .array(tensor.shape.map { .integer(Int64($0)) }),
                "data_offsets": [.integer(Int64(offset)), .integer(Int64(end))],
            ]
            members.append((tensor.name, entry))
            offset = end
        }
        var header = JSONValue.object(JSONObject(members)).serialized()
        while header.count % 8 != 0 { header.append(UInt8(ascii: " ")) }
        return header
    }

    private static func append(
        _ tensor: TensorDescription, from source: any TensorSource,
        to writer: inout DurableFileWriter
    ) throws {
        let width = max(1, tensor.rowElementCount)
        let step = max(1, pieceElements / width)
        var row = 0
        while row < tensor.rowCount {
            let rows = row..<min(row + step, tensor.rowCount)
            if tensor.elementType == .bfloat16 {
                var piece = [UInt16](repeating: 0, count: rows.count * width)
                try piece.withUnsafeMutableBufferPointer {
                    try source.readBFloat16(tensor.name, rows: rows, into: $0)
                }
                try piece.withUnsafeBytes { try writer.append($0) }
            } else {
                var piece = [Float](repeating: 0, count: rows.count * width)
                try piece.withUnsafeMutableBufferPointer {
                    try source.readFloats(tensor.name, rows: rows, into: $0)
                }
                try piece.withUnsafeBytes { try writer.append($0) }
            }
            row = rows.upperBound
        }
    }
}
