import LinuxSystem

/// Writes a GGUF file (version 3), a piece of a tensor at a time: what is in memory does not grow with the model.
///
/// Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
public enum GGUFStreamWriter {
    /// A metadata value.
    public enum Value: Sendable {
        case string([UInt8])
        case number(Float)
        case unsigned(UInt32)
        case flag(Bool)
        case strings([[UInt8]])
        case integers([Int32])
        case numbers([Float])

        public static func text(_ value: String) -> Value { .string(Array(value.utf8)) }
    }

    /// A tensor to come.
    public struct Tensor: Sendable {
        public let name: String
        /// Outermost dimension first.
        public let shape: [Int]
        /// `F32`, `F16` or `BF16`.
        public let elementType: ElementType
        /// Gives rows as float32, row-major.
        public let read:
            @Sendable (_ rows: Range<Int>, _ output: UnsafeMutableBufferPointer<Float>) throws ->
                Void

        public init(
            name: String, shape: [Int], elementType: ElementType,
            read: @escaping @Sendable (Range<Int>, UnsafeMutableBufferPointer<Float>) throws -> Void
        ) {
            self.name = name
            self.shape = shape
            self.elementType = elementType
            self.read = read
        }

        var elementCount: Int { shape.reduce(1, *) }
        var byteCount: Int { elementCount * elementType.byteWidth }
    }

    /// Rows are read in pieces of about this many elements.
    static let pieceElements = 1 << 20

    /// - Parameter progress: Called after each tensor with bytes done and in all; throwing ends the work, and nothing is left.
    /// - Returns: Bytes of the file.
    /// - Throws: `ModelFileError`, also for a number that float16 cannot hold; what `progress` throws.
    @discardableResult
    public static func write(
        metadata: [(key: String, value: Value)], tensors: [Tensor], to path: String,
        mode: UInt32 = 0o644, progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
    ) throws -> Int {
        var header = try header(metadata, tensors, path)
        pad(&header)
        let total = tensors.reduce(0) { $0 + padded($1.byteCount) }
        var writer: DurableFileWriter
        do { writer = try DurableFileWriter(path: path, mode: mode) } catch {
            throw ModelFileError(.unwritable, file: path, "\(error)")
        }
        do {
            try writer.append(header)
            var done = 0
            for tensor in tensors {
                try append(tensor, to: &writer, path)
                try writer.append(
                    [UInt8](repeating: 0, count: padded(tensor.byteCount) - tensor.byteCount))
                done += padded(tensor.byteCount)
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
        return header.count + total
    }

    private static func padded(_ count: Int) -> Int {
        (count + GGUFWriter.alignment - 1) / GGUFWriter.alignment * GGUFWriter.alignment
    }

    private static func pad(_ bytes: inout [UInt8]) {
        bytes.append(contentsOf: [UInt8](repeating: 0, count: padded(bytes.count) - bytes.count))
    }

    private static func type(_ type: ElementType) -> GGUFQuantization? {
        switch type {
        case .float32: .f32
        case .float16: .f16
        case .bfloat16: .bf16
        default: nil
        }
    }

    private static func header(
        _ metadata: [(key: String, value: Value)], _ tensors: [Tensor], _ path: String
    ) throws -> [UInt8] {
        var bytes = Bytes()
        bytes.result = Array("GGUF".utf8)
        bytes.number(UInt32(3))
        bytes.number(UInt64(tensors.count))
        bytes.number(UInt64(metadata.count))
        for (key, value) in metadata {
            bytes.text(Array(key.utf8))
            bytes.value(value)
        }
        var seen = Set<String>()
        var offset = 0
        for tensor in tensors {
            guard seen.insert(tensor.name).inserted else {
                throw ModelFileError(
                    .duplicateTensor, file: path, item: tensor.name, "occurs twice")
            }
            guard let type = type(tensor.elementType) else {
                throw ModelFileError(
                    .unsupported, file: path, item: tensor.name,
                    "\(tensor.elementType.rawValue) is not written; F32, F16 and BF16 are")
            }
            bytes.text(Array(tensor.name.utf8))
            bytes.number(UInt32(tensor.shape.count))
            for size in tensor.shape.reversed() { bytes.number(UInt64(size)) }
            bytes.number(type.rawValue)
            bytes.number(UInt64(offset))
            offset += padded(tensor.byteCount)
        }
        return bytes.result
    }

    /// Little-endian numbers and counted texts.
    private struct Bytes {
        var result: [UInt8] = []

        mutating func number<T: FixedWidthInteger>(_ value: T) {
            withUnsafeBytes(of: value.littleEndian) { result.append(contentsOf: $0) }
        }

        mutating func text(_ value: [UInt8]) {
            number(UInt64(value.count))
            result.append(contentsOf: value)
        }

        private mutating func array(_ type: UInt32, count: Int) {
            number(UInt32(9))
            number(type)
            number(UInt64(count))
        }

        mutating func value(_ value: Value) {
            switch value {
            case .unsigned(let value):
                number(UInt32(4))
                number(value)
            case .number(let value):
                number(UInt32(6))
                number(value.bitPattern)
            case .flag(let value):
                number(UInt32(7))
                number(UInt8(value ? 1 : 0))
            case .string(let value):
                number(UInt32(8))
                text(value)
            case .strings(let values):
                array(8, count: values.count)
                for value in values { text(value) }
            case .integers(let values):
                array(5, count: values.count)
                for value in values { number(value) }
            case .numbers(let values):
                array(6, count: values.count)
                for value in values { number(value.bitPattern) }
            }
        }
    }

    private static func append(
        _ tensor: Tensor, to writer: inout DurableFileWriter, _ path: String
    ) throws {
        let rowCount = tensor.shape.first ?? 1
        let width = max(1, tensor.elementCount / max(1, rowCount))
        let step = max(1, pieceElements / width)
        var row = 0
        while row < rowCount {
            let rows = row..<min(row + step, rowCount)
            var piece = [Float](repeating: 0, count: rows.count * width)
            try piece.withUnsafeMutableBufferPointer { try tensor.read(rows, $0) }
            switch tensor.elementType {
            case .float16:
                let halves = piece.map(FloatFormat.float16)
                // 0x7C00: infinity. What was finite must stay so.
                if let place = halves.indices.first(where: {
                    halves[$0] & 0x7FFF == 0x7C00 && piece[$0].isFinite
                }) {
                    throw ModelFileError(
                        .unsupported, file: path, item: tensor.name,
                        "holds \(piece[place]), which float16 cannot say; write bfloat16 or float32"
                    )
                }
                try halves.withUnsafeBytes { try writer.append($0) }
            case .bfloat16:
                try piece.map(FloatFormat.bfloat16).withUnsafeBytes { try writer.append($0) }
            default: try piece.withUnsafeBytes { try writer.append($0) }
            }
            row = rows.upperBound
        }
    }
}
