/// A Python string: UTF-8 bytes, compared byte by byte and counted in code points.
struct Text: Hashable, Sendable {
    var bytes: [UInt8]
    /// Whether it is marked as safe HTML (`Markup`).
    var isSafe = false

    init(_ bytes: [UInt8], isSafe: Bool = false) {
        self.bytes = bytes
        self.isSafe = isSafe
    }

    init(_ string: String) { bytes = Array(string.utf8) }

    init(scalars: some Sequence<UInt32>) {
        bytes = []
        for scalar in scalars { PythonText.append(scalar, to: &bytes) }
    }

    static func == (left: Text, right: Text) -> Bool { left.bytes == right.bytes }
    func hash(into hasher: inout Hasher) { hasher.combine(bytes) }

    var string: String { String(decoding: bytes, as: UTF8.self) }
    /// Code points.
    var count: Int { bytes.count { $0 & 0xC0 != 0x80 } }
    var isASCII: Bool { bytes.allSatisfy { $0 < 0x80 } }

    var scalars: [UInt32] {
        var result: [UInt32] = []
        result.reserveCapacity(bytes.count)
        var position = 0
        while position < bytes.count {
            let (scalar, length) = PythonText.scalar(in: bytes, at: position)
            result.append(scalar)
            position += length
        }
        return result
    }
}

/// Python's string methods over bytes.
enum PythonText {
    static func append(_ scalar: UInt32, to bytes: inout [UInt8]) {
        guard scalar >= 0x80 else {
            bytes.append(UInt8(scalar))
            return
        }
        bytes.append(contentsOf: String(Unicode.Scalar(scalar) ?? "\u{FFFD}").utf8)
    }

    /// The scalar at `position` of valid UTF-8, and its length in bytes.
    static func scalar(
        in bytes: some RandomAccessCollection<UInt8>, at position: Int
    ) -> (scalar: UInt32, length: Int) {
        func byte(_ offset: Int) -> UInt32 {
            UInt32(bytes[bytes.index(bytes.startIndex, offsetBy: position + offset)])
        }
        let first = byte(0)
        if first < 0x80 { return (first, 1) }
        let length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
        guard position + length <= bytes.count else { return (0xFFFD, bytes.count - position) }
        var value = first & (0x7F >> UInt32(length))
        for offset in 1..<length { value = value << 6 | (byte(offset) & 0x3F) }
        return (value, length)
    }

    static func isASCIIAlphanumeric(_ scalar: UInt32) -> Bool {
        switch scalar {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        default: false
        }
    }

    static func isIdentifier(_ scalar: UInt32) -> Bool {
        Unicode.Scalar(scalar)?.properties.isXIDContinue ?? false
    }

    /// `str.isspace` of one character.
    static func isSpace(_ scalar: UInt32) -> Bool {
        switch scalar {
        case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029,
            0x202F, 0x205F, 0x3000:
            true
        default: false
        }
    }

    static func isWhitespace(_ text: ArraySlice<UInt8>) -> Bool { trimmedStart(text).isEmpty }

    static func trimmedStart(_ text: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        trimmedStart(text, isSpace)
    }

    static func trimmedEnd(_ text: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        trimmedEnd(text, isSpace)
    }

    static func trimmedStart(
        _ text: ArraySlice<UInt8>, _ drops: (UInt32) -> Bool
    ) -> ArraySlice<UInt8> {
        var rest = text
        while !rest.isEmpty {
            let (scalar, length) = scalar(in: rest, at: 0)
            guard drops(scalar) else { break }
            rest = rest.dropFirst(length)
        }
        return rest
    }

    static func trimmedEnd(
        _ text: ArraySlice<UInt8>, _ drops: (UInt32) -> Bool
    ) -> ArraySlice<UInt8> {
        var rest = text
        while !rest.isEmpty {
            var start = rest.endIndex - 1
            while start > rest.startIndex, rest[start] & 0xC0 == 0x80 { start -= 1 }
            guard drops(scalar(in: rest, at: start - rest.startIndex).scalar) else { break }
            rest = rest[..<start]
        }
        return rest
    }

    // MARK: Searching

    /// How long a beginning of the needle each of its beginnings ends with (Knuth, Morris and Pratt 1977):
    /// no text takes longer to search than it is long.
    private static func borders(of needle: some RandomAccessCollection<UInt8>) -> [Int] {
        let needle = Array(needle)
        var borders = [Int](repeating: 0, count: needle.count)
        var length = 0
        for index in needle.indices.dropFirst() {
            while length > 0, needle[index] != needle[length] { length = borders[length - 1] }
            if needle[index] == needle[length] { length += 1 }
            borders[index] = length
        }
        return borders
    }

    /// Byte offsets of occurrences that do not overlap.
    static func occurrences(
        of needle: [UInt8], in text: ArraySlice<UInt8>, limit: Int = .max
    ) -> [Int] {
        guard !needle.isEmpty, text.count >= needle.count, limit > 0 else { return [] }
        let borders = borders(of: needle)
        var result: [Int] = []
        var length = 0
        for position in text.indices {
            while length > 0, text[position] != needle[length] { length = borders[length - 1] }
            if text[position] == needle[length] { length += 1 }
            if length == needle.count {
                result.append(position + 1 - length)
                if result.count == limit { break }
                length = 0
            }
        }
        return result
    }

    static func lastOccurrence(of needle: [UInt8], in text: ArraySlice<UInt8>) -> Int? {
        guard text.count >= needle.count else { return nil }
        if needle.isEmpty { return text.endIndex }
        // The same from right to left.
        let backwards = Array(needle.reversed())
        let borders = borders(of: backwards)
        var length = 0
        for position in text.indices.reversed() {
            while length > 0, text[position] != backwards[length] { length = borders[length - 1] }
            if text[position] == backwards[length] { length += 1 }
            if length == needle.count { return position }
        }
        return nil
    }

    static func replacing(
        _ text: [UInt8], _ old: [UInt8], by new: [UInt8], limit: Int = .max
    ) -> [UInt8] {
        var result: [UInt8] = []
        if old.isEmpty {
            var left = limit
            var position = 0
            while position < text.count, left > 0 {
                result += new
                left -= 1
                let length = scalar(in: text, at: position).length
                result += text[position..<(position + length)]
                position += length
            }
            result += text[position...]
            if left > 0 { result += new }
            return result
        }
        var position = 0
        for start in occurrences(of: old, in: text[...], limit: limit) {
            result += text[position..<start]
            result += new
            position = start + old.count
        }
        return result + text[position...]
    }

    // MARK: Splitting

    static func split(
        _ text: [UInt8], by separator: [UInt8], limit: Int = .max
    ) -> [ArraySlice<UInt8>] {
        var result: [ArraySlice<UInt8>] = []
        var position = 0
        for start in occurrences(of: separator, in: text[...], limit: limit) {
            result.append(text[position..<start])
            position = start + separator.count
        }
        result.append(text[position...])
        return result
    }

    static func splitFromEnd(
        _ text: [UInt8], by separator: [UInt8], limit: Int = .max
    ) -> [ArraySlice<UInt8>] {
        var result: [ArraySlice<UInt8>] = []
        var rest = text[...]
        while result.count < limit, let start = lastOccurrence(of: separator, in: rest) {
            result.append(rest[(start + separator.count)...])
            rest = rest[..<start]
        }
        result.append(rest)
        return result.reversed()
    }

    static func splitAtSpace(_ text: [UInt8], limit: Int = .max) -> [ArraySlice<UInt8>] {
        var result: [ArraySlice<UInt8>] = []
        var rest = trimmedStart(text[...])
        while !rest.isEmpty {
            if result.count == limit {
                result.append(trimmedEnd(rest))
                break
            }
            let after = trimmedStart(rest) { !isSpace($0) }
            result.append(rest[..<after.startIndex])
            rest = trimmedStart(after)
        }
        return result
    }

    static func splitAtSpaceFromEnd(_ text: [UInt8], limit: Int) -> [ArraySlice<UInt8>] {
        var result: [ArraySlice<UInt8>] = []
        var rest = trimmedEnd(text[...])
        while !rest.isEmpty {
            if result.count == limit {
                result.append(trimmedStart(rest))
                break
            }
            let before = trimmedEnd(rest) { !isSpace($0) }
            result.append(rest[before.endIndex...])
            rest = trimmedEnd(before)
        }
        return result.reversed()
    }

    static func lines(_ text: [UInt8], keepEnds: Bool = false) -> [ArraySlice<UInt8>] {
        var result: [ArraySlice<UInt8>] = []
        var start = 0
        var position = 0
        while position < text.count {
            let (scalar, length) = scalar(in: text, at: position)
            var end = position + length
            switch scalar {
            case 0x0A...0x0D, 0x1C...0x1E, 0x85, 0x2028, 0x2029:
                if scalar == 0x0D, end < text.count, text[end] == 0x0A { end += 1 }
                result.append(text[start..<(keepEnds ? end : position)])
                start = end
            default: break
            }
            position = end
        }
        if start < text.count { result.append(text[start...]) }
        return result
    }

    // MARK: Case

    static func uppercased(_ text: [UInt8]) -> [UInt8] {
        mapped(text) { $0.properties.uppercaseMapping }
    }

    static func mapped(_ text: [UInt8], _ map: (Unicode.Scalar) -> String) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        for value in Text(text).scalars {
            if let scalar = Unicode.Scalar(value) { result += map(scalar).utf8 }
        }
        return result
    }

    /// Lower case with Python's rule for the final sigma.
    static func lowercased(_ text: [UInt8]) -> [UInt8] {
        let scalars = Text(text).scalars
        var result: [UInt8] = []
        for (index, value) in scalars.enumerated() {
            guard value == 0x3A3 else {
                if let scalar = Unicode.Scalar(value) {
                    result += scalar.properties.lowercaseMapping.utf8
                }
                continue
            }
            let before = scalars[..<index].reversed().first { !isCaseIgnorable($0) }
            let after = scalars[(index + 1)...].first { !isCaseIgnorable($0) }
            let isFinal = before.map(isCased) ?? false && !(after.map(isCased) ?? false)
            append(isFinal ? 0x3C2 : 0x3C3, to: &result)
        }
        return result
    }

    private static func isCaseIgnorable(_ scalar: UInt32) -> Bool {
        Unicode.Scalar(scalar)?.properties.isCaseIgnorable ?? false
    }

    static func isCased(_ scalar: UInt32) -> Bool {
        Unicode.Scalar(scalar)?.properties.isCased ?? false
    }

    /// The first character in title case, the others in lower case.
    static func capitalized(_ text: [UInt8]) -> [UInt8] {
        guard !text.isEmpty else { return [] }
        let length = scalar(in: text, at: 0).length
        return mapped(Array(text[..<length])) { $0.properties.titlecaseMapping }
            + lowercased(Array(text[length...]))
    }

    /// `str.title`: words are runs of cased characters.
    static func titlecased(_ text: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        var insideWord = false
        for value in Text(text).scalars {
            guard let scalar = Unicode.Scalar(value) else { continue }
            let properties = scalar.properties
            result +=
                (insideWord ? properties.lowercaseMapping : properties.titlecaseMapping).utf8
            insideWord = properties.isCased
        }
        return result
    }
}
