/// How the elements of a stored tensor are written; raw values are the names safetensors uses.
public enum ElementType: String, Sendable, Equatable, CaseIterable {
    case float64 = "F64"
    case float32 = "F32"
    case float16 = "F16"
    case bfloat16 = "BF16"
    case float8E4M3 = "F8_E4M3"
    case float8E5M2 = "F8_E5M2"
    case int64 = "I64"
    case int32 = "I32"
    case int16 = "I16"
    case int8 = "I8"
    case uint64 = "U64"
    case uint32 = "U32"
    case uint16 = "U16"
    case uint8 = "U8"
    case bool = "BOOL"

    /// Bytes of one element.
    public var byteWidth: Int {
        switch self {
        case .float64, .int64, .uint64: 8
        case .float32, .int32, .uint32: 4
        case .float16, .bfloat16, .int16, .uint16: 2
        case .float8E4M3, .float8E5M2, .int8, .uint8, .bool: 1
        }
    }

    /// Whether weights of this type can be read as floating-point numbers.
    public var isReadableFloat: Bool {
        switch self {
        case .float32, .float16, .bfloat16, .float8E4M3, .float8E5M2: true
        default: false
        }
    }

    /// The names of the types that can be read as weights, for messages.
    static var readableFloats: String {
        allCases.filter(\.isReadableFloat).map(\.rawValue).joined(separator: ", ")
    }
}

/// Conversions between the stored floating-point forms. All are the ones PyTorch makes.
public enum FloatFormat {
    /// Nearest bfloat16, ties to even; a NaN becomes the quiet NaN 0x7FC0.
    @inlinable
    public static func bfloat16(_ value: Float) -> UInt16 {
        let bits = value.bitPattern
        if bits & 0x7FFF_FFFF > 0x7F80_0000 { return 0x7FC0 }
        return UInt16(truncatingIfNeeded: (bits &+ (0x7FFF &+ ((bits >> 16) & 1))) >> 16)
    }

    /// The float32 that a bfloat16 is the upper half of; exact.
    @inlinable
    public static func float(bfloat16 bits: UInt16) -> Float {
        Float(bitPattern: UInt32(bits) << 16)
    }

    /// The float32 of an IEEE half; exact.
    @inlinable
    public static func float(float16 bits: UInt16) -> Float {
        let sign = UInt32(bits & 0x8000) << 16
        let exponent = UInt32(bits >> 10) & 0x1F
        let fraction = UInt32(bits) & 0x3FF
        if exponent == 0x1F { return Float(bitPattern: sign | 0x7F80_0000 | fraction << 13) }
        if exponent != 0 {
            return Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
        }
        // Zero or subnormal: fraction · 2^-24.
        let magnitude = Float(fraction) * Float(bitPattern: 0x3380_0000)
        return Float(bitPattern: sign | magnitude.bitPattern)
    }

    /// The float32 of an 8-bit float with 4 exponent bits (bias 7), 3 fraction bits and no infinity (PyTorch's
    /// `float8_e4m3fn`, Micikevicius et al. 2022); exact.
    @inlinable
    public static func float(e4m3 bits: UInt8) -> Float {
        let sign: Float = bits & 0x80 == 0 ? 1 : -1
        let exponent = Int(bits >> 3) & 0xF
        let fraction = Float(bits & 7)
        if bits & 0x7F == 0x7F { return .nan }
        if exponent == 0 { return sign * fraction * 0x1p-9 }
        return sign * (8 + fraction) * Float(sign: .plus, exponent: exponent - 10, significand: 1)
    }

    /// The float32 of an 8-bit float with 5 exponent bits and 2 fraction bits: the upper byte of an IEEE half; exact.
    @inlinable
    public static func float(e5m2 bits: UInt8) -> Float { float(float16: UInt16(bits) << 8) }

    /// Nearest IEEE half, ties to even; overflow gives infinity.
    @inlinable
    public static func float16(_ value: Float) -> UInt16 {
        let bits = value.bitPattern
        let sign = UInt16(truncatingIfNeeded: bits >> 16) & 0x8000
        let magnitude = bits & 0x7FFF_FFFF
        if magnitude > 0x7F80_0000 { return sign | 0x7E00 }
        if magnitude >= 0x4780_0000 { return sign | 0x7C00 }
        if magnitude >= 0x3880_0000 {
            let rebased = magnitude - 0x3800_0000
            let rounded = rebased + 0xFFF + ((rebased >> 13) & 1)
            return sign | UInt16(truncatingIfNeeded: rounded >> 13)
        }
        // Subnormal: adding 0.5 leaves the rounded fraction in the low bits.
        let shifted = Float(bitPattern: magnitude) + 0.5
        return sign | UInt16(truncatingIfNeeded: shifted.bitPattern &- 0x3F00_0000)
    }
}
