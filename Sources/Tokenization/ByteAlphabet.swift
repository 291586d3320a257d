/// GPT-2's mapping between bytes and printable characters: vocabularies of byte-level BPE are written
/// in it (`Ġ` stands for a space). Source: `bytes_to_unicode` of OpenAI's `encoder.py`.
enum ByteAlphabet {
    /// The scalar that stands for each byte.
    static let scalars: [UInt32] = {
        var next: UInt32 = 256
        return (0..<256).map { byte in
            switch byte {
            case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return UInt32(byte)
            default:
                defer { next += 1 }
                return next
            }
        }
    }()

    /// The byte that each scalar below 324 stands for; -1 for none.
    private static let bytes: [Int16] = {
        var bytes = [Int16](repeating: -1, count: 324)
        for (byte, scalar) in scalars.enumerated() { bytes[Int(scalar)] = Int16(byte) }
        return bytes
    }()

    static func byte(of scalar: UInt32) -> UInt8? {
        guard scalar < 324, bytes[Int(scalar)] >= 0 else { return nil }
        return UInt8(bytes[Int(scalar)])
    }

    /// Appends the characters for `bytes`, in UTF-8.
    static func appendCharacters(for bytes: ArraySlice<UInt8>, to result: inout [UInt8]) {
        for byte in bytes { UTF8Text.append(scalars[Int(byte)], to: &result) }
    }

    /// The bytes a token text stands for, or nil if it holds a character of no byte.
    static func bytes(of token: ArraySlice<UInt8>) -> [UInt8]? {
        var result: [UInt8] = []
        result.reserveCapacity(token.count)
        let token = Array(token)
        var position = 0
        while position < token.count {
            let (scalar, length) = UTF8Text.scalar(in: token, at: position)
            guard let byte = byte(of: scalar) else { return nil }
            result.append(byte)
            position += length
        }
        return result
    }
}
