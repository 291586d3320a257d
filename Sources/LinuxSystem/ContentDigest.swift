import Crypto
import Foundation

/// The SHA-256 of some content; what things on disk are named by.
public struct ContentDigest: Hashable, Sendable, CustomStringConvertible {
    /// 64 lower-case hexadecimal digits.
    public let hex: String

    /// `sha256:` and the digits: the form on the wire and in files.
    public var text: String { "sha256:\(hex)" }
    public var description: String { text }

    public init(of bytes: [UInt8]) {
        var builder = DigestBuilder()
        builder.update(bytes)
        self = builder.finish()
    }

    /// Reads the form with the prefix; nil for anything else.
    public init?(text: String) {
        guard text.utf8.count == 71, text.hasPrefix("sha256:") else { return nil }
        let digits = text.dropFirst(7)
        guard digits.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) }) else {
            return nil
        }
        hex = String(digits)
    }

    init(hex: String) { self.hex = hex }
}

/// Takes content piece by piece.
public struct DigestBuilder: Sendable {
    private var hasher = SHA256()

    public init() {}

    public mutating func update(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { hasher.update(bufferPointer: $0) }
    }

    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        hasher.update(bufferPointer: bytes)
    }

    public func finish() -> ContentDigest {
        let digits = Array("0123456789abcdef".utf8)
        var hex: [UInt8] = []
        for byte in hasher.finalize() {
            hex.append(digits[Int(byte >> 4)])
            hex.append(digits[Int(byte & 15)])
        }
        return ContentDigest(hex: String(decoding: hex, as: UTF8.self))
    }
}
