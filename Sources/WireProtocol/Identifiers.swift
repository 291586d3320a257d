/// A value whose wire form is a checked string.
public protocol WireText: Codable, Hashable, Sendable, CustomStringConvertible {
    /// What the text must look like, to be read after "must be".
    static var form: String { get }
    /// Nil unless `text` has the form exactly.
    init?(text: String)
    var text: String { get }
}

extension WireText {
    public var description: String { text }

    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let value = Self(text: text) else {
            throw WireError(.badHeader, "must be \(Self.form), not `\(text.prefix(80))`")
        }
        self = value
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(text)
    }

    /// - Throws: `BAD_HEADER` that says what the form is.
    public init(checking text: String) throws(WireError) {
        guard let value = Self(text: text) else {
            throw WireError(.badHeader, "must be \(Self.form), not `\(text.prefix(80))`")
        }
        self = value
    }
}

/// A name of a model, adapter, kind, plugin, tenant, input or tag: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
///
/// The alphabet holds no `/`, and no name begins with a dot, so that no name is ever a path.
public struct WireName: WireText, Comparable {
    public static let form =
        "a name of 1 to 64 of A-Z a-z 0-9 . _ - that begins with a letter or digit"
    public let text: String

    public init?(text: String) {
        guard Self.isName(text.utf8) else { return nil }
        self.text = text
    }

    /// For names written in this module.
    public init(known text: String) { self.text = text }

    static func isName(_ bytes: some Collection<UInt8>) -> Bool {
        guard let first = bytes.first, bytes.count <= 64, isAlphanumeric(first) else {
            return false
        }
        return bytes.allSatisfy {
            isAlphanumeric($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "_")
                || $0 == UInt8(ascii: "-")
        }
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "a")...UInt8(ascii: "z"):
            true
        default: false
        }
    }

    public static func < (left: WireName, right: WireName) -> Bool { left.text < right.text }
}

/// A job's id: a UUIDv7 (RFC 9562 §5.7) in lower case, chosen by the client.
public struct JobID: WireText, Comparable {
    public static let form = "a UUIDv7 in lower case"
    public let high: UInt64
    public let low: UInt64

    /// - Parameters:
    ///   - timestampMs: Wall time in milliseconds since 1970; 48 bits are kept.
    ///   - random: 74 of its bits are kept.
    public init(timestampMs: Int, random: (UInt64, UInt64)) {
        high = UInt64(truncatingIfNeeded: timestampMs) << 16 | 0x7000 | (random.0 & 0x0fff)
        low = 0x8000_0000_0000_0000 | (random.1 & 0x3fff_ffff_ffff_ffff)
    }

    public init(timestampMs: Int, using generator: inout some RandomNumberGenerator) {
        self.init(timestampMs: timestampMs, random: (generator.next(), generator.next()))
    }

    public init?(text: String) {
        var text = text
        let parsed = text.withUTF8 { bytes -> (UInt64, UInt64)? in
            guard bytes.count == 36, bytes[8] == UInt8(ascii: "-"), bytes[13] == UInt8(ascii: "-"),
                bytes[18] == UInt8(ascii: "-"), bytes[23] == UInt8(ascii: "-")
            else { return nil }
            guard let a = Hexadecimal.parse(bytes[0..<8]), let b = Hexadecimal.parse(bytes[9..<13]),
                let c = Hexadecimal.parse(bytes[14..<18]),
                let d = Hexadecimal.parse(bytes[19..<23]),
                let e = Hexadecimal.parse(bytes[24..<36])
            else { return nil }
            return (a << 32 | b << 16 | c, d << 48 | e)
        }
        guard let parsed, parsed.0 & 0xf000 == 0x7000, parsed.1 >> 62 == 0b10 else { return nil }
        (high, low) = parsed
    }

    public var text: String {
        String(unsafeUninitializedCapacity: 36) { buffer in
            var position = 0
            func put(_ value: UInt64, digits: Int) {
                for digit in 0..<digits {
                    buffer[position] = Hexadecimal.digit(value >> UInt64(4 * (digits - 1 - digit)))
                    position += 1
                }
            }
            func dash() {
                buffer[position] = UInt8(ascii: "-")
                position += 1
            }
            put(high >> 32, digits: 8)
            dash()
            put(high >> 16, digits: 4)
            dash()
            put(high, digits: 4)
            dash()
            put(low >> 48, digits: 4)
            dash()
            put(low, digits: 12)
            return position
        }
    }

    /// When the id was made, by the clock of the client that made it: milliseconds since 1970.
    public var timestampMs: Int { Int(high >> 16) }

    public static func < (left: JobID, right: JobID) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }
}

/// `<job>/<index>`: index 0 for a job of one task; for a batch the line's number, from 0.
public struct TaskID: WireText, Comparable {
    public static let form = "`<job>/<index>`"
    public let job: JobID
    public let index: Int

    public init(job: JobID, index: Int) {
        self.job = job
        self.index = index
    }

    public init?(text: String) {
        guard let slash = text.utf8.firstIndex(of: UInt8(ascii: "/")),
            let job = JobID(text: String(text[..<slash])),
            let index = Decimal.parse(text.utf8[text.utf8.index(after: slash)...])
        else { return nil }
        self.init(job: job, index: index)
    }

    public var text: String { "\(job.text)/\(index)" }

    public static func < (left: TaskID, right: TaskID) -> Bool {
        (left.job, left.index) < (right.job, right.index)
    }
}

/// The random token that is valid for one attempt: 32 hex digits in lower case.
public struct LeaseToken: WireText {
    public static let form = "a lease of 32 hex digits"
    public let high: UInt64
    public let low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    public init?(text: String) {
        var text = text
        let parsed = text.withUTF8 { bytes -> (UInt64, UInt64)? in
            guard bytes.count == 32, let high = Hexadecimal.parse(bytes[0..<16]),
                let low = Hexadecimal.parse(bytes[16..<32])
            else { return nil }
            return (high, low)
        }
        guard let parsed else { return nil }
        (high, low) = parsed
    }

    public var text: String {
        String(unsafeUninitializedCapacity: 32) { buffer in
            for digit in 0..<16 {
                buffer[digit] = Hexadecimal.digit(high >> UInt64(60 - 4 * digit))
                buffer[16 + digit] = Hexadecimal.digit(low >> UInt64(60 - 4 * digit))
            }
            return 32
        }
    }
}

/// A content digest on the wire: `sha256:` and 64 hex digits in lower case.
public struct BlobDigest: WireText {
    public static let form = "`sha256:` and 64 hex digits in lower case"
    public let hex: String

    public init?(hex: String) {
        guard hex.utf8.count == 64, hex.utf8.allSatisfy({ Hexadecimal.value($0) != nil }) else {
            return nil
        }
        self.hex = hex
    }

    public init?(text: String) {
        guard text.hasPrefix("sha256:") else { return nil }
        self.init(hex: String(text.dropFirst(7)))
    }

    public var text: String { "sha256:" + hex }
}

/// Lower-case hexadecimal numbers.
enum Hexadecimal {
    static func value(_ byte: UInt8) -> UInt64? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt64(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt64(byte - UInt8(ascii: "a") + 10)
        default: nil
        }
    }

    /// At most 16 digits.
    static func parse(_ digits: Slice<UnsafeBufferPointer<UInt8>>) -> UInt64? {
        var result: UInt64 = 0
        for byte in digits {
            guard let value = value(byte) else { return nil }
            result = result << 4 | value
        }
        return result
    }

    static func digit(_ value: UInt64) -> UInt8 {
        let low = UInt8(truncatingIfNeeded: value & 15)
        return low < 10 ? UInt8(ascii: "0") + low : UInt8(ascii: "a") + low - 10
    }
}

/// Plain decimal numbers without sign or leading zeros, up to nine digits.
enum Decimal {
    static func parse(_ digits: some Collection<UInt8>) -> Int? {
        guard let first = digits.first, digits.count <= 9 else { return nil }
        if first == UInt8(ascii: "0") && digits.count > 1 { return nil }
        var result = 0
        for byte in digits {
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
            result = result * 10 + Int(byte - UInt8(ascii: "0"))
        }
        return result
    }
}
