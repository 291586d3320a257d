import LinuxSystem

/// Writes a small GGUF file (version 3) with float32 tensors: an adapter.
///
/// Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
public enum GGUFWriter {
    /// A metadata value that adapters need.
    public enum Value: Sendable {
        case string(String)
        case number(Float)
        case unsigned(UInt32)
    }

    /// A float32 tensor; `shape` outermost dimension first, `values` row-major.
    public struct Tensor: Sendable {
        public let name: String
        public let shape: [Int]
        public let values: [Float]

        public init(name: String, shape: [Int], values: [Float]) {
            self.name = name
            self.shape = shape
            self.values = values
        }
    }

    static let alignment = 32

    /// - Throws: `ModelFileError` if a name repeats or values do not fit a shape.
    public static func bytes(
        metadata: [(key: String, value: Value)], tensors: [Tensor], path: String = ""
    ) throws -> [UInt8] {
        var result = Array("GGUF".utf8)
        func number<T: FixedWidthInteger>(_ value: T) {
            withUnsafeBytes(of: value.littleEndian) { result.append(contentsOf: $0) }
        }
        func text(_ value: String) {
            number(UInt64(value.utf8.count))
            result.append(contentsOf: value.utf8)
        }
        number(UInt32(3))
        number(UInt64(tensors.count))
        number(UInt64(metadata.count))
        for (key, value) in metadata {
            text(key)
            switch value {
            case .unsigned(let value):
                number(UInt32(4))
                number(value)
            case .number(let value):
                number(UInt32(6))
                number(value.bitPattern)
            case .string(let value):
                number(UInt32(8))
                text(value)
            }
        }
        var seen = Set<String>()
        var offset = 0
        for tensor in tensors {
            guard seen.insert(tensor.name).inserted else {
                throw ModelFileError(
                    .duplicateTensor, file: path, item: tensor.name, "occurs twice")
            }
            guard Checked.product(tensor.shape) == tensor.values.count, !tensor.values.isEmpty
            else {
                throw ModelFileError(
                    .shapeMismatch, file: path, item: tensor.name,
                    "\(tensor.values.count) values do not make \(tensor.shape)")
            }
            text(tensor.name)
            number(UInt32(tensor.shape.count))
            for size in tensor.shape.reversed() { number(UInt64(size)) }
            number(GGUFQuantization.f32.rawValue)
            number(UInt64(offset))
            offset = (offset + 4 * tensor.values.count + alignment - 1) / alignment * alignment
        }
        for tensor in tensors {
            pad(&result)
            tensor.values.withUnsafeBytes { result.append(contentsOf: $0) }
        }
        pad(&result)
        return result
    }

    private static func pad(_ bytes: inout [UInt8]) {
        while bytes.count % alignment != 0 { bytes.append(0) }
    }
}
