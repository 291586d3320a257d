import JSONModel
import LinuxSystem

/// Writes a `.safetensors` file: sorted names, 8-byte aligned data, temporary name, sync, rename.
public enum SafetensorsWriter {
    /// A tensor to write. `bytes` are its elements, little-endian and row-major.
    public struct Tensor: Sendable {
        public let name: String
        public let elementType: ElementType
        public let shape: [Int]
        public let bytes: [UInt8]

        public init(name: String, elementType: ElementType, shape: [Int], bytes: [UInt8]) {
            self.name = name
            self.elementType = elementType
            self.shape = shape
            self.bytes = bytes
        }

        /// A float32 tensor, `values` row-major.
        public init(name: String, shape: [Int], floats values: [Float]) {
            self.init(
                name: name, elementType: .float32, shape: shape,
                bytes: values.withUnsafeBytes { [UInt8]($0) })
        }

        /// A bfloat16 tensor; `values` are bit patterns, row-major.
        public init(name: String, shape: [Int], bfloat16 values: [UInt16]) {
            self.init(
                name: name, elementType: .bfloat16, shape: shape,
                bytes: values.withUnsafeBytes { [UInt8]($0) })
        }
    }

    /// The bytes of a file with these tensors.
    ///
    /// - Throws: `ModelFileError` if a name repeats or bytes do not fit type and shape.
    public static func bytes(
        _ tensors: [Tensor], metadata: [(key: String, value: String)] = [], path: String = ""
    ) throws -> [UInt8] {
        // Wide elements first, as safetensors orders them, so that each tensor is aligned to its own width.
        let ordered = tensors.sorted {
            $0.elementType.byteWidth != $1.elementType.byteWidth
                ? $0.elementType.byteWidth > $1.elementType.byteWidth
                : bytewisePrecedes($0.name, $1.name)
        }
        var members: [(key: String, value: JSONValue)] = []
        if !metadata.isEmpty {
            let values = metadata.map { (key: $0.key, value: JSONValue.string($0.value)) }
            members.append(("__metadata__", .object(JSONObject(values))))
        }
        var offset = 0
        var seen = Set<String>()
        for tensor in ordered {
            guard seen.insert(tensor.name).inserted, tensor.name != "__metadata__" else {
                throw ModelFileError(
                    .duplicateTensor, file: path, item: tensor.name, "occurs twice")
            }
            let expected = Checked.product(tensor.shape + [tensor.elementType.byteWidth])
            guard expected == tensor.bytes.count else {
                throw ModelFileError(
                    .shapeMismatch, file: path, item: tensor.name,
                    "\(tensor.bytes.count) bytes do not make \(tensor.shape) of "
                        + tensor.elementType.rawValue)
            }
            members.append(
                (
                    tensor.name,
                    [
                        "dtype": .string(tensor.elementType.rawValue),
                        "shape": .array(tensor.shape.map { .integer(Int64($0)) }),
                        "data_offsets": [
                            .integer(Int64(offset)), .integer(Int64(offset + tensor.bytes.count)),
                        ],
                    ]
                ))
            offset += tensor.bytes.count
        }
        var header = JSONValue.object(JSONObject(members)).serialized()
        while header.count % 8 != 0 { header.append(UInt8(ascii: " ")) }
        var result: [UInt8] = []
        result.reserveCapacity(8 + header.count + offset)
        withUnsafeBytes(of: UInt64(header.count).littleEndian) { result.append(contentsOf: $0) }
        result.append(contentsOf: header)
        for tensor in ordered { result.append(contentsOf: tensor.bytes) }
        return result
    }

    /// Writes the file durably: a crash leaves the old file or the new one, never a part.
    public static func write(
        _ tensors: [Tensor], metadata: [(key: String, value: String)] = [("format", "pt")],
        to path: String
    ) throws {
        let content = try bytes(tensors, metadata: metadata, path: path)
        do { try DurableFile.write(content, to: path) } catch {
            throw ModelFileError(.unwritable, file: path, "\(error)")
        }
    }
}
