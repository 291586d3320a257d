/// A job's id: a UUID of version 7, chosen by the client, kept as its 128 bits.
///
/// Ordered by its bits, and so (version 7 puts milliseconds first) by the client's wall time.
public struct JobID: Hashable, Sendable, Comparable, CustomStringConvertible {
    public let high: UInt64
    public let low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Reads the canonical lower-case form, `0199d8a4-…`. Nil for anything else, also for UUIDs of other versions.
    public init?(text: some StringProtocol) {
        let bytes = Array(String(text).utf8)
        guard bytes.count == 36 else { return nil }
        var words: (UInt64, UInt64) = (0, 0)
        var digits = 0
        for (position, byte) in bytes.enumerated() {
            if position == 8 || position == 13 || position == 18 || position == 23 {
                guard byte == UInt8(ascii: "-") else { return nil }
                continue
            }
            guard let value = hexValue(byte) else { return nil }
            if digits < 16 {
                words.0 = words.0 << 4 | UInt64(value)
            } else {
                words.1 = words.1 << 4 | UInt64(value)
            }
            digits += 1
        }
        guard (words.0 >> 12) & 0xF == 7, words.1 >> 62 == 0b10 else { return nil }
        self.init(high: words.0, low: words.1)
    }

    /// The canonical lower-case form with dashes.
    public var text: String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(36)
        for digit in 0..<32 {
            if digit == 8 || digit == 12 || digit == 16 || digit == 20 {
                bytes.append(UInt8(ascii: "-"))
            }
            let word = digit < 16 ? high : low
            bytes.append(hexDigits[Int((word >> UInt64(60 - 4 * (digit % 16))) & 0xF)])
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Milliseconds since 1970 by the clock of the client that made the id.
    public var millisecondsSince1970: Int64 { Int64(high >> 16) }

    public var description: String { text }

    public static func < (left: JobID, right: JobID) -> Bool {
        left.high != right.high ? left.high < right.high : left.low < right.low
    }
}

/// A task of a job: index 0 for a job of one task, the line's index from 0 for a batch. Written `<job>/<index>`.
public struct TaskID: Hashable, Sendable, CustomStringConvertible {
    public let job: JobID
    public let index: Int

    public init(job: JobID, index: Int) {
        self.job = job
        self.index = index
    }

    /// Reads `<job>/<index>`; nil for anything else.
    public init?(text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let job = JobID(text: parts[0]), let index = Int(parts[1]),
            index >= 0, parts[1] == String(index)
        else { return nil }
        self.init(job: job, index: index)
    }

    public var text: String { "\(job.text)/\(index)" }
    public var description: String { text }
}

/// A random token of 128 bits, written as 32 hex digits: a lease of an attempt, or a worker's session.
public struct Token: Hashable, Sendable, CustomStringConvertible {
    public let high: UInt64
    public let low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Reads 32 lower-case hex digits; nil for anything else.
    public init?(text: some StringProtocol) {
        guard let words = hexWords(String(text), count: 2) else { return nil }
        self.init(high: words[0], low: words[1])
    }

    public var text: String { hexText(high) + hexText(low) }
    public var description: String { text }
}

/// A SHA-256 digest, written `sha256:` and 64 hex digits. The core compares digests and computes none.
public struct Digest: Hashable, Sendable, CustomStringConvertible {
    private let word0: UInt64
    private let word1: UInt64
    private let word2: UInt64
    private let word3: UInt64

    /// Reads `sha256:<64 hex digits>`; nil for anything else.
    public init?(text: some StringProtocol) {
        guard text.hasPrefix("sha256:") else { return nil }
        self.init(hex: text.dropFirst(7))
    }

    /// Reads 64 lower-case hex digits; nil for anything else.
    public init?(hex: some StringProtocol) {
        guard let words = hexWords(String(hex), count: 4) else { return nil }
        word0 = words[0]
        word1 = words[1]
        word2 = words[2]
        word3 = words[3]
    }

    public var hex: String { hexText(word0) + hexText(word1) + hexText(word2) + hexText(word3) }
    public var text: String { "sha256:" + hex }
    public var description: String { text }
}

/// What names one attempt beyond doubt: the task, the attempt's number (from 1, per task) and its lease.
public struct AttemptKey: Hashable, Sendable {
    public let task: TaskID
    public let attempt: Int
    public let lease: Token

    public init(task: TaskID, attempt: Int, lease: Token) {
        self.task = task
        self.attempt = attempt
        self.lease = lease
    }
}

/// A connected peer, as the runtime numbers them; opaque to the core, handed back in actions.
public struct PeerID: Hashable, Sendable {
    public let number: UInt64
    public init(_ number: UInt64) { self.number = number }
}

/// A request that waits for its reply, as the runtime numbers them; opaque to the core.
public struct RequestID: Hashable, Sendable {
    public let number: UInt64
    public init(_ number: UInt64) { self.number = number }
}

/// Both clocks at one moment. Only the monotonic one decides anything; wall time is for display.
public struct Moment: Sendable, Equatable {
    /// Nanoseconds of a clock that never steps.
    public var monotonic: Int64
    /// Milliseconds since 1970.
    public var wall: Int64

    public init(monotonic: Int64, wall: Int64) {
        self.monotonic = monotonic
        self.wall = wall
    }
}

private let hexDigits = Array("0123456789abcdef".utf8)

private func hexValue(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    default: nil
    }
}

/// Of a `String` and not of any `StringProtocol`: code for all of these is slow, and a start reads a million ids.
private func hexWords(_ text: String, count: Int) -> [UInt64]? {
    var words: [UInt64] = []
    words.reserveCapacity(count)
    var word: UInt64 = 0
    var digits = 0
    for byte in text.utf8 {
        guard let value = hexValue(byte), digits < 16 * count else { return nil }
        word = word << 4 | UInt64(value)
        digits += 1
        if digits % 16 == 0 {
            words.append(word)
            word = 0
        }
    }
    return digits == 16 * count ? words : nil
}

private func hexText(_ word: UInt64) -> String {
    String(unsafeUninitializedCapacity: 16) { bytes in
        for place in 0..<16 {
            bytes[place] = hexDigits[Int((word >> UInt64(60 - 4 * place)) & 0xF)]
        }
        return 16
    }
}
