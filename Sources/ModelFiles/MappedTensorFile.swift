import LinuxSystem

/// A tensor stored as it is in a mapped file: type, shape, and where its bytes lie.
///
/// The range was checked against the file's size when the file was opened.
struct StoredTensor: Sendable {
    let description: TensorDescription
    let bytes: Range<Int>
}

/// Reads rows of a stored tensor out of a mapped file, converting to the form asked for.
enum StoredTensorReader {
    static func readFloats(
        _ tensor: StoredTensor, of file: MappedFile, path: String, rows: Range<Int>,
        into output: UnsafeMutableBufferPointer<Float>
    ) throws {
        let width = tensor.description.elementType.byteWidth
        let start =
            tensor.bytes.lowerBound + rows.lowerBound * tensor.description.rowElementCount * width
        try file.withUnsafeBytes { all in
            switch tensor.description.elementType {
            case .float32:
                for i in 0..<output.count {
                    output[i] = Float(
                        bitPattern: all.loadUnaligned(
                            fromByteOffset: start + 4 * i, as: UInt32.self))
                }
            case .bfloat16:
                for i in 0..<output.count {
                    output[i] = FloatFormat.float(
                        bfloat16: all.loadUnaligned(fromByteOffset: start + 2 * i, as: UInt16.self))
                }
            case .float16:
                for i in 0..<output.count {
                    output[i] = FloatFormat.float(
                        float16: all.loadUnaligned(fromByteOffset: start + 2 * i, as: UInt16.self))
                }
            default:
                throw notAFloat(tensor, path)
            }
        }
    }

    static func readBFloat16(
        _ tensor: StoredTensor, of file: MappedFile, path: String, rows: Range<Int>,
        into output: UnsafeMutableBufferPointer<UInt16>
    ) throws {
        let width = tensor.description.elementType.byteWidth
        let start =
            tensor.bytes.lowerBound + rows.lowerBound * tensor.description.rowElementCount * width
        try file.withUnsafeBytes { all in
            switch tensor.description.elementType {
            case .bfloat16:
                for i in 0..<output.count {
                    output[i] = all.loadUnaligned(fromByteOffset: start + 2 * i, as: UInt16.self)
                }
            case .float32:
                for i in 0..<output.count {
                    output[i] = FloatFormat.bfloat16(
                        Float(
                            bitPattern: all.loadUnaligned(
                                fromByteOffset: start + 4 * i, as: UInt32.self)))
                }
            case .float16:
                for i in 0..<output.count {
                    output[i] = FloatFormat.bfloat16(
                        FloatFormat.float(
                            float16: all.loadUnaligned(
                                fromByteOffset: start + 2 * i, as: UInt16.self)))
                }
            default:
                throw notAFloat(tensor, path)
            }
        }
    }

    private static func notAFloat(_ tensor: StoredTensor, _ path: String) -> ModelFileError {
        ModelFileError(
            .unsupported, file: path, item: tensor.description.name,
            "type \(tensor.description.elementType.rawValue) cannot be read as weights; "
                + "F32, F16 and BF16 can")
    }
}
