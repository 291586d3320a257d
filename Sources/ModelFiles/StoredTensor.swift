/// A tensor stored as it is in a file: type, shape, and where its bytes lie.
///
/// The range was checked against the file's size when the file was opened.
struct StoredTensor: Sendable {
    let description: TensorDescription
    let bytes: Range<Int>
}

/// Reads rows of a stored tensor out of its file, converting to the form asked for.
enum StoredTensorReader {
    static func readFloats(
        _ tensor: StoredTensor, of file: SourceFile, rows: Range<Int>,
        into output: UnsafeMutableBufferPointer<Float>
    ) throws {
        let type = tensor.description.elementType
        let start = start(tensor, rows)
        guard type != .float32 else {
            return try file.read(at: start, into: UnsafeMutableRawBufferPointer(output))
        }
        guard let convert = float(of: type) else { throw notAFloat(tensor, file.path) }
        try file.forEachPiece(at: start, elements: output.count, width: type.byteWidth) {
            convert($0, UnsafeMutableBufferPointer(rebasing: output[$1...]))
        }
    }

    static func readBFloat16(
        _ tensor: StoredTensor, of file: SourceFile, rows: Range<Int>,
        into output: UnsafeMutableBufferPointer<UInt16>
    ) throws {
        let type = tensor.description.elementType
        let start = start(tensor, rows)
        guard type != .bfloat16 else {
            return try file.read(at: start, into: UnsafeMutableRawBufferPointer(output))
        }
        if type == .float32 {
            return try file.forEachPiece(at: start, elements: output.count, width: 4) {
                bytes, first in
                for i in 0..<bytes.count / 4 {
                    let bits = bytes.loadUnaligned(fromByteOffset: 4 * i, as: UInt32.self)
                    output[first + i] = FloatFormat.bfloat16(Float(bitPattern: bits))
                }
            }
        }
        guard let convert = float(of: type) else { throw notAFloat(tensor, file.path) }
        var wide = [Float](
            repeating: 0, count: min(output.count, SourceFile.pieceBytes / type.byteWidth))
        try file.forEachPiece(at: start, elements: output.count, width: type.byteWidth) {
            bytes, first in
            let number = bytes.count / type.byteWidth
            wide.withUnsafeMutableBufferPointer { convert(bytes, $0) }
            for i in 0..<number { output[first + i] = FloatFormat.bfloat16(wide[i]) }
        }
    }

    private static func start(_ tensor: StoredTensor, _ rows: Range<Int>) -> Int {
        tensor.bytes.lowerBound + rows.lowerBound * tensor.description.rowElementCount
            * tensor.description.elementType.byteWidth
    }

    private typealias Conversion = (UnsafeRawBufferPointer, UnsafeMutableBufferPointer<Float>) ->
        Void

    /// How the narrow types become float32, exactly; nil for what is no float.
    private static func float(of type: ElementType) -> Conversion? {
        func halves(_ convert: @escaping (UInt16) -> Float) -> Conversion {
            { bytes, output in
                for i in 0..<bytes.count / 2 {
                    output[i] = convert(
                        bytes.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self))
                }
            }
        }
        func table(_ convert: (UInt8) -> Float) -> Conversion {
            let values = (UInt8.min...UInt8.max).map(convert)
            return { bytes, output in
                for i in 0..<bytes.count { output[i] = values[Int(bytes[i])] }
            }
        }
        switch type {
        case .bfloat16: return halves { FloatFormat.float(bfloat16: $0) }
        case .float16: return halves { FloatFormat.float(float16: $0) }
        case .float8E4M3: return table { FloatFormat.float(e4m3: $0) }
        case .float8E5M2: return table { FloatFormat.float(e5m2: $0) }
        default: return nil
        }
    }

    private static func notAFloat(_ tensor: StoredTensor, _ path: String) -> ModelFileError {
        ModelFileError(
            .unsupported, file: path, item: tensor.description.name,
            "type \(tensor.description.elementType.rawValue) cannot be read as weights; "
                + ElementType.readableFloats + " can")
    }
}
