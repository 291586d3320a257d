/// The four normalization forms of Unicode (UAX #15) over scalars, with the tables of Unicode 9 that the `tokenizers`
/// library (0.23) carries: what was added later it leaves alone.
///
/// The standard library offers none publicly, and Foundation's work on whole strings without telling
/// where a character came from.
enum UnicodeNormalization {
    enum Form: Sendable { case nfc, nfd, nfkc, nfkd }

    /// A scalar and the offset in the original of the text it stems from.
    struct Element {
        var scalar: UInt32
        var origin: Int32
        var combiningClass: UInt8 = 0
    }

    struct Tables: Sendable {
        /// One-step canonical decompositions.
        var canonical: [UInt32: [UInt32]] = [:]
        var compatibility: [UInt32: [UInt32]] = [:]
        /// `first << 32 | second` → composed.
        var compositions: [UInt64: UInt32] = [:]
        /// Scalars that may change under NFC: of a non-zero class, not allowed, or second of a pair.
        var attention: [UInt64]

        func needsAttention(_ scalar: UInt32) -> Bool {
            let word = Int(scalar >> 6)
            return word < attention.count && attention[word] & (1 << UInt64(scalar & 63)) != 0
        }
    }

    /// The version whose characters are known.
    static let version = (9, 0)

    private static func combiningClass(of scalar: UInt32) -> UInt8 {
        guard scalar >= 0x300, let unicode = Unicode.Scalar(scalar) else { return 0 }
        let found = unicode.properties.canonicalCombiningClass.rawValue
        return found == 0 || !CharacterClass.isKnown(scalar, by: version) ? 0 : found
    }

    static let tables: Tables = {
        var tables = Tables(attention: [UInt64](repeating: 0, count: 0x110000 >> 6))
        func mark(_ scalar: UInt32) {
            tables.attention[Int(scalar >> 6)] |= 1 << UInt64(scalar & 63)
        }
        for (code, parts, excluded) in entries(of: canonicalDecompositionText) {
            tables.canonical[code] = parts
            if excluded || parts.count != 2 {
                mark(code)
            } else {
                tables.compositions[UInt64(parts[0]) << 32 | UInt64(parts[1])] = code
                mark(parts[1])
            }
        }
        for (code, parts, _) in entries(of: compatibilityDecompositionText) {
            tables.compatibility[code] = parts
        }
        for code in UInt32(0x300)..<0x20000 {
            if combiningClass(of: code) != 0 { mark(code) }
        }
        for jamo in UInt32(0x1161)...0x11C2 { mark(jamo) }
        return tables
    }()

    private static func entries(
        of text: String
    ) -> [(code: UInt32, parts: [UInt32], excluded: Bool)] {
        var result: [(code: UInt32, parts: [UInt32], excluded: Bool)] = []
        var code: UInt32 = 0
        for item in text.split(whereSeparator: { $0 == " " || $0 == "\n" }) {
            guard let mark = item.firstIndex(where: { $0 == "=" || $0 == "!" }) else { continue }
            code += UInt32(item[..<mark], radix: 16) ?? 0
            let parts = item[item.index(after: mark)...].split(separator: ",").compactMap {
                UInt32($0, radix: 16)
            }
            guard CharacterClass.isKnown(code, by: version) else { continue }
            result.append((code, parts, item[mark] == "!"))
        }
        return result
    }

    /// Whether the form leaves the text as it is, decided without composing anything.
    static func isUnchanged(_ bytes: [UInt8], by form: Form) -> Bool {
        guard let first = bytes.firstIndex(where: { $0 >= 0x80 }) else { return true }
        guard form == .nfc else { return false }
        // Below U+0300 nothing changes under NFC.
        guard let start = bytes[first...].firstIndex(where: { $0 >= 0xCC }) else { return true }
        var position = start
        while position < bytes.count {
            let (scalar, length) = UTF8Text.scalar(in: bytes, at: position)
            if scalar >= 0x300, tables.needsAttention(scalar) { return false }
            position += length
        }
        return true
    }

    /// Applies the form; each element of the result carries the first origin of what it is made of.
    static func normalize(_ elements: [Element], to form: Form) -> [Element] {
        let compatible = form == .nfkc || form == .nfkd
        var decomposed: [Element] = []
        decomposed.reserveCapacity(elements.count + 16)
        for element in elements {
            decompose(element.scalar, element.origin, compatible: compatible, into: &decomposed)
        }
        reorder(&decomposed)
        return form == .nfc || form == .nfkc ? composed(decomposed) : decomposed
    }

    private static func decompose(
        _ scalar: UInt32, _ origin: Int32, compatible: Bool, into result: inout [Element]
    ) {
        if scalar >= 0xAC00, scalar <= 0xD7A3 {
            let index = scalar - 0xAC00
            result.append(Element(scalar: 0x1100 + index / 588, origin: origin))
            result.append(Element(scalar: 0x1161 + index % 588 / 28, origin: origin))
            if index % 28 != 0 {
                result.append(Element(scalar: 0x11A7 + index % 28, origin: origin))
            }
            return
        }
        if scalar >= 0xA0,
            let parts = tables.canonical[scalar]
                ?? (compatible ? tables.compatibility[scalar] : nil)
        {
            for part in parts { decompose(part, origin, compatible: compatible, into: &result) }
            return
        }
        result.append(
            Element(scalar: scalar, origin: origin, combiningClass: combiningClass(of: scalar)))
    }

    /// Sorts runs of marks by their class, keeping the order of equal ones.
    private static func reorder(_ elements: inout [Element]) {
        var index = 0
        while index < elements.count {
            guard elements[index].combiningClass != 0 else {
                index += 1
                continue
            }
            var end = index
            while end < elements.count, elements[end].combiningClass != 0 { end += 1 }
            if end - index > 1 {
                // `sorted` is stable in practice but not by contract: sort positions as well.
                let run = elements[index..<end].enumerated().sorted {
                    ($0.element.combiningClass, $0.offset) < ($1.element.combiningClass, $1.offset)
                }
                // Origins keep their order, so that later bytes never stem from earlier text.
                let origins = elements[index..<end].map(\.origin)
                for (place, entry) in run.enumerated() {
                    elements[index + place] = entry.element
                    elements[index + place].origin = origins[place]
                }
            }
            index = end
        }
    }

    private static func composed(_ elements: [Element]) -> [Element] {
        var result: [Element] = []
        result.reserveCapacity(elements.count)
        var starter: Int?
        for element in elements {
            if let starterIndex = starter {
                // Blocked if a mark of the same or a higher class, or a starter, stands between.
                let adjacent = result.count - 1 == starterIndex
                let previousClass = result[result.count - 1].combiningClass
                let blocked = !adjacent && previousClass >= element.combiningClass
                if !blocked,
                    let pair = composition(result[starterIndex].scalar, element.scalar)
                {
                    result[starterIndex].scalar = pair
                    continue
                }
            }
            if element.combiningClass == 0 { starter = result.count }
            result.append(element)
        }
        return result
    }

    private static func composition(_ first: UInt32, _ second: UInt32) -> UInt32? {
        if first >= 0x1100, first <= 0x1112, second >= 0x1161, second <= 0x1175 {
            return 0xAC00 + ((first - 0x1100) * 21 + (second - 0x1161)) * 28
        }
        if first >= 0xAC00, first <= 0xD7A3, (first - 0xAC00) % 28 == 0, second > 0x11A7,
            second <= 0x11C2
        {
            return first + (second - 0x11A7)
        }
        return tables.compositions[UInt64(first) << 32 | UInt64(second)]
    }
}
