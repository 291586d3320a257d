import CZeroMQ

/// Who may connect by CURVE (https://rfc.zeromq.org/spec/27/, ZAP): libzmq asks a REP socket at `endpoint` in the same context about
/// each connection.
public struct CurveQuestion: Sendable {
    public static let endpoint = "inproc://zeromq.zap.01"

    /// The peer's public key, 32 bytes.
    public let publicKey: [UInt8]
    private let requestID: [UInt8]

    /// Nil: not a question about a CURVE connection in `domain`; then `refusal` is the answer.
    public init?(_ frames: [[UInt8]], domain: String) {
        guard frames.count == 7, frames[0] == Array("1.0".utf8), frames[2] == Array(domain.utf8),
            frames[5] == Array("CURVE".utf8), frames[6].count == 32
        else { return nil }
        requestID = frames[1]
        publicKey = frames[6]
    }

    /// - Parameter name: Of the client that has this key; nil: nobody has it.
    public func answer(_ name: String?) -> [[UInt8]] {
        guard let name else { return Self.refusal(requestID) }
        return [
            Array("1.0".utf8), requestID, Array("200".utf8), Array("OK".utf8), Array(name.utf8), [],
        ]
    }

    /// The answer to what is no question.
    public static func refusal(_ frames: [[UInt8]]) -> [[UInt8]] {
        refusal(frames.count > 1 ? frames[1] : [])
    }

    private static func refusal(_ requestID: [UInt8]) -> [[UInt8]] {
        [
            Array("1.0".utf8), requestID, Array("400".utf8), Array("not on the allow-list".utf8),
            [], [],
        ]
    }
}

/// A CURVE key as 40 characters of Z85.
public enum CurveKey {
    /// Its 32 bytes; nil if the text is no key.
    public static func bytes(of text: String) -> [UInt8]? {
        guard text.utf8.count == 40 else { return nil }
        var bytes = [UInt8](repeating: 0, count: 32)
        return zmq_z85_decode(&bytes, text) == nil ? nil : bytes
    }

    /// The public key that belongs to a secret one.
    public static func publicKey(of secretKey: String) -> String? {
        guard bytes(of: secretKey) != nil else { return nil }
        var text = [CChar](repeating: 0, count: 41)
        guard zmq_curve_public(&text, secretKey) == 0 else { return nil }
        return String(
            decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

extension Socket {
    /// Endpoints bound from now on take CURVE connections only, and of those the ones that the handler of `domain` lets in; those
    /// bound before stay as they are.
    public func serveCurve(secretKey: String, domain: String) throws(ZeroMQError) {
        let setter = OptionSetter(handle: handle, kind: kind)
        try setter.serveCurve(secretKey: secretKey)
        try setter.askHandler(domain: domain)
    }
}
