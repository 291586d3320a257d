import JSONModel
import LinuxSystem

/// Writes a packed model file: temporary name, sync, rename. A crash leaves no half file under `path`.
public enum PackedModelWriter {
    /// - Parameters:
    ///   - elementType: `bfloat16` or `float32`, for the matrices.
    ///   - progress: Called after each tensor with bytes done and bytes in all; throwing ends the work and
    ///     removes what was written.
    /// - Throws: `ModelFileError`, or what `packer` and `progress` throw.
    public static func write(
        config: ModelConfig, source: any TensorSource, base: ContentDigest,
        elementType: ElementType, packer: some MatrixPacker, to path: String,
        progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
    ) throws {
        let plan = try packer.plan(for: config, elementType: elementType)
        try checkPlan(plan, config: config, path: path)
        let header = header(plan, base: base, elementType: elementType)
        let dataBytes = plan.reduce(0) { $0 + aligned($1.byteCount) }
        let start = aligned(PackedForm.prefixBytes + header.text.count)
        let fileBytes = start + dataBytes + PackedForm.pageBytes

        var writer: DurableFileWriter
        do { writer = try DurableFileWriter(path: path) } catch {
            throw ModelFileError(.unwritable, file: path, "\(error)")
        }
        do {
            try writer.append(prefix(headerText: header.text, fileBytes: fileBytes))
            try writer.append(header.text)
            try writer.align(to: PackedForm.pageBytes)
            var digest = DigestBuilder()
            var done = 0
            for tensor in plan {
                try writeTensor(
                    tensor, source: source, packer: packer, writer: &writer, digest: &digest)
                done += aligned(tensor.byteCount)
                try progress(done, dataBytes)
            }
            try writer.append(PackedForm.endMagic)
            try writer.append(Array(digest.finish().hex.utf8))
            try writer.align(to: PackedForm.pageBytes)
            try writer.commit()
        } catch let error as SystemError {
            writer.abandon()
            throw ModelFileError(.unwritable, file: path, "\(error)")
        } catch {
            writer.abandon()
            throw error
        }
    }

    private static func writeTensor(
        _ tensor: PackedTensor, source: any TensorSource, packer: some MatrixPacker,
        writer: inout DurableFileWriter, digest: inout DigestBuilder
    ) throws {
        let count = aligned(tensor.byteCount)
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: count, alignment: PackedForm.pageBytes)
        defer { buffer.deallocate() }
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        try packer.pack(
            tensor, from: source,
            into: UnsafeMutableRawBufferPointer(rebasing: buffer[0..<tensor.byteCount]))
        digest.update(UnsafeRawBufferPointer(buffer))
        try writer.append(UnsafeRawBufferPointer(buffer))
    }

    private static func aligned(_ bytes: Int) -> Int {
        (bytes + PackedForm.pageBytes - 1) / PackedForm.pageBytes * PackedForm.pageBytes
    }

    /// Every tensor of the architecture must go into the file; a packer that forgets one is at fault.
    private static func checkPlan(
        _ plan: [PackedTensor], config: ModelConfig, path: String
    ) throws {
        let used = Set(plan.flatMap(\.sources))
        if let forgotten = config.expectedTensors.first(where: { !used.contains($0.name) }) {
            throw ModelFileError(
                .missingTensor, file: path, item: forgotten.name, "the packer's plan leaves it out")
        }
    }

    private static func header(
        _ plan: [PackedTensor], base: ContentDigest, elementType: ElementType
    ) -> (text: [UInt8], start: Int) {
        func text(start: Int) -> [UInt8] {
            var offset = start
            let tensors = plan.map { tensor -> JSONValue in
                defer { offset += aligned(tensor.byteCount) }
                return [
                    "name": .string(tensor.name), "dtype": .string(tensor.elementType.rawValue),
                    "rows": .integer(Int64(tensor.rows)),
                    "columns": .integer(Int64(tensor.columns)),
                    "layout": .string(tensor.layout), "offset": .integer(Int64(offset)),
                    "bytes": .integer(Int64(tensor.byteCount)),
                    "sources": .array(tensor.sources.map { .string($0) }),
                ]
            }
            let header: JSONValue = [
                "base": .string(base.text), "dtype": .string(elementType.rawValue),
                "tensors": .array(tensors),
            ]
            return header.serialized()
        }
        // The start depends on the header's length, and that on the digits of the offsets: try page by page.
        var start = PackedForm.pageBytes
        while true {
            var candidate = text(start: start)
            let room = start - PackedForm.prefixBytes
            if candidate.count <= room {
                candidate += [UInt8](repeating: UInt8(ascii: " "), count: room - candidate.count)
                return (candidate, start)
            }
            start = max(
                aligned(PackedForm.prefixBytes + candidate.count), start + PackedForm.pageBytes)
        }
    }

    private static func prefix(headerText: [UInt8], fileBytes: Int) -> [UInt8] {
        var result = PackedForm.magic
        func append<T: FixedWidthInteger>(_ value: T) {
            withUnsafeBytes(of: value.littleEndian) { result.append(contentsOf: $0) }
        }
        append(UInt32(PackedForm.version))
        append(UInt32(PackedForm.pageBytes))
        append(UInt64(headerText.count))
        append(UInt64(fileBytes))
        result.append(contentsOf: ContentDigest(of: headerText).hex.utf8)
        return result
    }
}
