/// The scalars that Unicode 15 and 16 added, which PCRE2 before 10.44 does not know, and Oniguruma (inside
/// of the `tokenizers` library 0.23) does; and U+180E, which PCRE2 takes for a space and Oniguruma does not.
///
/// A text without any of them is matched by the plain classes, which are faster.
struct NewerScalars: Sendable {
    /// Scalars with equal properties.
    struct Row: Sendable {
        let range: ClosedRange<UInt32>
        /// General category, as `Lu`.
        let category: String
        /// Script without underscores, in lower case.
        let script: String
        /// Letters: A Alphabetic, U Uppercase, L Lowercase, E Emoji, P Emoji_Presentation.
        let flags: String
    }

    static let rows: [Row] = table.split(separator: "\n").compactMap { line in
        let fields = line.split(separator: " ").map(String.init)
        let ends = fields[0].split(separator: "-").compactMap { UInt32($0, radix: 16) }
        guard fields.count == 4, ends.count == 2 else { return nil }
        return Row(
            range: ends[0]...ends[1], category: fields[1], script: fields[2], flags: fields[3])
    }

    /// The inside of a PCRE2 class with the new scalars of which `isWanted` holds.
    static func classItems(_ isWanted: (Row) -> Bool) -> String {
        var ranges: [ClosedRange<UInt32>] = []
        for row in rows where row.range.lowerBound != 0x180E && isWanted(row) {
            if let last = ranges.last, last.upperBound + 1 == row.range.lowerBound {
                ranges[ranges.count - 1] = last.lowerBound...row.range.upperBound
            } else {
                ranges.append(row.range)
            }
        }
        return ranges.map { range in
            let first = "\\x{\(String(range.lowerBound, radix: 16))}"
            return range.count == 1
                ? first : first + "-\\x{\(String(range.upperBound, radix: 16))}"
        }.joined()
    }

    private static let starts: [UInt32] = rows.map(\.range.lowerBound)
    private static let ends: [UInt32] = rows.map(\.range.upperBound)
    /// Whether a row's scalar begins with the byte in UTF-8.
    private static let leads: [Bool] = {
        var leads = [Bool](repeating: false, count: 256)
        for row in rows {
            var bytes: [UInt8] = []
            UTF8Text.append(row.range.lowerBound, to: &bytes)
            var last: [UInt8] = []
            UTF8Text.append(row.range.upperBound, to: &last)
            for lead in bytes[0]...last[0] { leads[Int(lead)] = true }
        }
        return leads
    }()

    /// Whether valid UTF-8 holds one of them.
    static func occur(in bytes: ArraySlice<UInt8>) -> Bool {
        bytes.withUnsafeBufferPointer { buffer in
            var index = 0
            while index < buffer.count {
                let byte = buffer[index]
                if byte >= 0xE0, leads[Int(byte)] {
                    var scalar = UInt32(byte & (byte >= 0xF0 ? 0x07 : 0x0F))
                    let length = byte >= 0xF0 ? 4 : 3
                    for place in (index + 1)..<min(index + length, buffer.count) {
                        scalar = scalar << 6 | UInt32(buffer[place] & 0x3F)
                    }
                    if contains(scalar) { return true }
                    index += length
                } else {
                    index += 1
                }
            }
            return false
        }
    }

    private static func contains(_ scalar: UInt32) -> Bool {
        var low = 0
        var high = starts.count
        while low < high {
            let middle = (low + high) / 2
            if ends[middle] < scalar { low = middle + 1 } else { high = middle }
        }
        return low < starts.count && starts[low] <= scalar
    }

    /// From, to, general category, script, flags: read off the library (Oniguruma 6.9.10, Unicode 16).
    private static let table = """
        897-897 Mn arabic A
        cf3-cf3 Mc kannada A
        ece-ece Mn lao -
        180e-180e Cf mongolian -
        1b4e-1b4f Po balinese -
        1b7f-1b7f Po balinese -
        1c89-1c89 Lu cyrillic AU
        1c8a-1c8a Ll cyrillic AL
        2427-2429 So common -
        2ffc-2fff So common -
        31e4-31e5 So common -
        31ef-31ef So common -
        a7cb-a7cc Lu latin AU
        a7cd-a7cd Ll latin AL
        a7da-a7da Lu latin AU
        a7db-a7db Ll latin AL
        a7dc-a7dc Lu latin AU
        105c0-105f3 Lo todhri A
        10d40-10d49 Nd garay -
        10d4a-10d4d Lo garay A
        10d4e-10d4e Lm garay A
        10d4f-10d4f Lo garay A
        10d50-10d65 Lu garay AU
        10d69-10d69 Mn garay A
        10d6a-10d6d Mn garay -
        10d6e-10d6e Pd garay -
        10d6f-10d6f Lm garay A
        10d70-10d85 Ll garay AL
        10d8e-10d8f Sm garay -
        10ec2-10ec4 Lo arabic A
        10efc-10efc Mn arabic A
        10efd-10eff Mn arabic -
        1123f-11240 Lo khojki A
        11241-11241 Mn khojki A
        11380-11389 Lo tulutigalari A
        1138b-1138b Lo tulutigalari A
        1138e-1138e Lo tulutigalari A
        11390-113b5 Lo tulutigalari A
        113b7-113b7 Lo tulutigalari A
        113b8-113ba Mc tulutigalari A
        113bb-113c0 Mn tulutigalari A
        113c2-113c2 Mc tulutigalari A
        113c5-113c5 Mc tulutigalari A
        113c7-113ca Mc tulutigalari A
        113cc-113cd Mc tulutigalari A
        113ce-113ce Mn tulutigalari -
        113cf-113cf Mc tulutigalari -
        113d0-113d0 Mn tulutigalari -
        113d1-113d1 Lo tulutigalari A
        113d2-113d2 Mn tulutigalari -
        113d3-113d3 Lo tulutigalari A
        113d4-113d5 Po tulutigalari -
        113d7-113d8 Po tulutigalari -
        113e1-113e2 Mn tulutigalari -
        116d0-116e3 Nd myanmar -
        11b00-11b09 Po devanagari -
        11bc0-11be0 Lo sunuwar A
        11be1-11be1 Po sunuwar -
        11bf0-11bf9 Nd sunuwar -
        11f00-11f01 Mn kawi A
        11f02-11f02 Lo kawi A
        11f03-11f03 Mc kawi A
        11f04-11f10 Lo kawi A
        11f12-11f33 Lo kawi A
        11f34-11f35 Mc kawi A
        11f36-11f3a Mn kawi A
        11f3e-11f3f Mc kawi A
        11f40-11f40 Mn kawi A
        11f41-11f41 Mc kawi -
        11f42-11f42 Mn kawi -
        11f43-11f4f Po kawi -
        11f50-11f59 Nd kawi -
        11f5a-11f5a Mn kawi -
        1342f-1342f Lo egyptianhieroglyphs A
        13439-1343f Cf egyptianhieroglyphs -
        13440-13440 Mn egyptianhieroglyphs -
        13441-13446 Lo egyptianhieroglyphs A
        13447-13455 Mn egyptianhieroglyphs -
        13460-143fa Lo egyptianhieroglyphs A
        16100-1611d Lo gurungkhema A
        1611e-16129 Mn gurungkhema A
        1612a-1612c Mc gurungkhema A
        1612d-1612e Mn gurungkhema A
        1612f-1612f Mn gurungkhema -
        16130-16139 Nd gurungkhema -
        16d40-16d42 Lm kiratrai A
        16d43-16d6a Lo kiratrai A
        16d6b-16d6c Lm kiratrai A
        16d6d-16d6f Po kiratrai -
        16d70-16d79 Nd kiratrai -
        18cff-18cff Lo - A
        1b132-1b132 Lo hiragana A
        1b155-1b155 Lo katakana A
        1cc00-1ccef So common -
        1ccf0-1ccf9 Nd common -
        1cd00-1ceb3 So common -
        1d2c0-1d2d3 No common -
        1df25-1df2a Ll latin AL
        1e030-1e06d Lm cyrillic AL
        1e08f-1e08f Mn cyrillic A
        1e4d0-1e4ea Lo nagmundari A
        1e4eb-1e4eb Lm nagmundari A
        1e4ec-1e4ef Mn nagmundari -
        1e4f0-1e4f9 Nd nagmundari -
        1e5d0-1e5ed Lo olonal A
        1e5ee-1e5ef Mn olonal -
        1e5f0-1e5f0 Lo olonal A
        1e5f1-1e5fa Nd olonal -
        1e5ff-1e5ff Po olonal -
        1f6dc-1f6dc So common EP
        1f774-1f776 So common -
        1f77b-1f77f So common -
        1f7d9-1f7d9 So common -
        1f8b2-1f8bb So common -
        1f8c0-1f8c1 So common -
        1fa75-1fa77 So common EP
        1fa87-1fa89 So common EP
        1fa8f-1fa8f So common EP
        1faad-1faaf So common EP
        1fabb-1fabf So common EP
        1fac6-1fac6 So common EP
        1face-1facf So common EP
        1fada-1fadc So common EP
        1fadf-1fadf So common EP
        1fae8-1fae9 So common EP
        1faf7-1faf8 So common EP
        1fbcb-1fbef So common -
        2b739-2b739 Lo han A
        2ebf0-2ee5d Lo han A
        31350-323af Lo han A
        """
}
