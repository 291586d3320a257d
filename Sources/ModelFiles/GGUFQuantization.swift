/// How GGUF stores the elements of a tensor; raw values are ggml's type numbers.
///
/// A quantized row is a sequence of blocks, each with its own scale. The float32 operations are those of
/// gguf-py's `quants.py`, in the same order, so that the results are equal to the last bit.
public enum GGUFQuantization: UInt32, Sendable, CaseIterable {
    case f32 = 0
    case f16 = 1
    case q40 = 2
    case q41 = 3
    case q50 = 6
    case q51 = 7
    case q80 = 8
    case q4K = 12
    case q5K = 13
    case q6K = 14
    case bf16 = 30

    public var name: String {
        switch self {
        case .f32: "F32"
        case .f16: "F16"
        case .q40: "Q4_0"
        case .q41: "Q4_1"
        case .q50: "Q5_0"
        case .q51: "Q5_1"
        case .q80: "Q8_0"
        case .q4K: "Q4_K"
        case .q5K: "Q5_K"
        case .q6K: "Q6_K"
        case .bf16: "BF16"
        }
    }

    /// Elements of one block.
    public var blockElements: Int {
        switch self {
        case .f32, .f16, .bf16: 1
        case .q40, .q41, .q50, .q51, .q80: 32
        case .q4K, .q5K, .q6K: 256
        }
    }

    /// Bytes of one block.
    public var blockBytes: Int {
        switch self {
        case .f32: 4
        case .f16, .bf16: 2
        case .q40: 18
        case .q41: 20
        case .q50: 22
        case .q51: 24
        case .q80: 34
        case .q4K: 144
        case .q5K: 176
        case .q6K: 210
        }
    }

    /// Writes the float32 values of whole blocks.
    ///
    /// - Parameters:
    ///   - blocks: `output.count / blockElements` blocks.
    ///   - output: Receives the values; both sizes were checked by the caller.
    func dequantize(
        _ blocks: UnsafeRawBufferPointer, into output: UnsafeMutableBufferPointer<Float>
    ) {
        let count = output.count / blockElements
        guard count > 0, let base = blocks.baseAddress, let target = output.baseAddress,
            blocks.count >= count * blockBytes
        else { return }
        for index in 0..<count {
            let block = base + index * blockBytes
            let values = target + index * blockElements
            switch self {
            case .f32: values[0] = Float(bitPattern: block.loadUnaligned(as: UInt32.self))
            case .f16: values[0] = half(block, 0)
            case .bf16:
                values[0] = FloatFormat.float(bfloat16: block.loadUnaligned(as: UInt16.self))
            case .q40: fourBits(block + 2, scale: half(block, 0), offset: 8, minimum: nil, values)
            case .q41:
                fourBits(
                    block + 4, scale: half(block, 0), offset: 0, minimum: half(block, 2), values)
            case .q50:
                fiveBits(
                    block + 6, high: block + 2, scale: half(block, 0), offset: 16, minimum: nil,
                    values)
            case .q51:
                fiveBits(
                    block + 8, high: block + 4, scale: half(block, 0), offset: 0,
                    minimum: half(block, 2), values)
            case .q80:
                let scale = half(block, 0)
                for i in 0..<32 {
                    values[i] = scale * Float(block.load(fromByteOffset: 2 + i, as: Int8.self))
                }
            case .q4K: superBlock(block, highBits: nil, low: block + 16, values)
            case .q5K: superBlock(block, highBits: block + 16, low: block + 48, values)
            case .q6K: sixBits(block, values)
            }
        }
    }

    private func half(_ block: UnsafeRawPointer, _ offset: Int) -> Float {
        FloatFormat.float(float16: block.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    private func byte(_ pointer: UnsafeRawPointer, _ index: Int) -> Int {
        Int(pointer.load(fromByteOffset: index, as: UInt8.self))
    }

    /// 32 values: the low nibbles of 16 bytes, then the high ones.
    private func fourBits(
        _ quants: UnsafeRawPointer, scale: Float, offset: Int, minimum: Float?,
        _ values: UnsafeMutablePointer<Float>
    ) {
        for i in 0..<16 {
            let both = byte(quants, i)
            let low = scale * Float((both & 15) - offset)
            let high = scale * Float((both >> 4) - offset)
            values[i] = minimum.map { low + $0 } ?? low
            values[i + 16] = minimum.map { high + $0 } ?? high
        }
    }

    /// As four bits, with a fifth bit for each value in the 32 bits at `high`.
    private func fiveBits(
        _ quants: UnsafeRawPointer, high: UnsafeRawPointer, scale: Float, offset: Int,
        minimum: Float?, _ values: UnsafeMutablePointer<Float>
    ) {
        let bits = high.loadUnaligned(as: UInt32.self)
        for i in 0..<16 {
            let both = byte(quants, i)
            let first = (both & 15) | Int((bits >> UInt32(i)) & 1) << 4
            let second = (both >> 4) | Int((bits >> UInt32(i + 16)) & 1) << 4
            let low = scale * Float(first - offset)
            let upper = scale * Float(second - offset)
            values[i] = minimum.map { low + $0 } ?? low
            values[i + 16] = minimum.map { upper + $0 } ?? upper
        }
    }

    /// Q4_K and Q5_K: 8 groups of 32 values, each with a 6-bit scale and a 6-bit minimum.
    private func superBlock(
        _ block: UnsafeRawPointer, highBits: UnsafeRawPointer?, low: UnsafeRawPointer,
        _ values: UnsafeMutablePointer<Float>
    ) {
        let scale = half(block, 0)
        let minimum = half(block, 2)
        let packed = block + 4
        for group in 0..<8 {
            let groupScale: Int
            let groupMinimum: Int
            if group < 4 {
                groupScale = byte(packed, group) & 63
                groupMinimum = byte(packed, group + 4) & 63
            } else {
                groupScale =
                    (byte(packed, group + 4) & 15) | (byte(packed, group - 4) >> 6) << 4
                groupMinimum = (byte(packed, group + 4) >> 4) | (byte(packed, group) >> 6) << 4
            }
            let d = scale * Float(groupScale)
            let m = minimum * Float(groupMinimum)
            let quants = low + 32 * (group / 2)
            let shift = 4 * (group % 2)
            for i in 0..<32 {
                var quant = (byte(quants, i) >> shift) & 15
                if let highBits { quant |= ((byte(highBits, i) >> group) & 1) << 4 }
                values[32 * group + i] = d * Float(quant) - m
            }
        }
    }

    /// Q6_K: 16 groups of 16 values with 8-bit scales; four bits in `ql`, two in `qh`.
    private func sixBits(_ block: UnsafeRawPointer, _ values: UnsafeMutablePointer<Float>) {
        let scale = half(block, 208)
        for half in 0..<2 {
            let low = block + 64 * half
            let high = block + 128 + 32 * half
            for part in 0..<4 {
                let quants = low + 32 * (part % 2)
                let lowShift = 4 * (part / 2)
                for i in 0..<32 {
                    let four = (byte(quants, i) >> lowShift) & 15
                    let two = (byte(high, i) >> (2 * part)) & 3
                    let index = 128 * half + 32 * part + i
                    let group = block.load(fromByteOffset: 192 + index / 16, as: Int8.self)
                    values[index] = (scale * Float(group)) * Float((four | two << 4) - 32)
                }
            }
        }
    }
}
