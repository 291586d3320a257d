import Synchronization

/// Opens the weights of a Hugging Face folder in the form that `ModelConfig.expectedTensors` names.
public enum CheckpointSource {
    /// - Parameter folder: A folder with `model.safetensors` or its shards.
    public static func open(folder: String, config: ModelConfig) throws -> any TensorSource {
        let checkpoint = try SafetensorsCheckpoint(folder: folder)
        if config.matrixNaming == .conv1D { return try Conv1DCheckpoint(checkpoint) }
        return checkpoint
    }

    /// Tensors of that form as a file of the folder holds them.
    public static func stored(
        _ source: any TensorSource, config: ModelConfig
    ) throws -> any TensorSource {
        // Transposing is its own inverse.
        config.matrixNaming == .conv1D ? try Conv1DCheckpoint(source) : source
    }
}

/// A GPT-2 checkpoint with every matrix `[out, in]` and every name under `transformer.`.
///
/// transformers' `Conv1D` stores its weight `[in, out]`. The first checkpoints hold the names of the bare model, without
/// `transformer.`, and causal masks (`attn.bias`, `attn.masked_bias`), which are left out.
final class Conv1DCheckpoint: TensorSource {
    private struct Entry {
        let stored: String
        let description: TensorDescription
        let isTransposed: Bool
    }

    let path: String
    let tensors: [TensorDescription]
    private let source: any TensorSource
    private let entries: [String: Entry]
    /// The transposed matrix that rows were last read from: readers go through one after the other.
    private let last = Mutex<(name: String, values: [Float])?>(nil)

    init(_ source: any TensorSource) throws {
        self.source = source
        path = source.path
        var entries: [String: Entry] = [:]
        for tensor in source.tensors {
            if tensor.name.hasSuffix(".attn.bias") || tensor.name.hasSuffix(".attn.masked_bias") {
                continue
            }
            let prefix = "transformer."
            let isWhole = tensor.name.hasPrefix(prefix) || tensor.name.hasPrefix("lm_head.")
            let name = isWhole ? tensor.name : prefix + tensor.name
            let isTransposed =
                tensor.shape.count == 2
                && [".c_attn.weight", ".c_proj.weight", ".c_fc.weight"].contains {
                    name.hasSuffix($0)
                }
            let description = TensorDescription(
                name: name, elementType: tensor.elementType,
                shape: isTransposed ? tensor.shape.reversed() : tensor.shape)
            let entry = Entry(
                stored: tensor.name, description: description, isTransposed: isTransposed)
            if let other = entries.updateValue(entry, forKey: name) {
                throw ModelFileError(
                    .duplicateTensor, file: source.path, item: tensor.name,
                    "is \(other.stored) once more")
            }
        }
        self.entries = entries
        tensors = entries.values.map(\.description).sorted { bytewisePrecedes($0.name, $1.name) }
    }

    func description(of name: String) -> TensorDescription? { entries[name]?.description }

    func readFloats(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<Float>
    ) throws {
        let entry = try find(name)
        guard entry.isTransposed else {
            return try source.readFloats(entry.stored, rows: rows, into: output)
        }
        try checkRows(entry.description, rows, capacity: output.count)
        let width = entry.description.rowElementCount
        try last.withLock { last in
            if last?.name != name { last = (name, try transposed(entry)) }
            guard let values = last?.values else { return }
            _ = output.update(
                fromContentsOf: values[rows.lowerBound * width..<rows.upperBound * width])
        }
    }

    func readBFloat16(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<UInt16>
    ) throws {
        let entry = try find(name)
        guard entry.isTransposed else {
            return try source.readBFloat16(entry.stored, rows: rows, into: output)
        }
        var values = [Float](repeating: 0, count: output.count)
        try values.withUnsafeMutableBufferPointer { try readFloats(name, rows: rows, into: $0) }
        for index in output.indices { output[index] = FloatFormat.bfloat16(values[index]) }
    }

    func checkUnchanged() throws { try source.checkUnchanged() }

    private func find(_ name: String) throws -> Entry {
        guard let entry = entries[name] else {
            throw ModelFileError(.missingTensor, file: path, item: name, "no such tensor")
        }
        return entry
    }

    private func transposed(_ entry: Entry) throws -> [Float] {
        let stored = try source.floats(entry.stored)
        let rows = entry.description.rowCount
        let columns = entry.description.rowElementCount
        return [Float](unsafeUninitializedCapacity: stored.count) { buffer, count in
            for column in 0..<columns {
                for row in 0..<rows {
                    buffer[row * columns + column] = stored[column * rows + row]
                }
            }
            count = stored.count
        }
    }
}
