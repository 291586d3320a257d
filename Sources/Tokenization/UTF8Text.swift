/// Reading and writing scalars in UTF-8 bytes.
enum UTF8Text {
    /// The scalar at `position` of valid UTF-8, and its length in bytes.
    @inline(__always)
    static func scalar(in bytes: [UInt8], at position: Int) -> (scalar: UInt32, length: Int) {
        let first = UInt32(bytes[position])
        if first < 0x80 { return (first, 1) }
        let length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
        guard position + length <= bytes.count else { return (0xFFFD, bytes.count - position) }
        var value = first & (0x7F >> UInt32(length))
        for index in 1..<length { value = value << 6 | UInt32(bytes[position + index] & 0x3F) }
        return (value, length)
    }

    /// The scalar that ends before `position`, and its length in bytes.
    static func scalar(in bytes: [UInt8], before position: Int) -> (scalar: UInt32, length: Int) {
        var start = position - 1
        while start > 0, bytes[start] & 0xC0 == 0x80 { start -= 1 }
        return scalar(in: bytes, at: start)
    }

    static func append(_ scalar: UInt32, to bytes: inout [UInt8]) {
        switch scalar {
        case ..<0x80:
            bytes.append(UInt8(scalar))
        case ..<0x800:
            bytes.append(UInt8(0xC0 | scalar >> 6))
            bytes.append(UInt8(0x80 | scalar & 0x3F))
        case ..<0x10000:
            bytes.append(UInt8(0xE0 | scalar >> 12))
            bytes.append(UInt8(0x80 | scalar >> 6 & 0x3F))
            bytes.append(UInt8(0x80 | scalar & 0x3F))
        default:
            bytes.append(UInt8(0xF0 | scalar >> 18 & 0x07))
            bytes.append(UInt8(0x80 | scalar >> 12 & 0x3F))
            bytes.append(UInt8(0x80 | scalar >> 6 & 0x3F))
            bytes.append(UInt8(0x80 | scalar & 0x3F))
        }
    }
}

/// Classes of characters as the `tokenizers` library and its regex engines see them.
enum CharacterClass {
    /// White_Space, as Rust's `char::is_whitespace`.
    static func isWhitespace(_ scalar: UInt32) -> Bool {
        switch scalar {
        case 0x09...0x0D, 0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F,
            0x205F, 0x3000:
            true
        default: false
        }
    }

    /// General category N, as Rust's `char::is_numeric`.
    static func isNumeric(_ scalar: UInt32) -> Bool {
        if scalar < 0x80 { return scalar >= 0x30 && scalar <= 0x39 }
        switch category(scalar) {
        case .decimalNumber, .letterNumber, .otherNumber: return true
        default: return false
        }
    }

    /// `\w` of Rust's regex crate: Alphabetic, M, Nd, Pc and Join_Control.
    static func isWord(_ scalar: UInt32) -> Bool {
        guard let unicode = Unicode.Scalar(scalar), isKnown(scalar, by: (16, 0)) else {
            return false
        }
        if unicode.properties.isAlphabetic || scalar == 0x200C || scalar == 0x200D { return true }
        switch unicode.properties.generalCategory {
        case .decimalNumber, .connectorPunctuation: return true
        default: return isMark(scalar)
        }
    }

    enum WordKind { case word, space, other }

    /// How Rust's `\w+|[^\w\s]+` sees a character.
    static func wordKind(_ scalar: UInt32) -> WordKind {
        switch scalar {
        case 0x30...0x39, 0x41...0x5A, 0x5F, 0x61...0x7A: .word
        default: isWhitespace(scalar) ? .space : scalar >= 0x80 && isWord(scalar) ? .word : .other
        }
    }

    /// Whether Unicode had the scalar by this version. Parts of the library carry old tables.
    static func isKnown(_ scalar: UInt32, by version: (Int, Int)) -> Bool {
        guard let age = Unicode.Scalar(scalar)?.properties.age else { return false }
        return (age.major, age.minor) <= version
    }

    /// General category M as the library's normalizers know it (Unicode 9).
    static func isCombining(_ scalar: UInt32) -> Bool {
        guard scalar >= 0x300 else { return false }
        // Two letters and a mark of today.
        switch scalar {
        case 0x1CF2, 0x1CF3: return true
        case 0x111C9: return false
        default: return isMark(scalar) && isKnown(scalar, by: UnicodeNormalization.version)
        }
    }

    /// General category M.
    static func isMark(_ scalar: UInt32) -> Bool {
        switch category(scalar) {
        case .nonspacingMark, .spacingMark, .enclosingMark: true
        default: false
        }
    }

    /// ASCII punctuation and general category P as the library's table has it (Unicode 8).
    static func isPunctuation(_ scalar: UInt32) -> Bool {
        switch scalar {
        case 0x21...0x2F, 0x3A...0x40, 0x5B...0x60, 0x7B...0x7E: return true
        case ..<0x80: return false
        // A symbol and a mark today.
        case 0x166D, 0x111C9: return true
        default: break
        }
        switch category(scalar) {
        case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
            .initialPunctuation, .finalPunctuation, .otherPunctuation:
            return isKnown(scalar, by: (8, 0))
        default: return false
        }
    }

    private static func category(_ scalar: UInt32) -> Unicode.GeneralCategory {
        Unicode.Scalar(scalar)?.properties.generalCategory ?? .unassigned
    }
}
