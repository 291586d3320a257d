import CZeroMQ

/// The socket types loraq uses.
public enum SocketKind: Sendable, CaseIterable {
    case router, dealer, request, reply, push, pull, publish, subscribe, extendedPublish

    var code: Int32 {
        switch self {
        case .router: ZMQ_ROUTER
        case .dealer: ZMQ_DEALER
        case .request: ZMQ_REQ
        case .reply: ZMQ_REP
        case .push: ZMQ_PUSH
        case .pull: ZMQ_PULL
        case .publish: ZMQ_PUB
        case .subscribe: ZMQ_SUB
        case .extendedPublish: ZMQ_XPUB
        }
    }

    var name: String {
        switch self {
        case .router: "ROUTER"
        case .dealer: "DEALER"
        case .request: "REQ"
        case .reply: "REP"
        case .push: "PUSH"
        case .pull: "PULL"
        case .publish: "PUB"
        case .subscribe: "SUB"
        case .extendedPublish: "XPUB"
        }
    }
}

/// What is set on a socket before it binds or connects. ZMTP's own heartbeats stay off: LQP/1 has
/// its own.
public struct SocketOptions: Sendable {
    /// How long undelivered messages are kept trying after the socket is closed; nil is forever.
    public var linger: Duration? = .zero
    /// Messages queued per peer before a send would block.
    public var sendHighWaterMark = 1_000
    /// Messages queued per peer before the peer is held back.
    public var receiveHighWaterMark = 1_000
    /// The largest frame that is accepted; libzmq drops the connection that sends a larger one.
    public var maximumFrameBytes = 16 << 20
    /// ROUTER only: a message to nobody is an answer (`unroutable`), not silently dropped.
    public var routerMandatory = true
    /// ROUTER only: a peer that comes back under the routing id it had takes that id over. Off,
    /// since routing ids are random in LQP/1 and a taken one is not the same peer.
    public var routerHandover = false
    /// The routing id told to a ROUTER; nil lets the ROUTER make one up.
    public var routingID: [UInt8]?
    /// Queue messages only to connections that are complete (so none waits for a peer that is gone).
    public var immediate = false
    /// How long a broken connection waits before it is tried again, and the most it may grow to.
    public var reconnectInterval: Duration = .milliseconds(50)
    public var reconnectIntervalMaximum: Duration = .seconds(1)
    /// Encryption and authentication by CURVE, for `tcp://` beyond loopback.
    public var curve: CurveRole?

    public init() {}

    /// The defaults with some changes: `.with { $0.linger = .seconds(1) }`.
    public static func with(_ change: (inout SocketOptions) -> Void) -> SocketOptions {
        var options = SocketOptions()
        change(&options)
        return options
    }
}

/// A socket's side in CURVE. Keys are 40 characters of Z85.
public enum CurveRole: Sendable {
    case server(secretKey: String)
    case client(serverKey: String, publicKey: String, secretKey: String)
}

/// A fresh CURVE key pair, in Z85.
public struct CurveKeyPair: Sendable {
    public let publicKey: String
    public let secretKey: String

    /// - Throws: When libzmq was built without CURVE.
    public init() throws(ZeroMQError) {
        var publicBytes = [CChar](repeating: 0, count: 41)
        var secretBytes = [CChar](repeating: 0, count: 41)
        guard zmq_curve_keypair(&publicBytes, &secretBytes) == 0 else {
            throw .last("make a CURVE key pair")
        }
        publicKey = Self.text(publicBytes)
        secretKey = Self.text(secretBytes)
    }

    private static func text(_ bytes: [CChar]) -> String {
        String(decoding: bytes.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

/// Sets options on a socket of libzmq.
struct OptionSetter {
    let handle: UnsafeMutableRawPointer
    let kind: SocketKind

    /// Sets all options; called once, before the socket is bound or connected.
    func apply(_ options: SocketOptions) throws(ZeroMQError) {
        try set(ZMQ_LINGER, options.linger.map(\.wholeMilliseconds) ?? -1)
        try set(ZMQ_SNDHWM, options.sendHighWaterMark)
        try set(ZMQ_RCVHWM, options.receiveHighWaterMark)
        try setLong(ZMQ_MAXMSGSIZE, Int64(options.maximumFrameBytes))
        try set(ZMQ_HEARTBEAT_IVL, 0)
        try set(ZMQ_IMMEDIATE, options.immediate ? 1 : 0)
        try set(ZMQ_RECONNECT_IVL, options.reconnectInterval.wholeMilliseconds)
        try set(ZMQ_RECONNECT_IVL_MAX, options.reconnectIntervalMaximum.wholeMilliseconds)
        if kind == .router {
            try set(ZMQ_ROUTER_MANDATORY, options.routerMandatory ? 1 : 0)
            try set(ZMQ_ROUTER_HANDOVER, options.routerHandover ? 1 : 0)
        }
        if let routingID = options.routingID { try set(ZMQ_ROUTING_ID, routingID) }
        switch options.curve {
        case nil: break
        case .server(let secretKey): try serveCurve(secretKey: secretKey)
        case .client(let serverKey, let publicKey, let secretKey):
            try set(ZMQ_CURVE_SERVERKEY, Array(serverKey.utf8))
            try set(ZMQ_CURVE_PUBLICKEY, Array(publicKey.utf8))
            try set(ZMQ_CURVE_SECRETKEY, Array(secretKey.utf8))
        }
    }

    func serveCurve(secretKey: String) throws(ZeroMQError) {
        try set(ZMQ_CURVE_SERVER, 1)
        try set(ZMQ_CURVE_SECRETKEY, Array(secretKey.utf8))
    }

    /// Nobody gets in without the word of the ZAP handler, which must be bound by then.
    func askHandler(domain: String) throws(ZeroMQError) {
        try set(ZMQ_ZAP_DOMAIN, Array(domain.utf8))
    }

    private func set(_ option: Int32, _ value: Int) throws(ZeroMQError) {
        var value = Int32(clamping: value)
        let result = retryingOnInterrupt {
            zmq_setsockopt(handle, option, &value, MemoryLayout<Int32>.size)
        }
        guard result == 0 else { throw .last("set \(kind.name) socket option \(option)") }
    }

    private func setLong(_ option: Int32, _ value: Int64) throws(ZeroMQError) {
        var value = value
        let result = retryingOnInterrupt {
            zmq_setsockopt(handle, option, &value, MemoryLayout<Int64>.size)
        }
        guard result == 0 else { throw .last("set \(kind.name) socket option \(option)") }
    }

    func set(_ option: Int32, _ bytes: [UInt8]) throws(ZeroMQError) {
        let result = retryingOnInterrupt {
            bytes.withUnsafeBytes { zmq_setsockopt(handle, option, $0.baseAddress, $0.count) }
        }
        guard result == 0 else { throw .last("set \(kind.name) socket option \(option)") }
    }
}

extension Duration {
    /// Milliseconds, rounded up so that a short wait is never a busy loop; never negative.
    var wholeMilliseconds: Int {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        guard seconds < 2_000_000 else { return 2_000_000_000 }
        let step: Int64 = 1_000_000_000_000_000
        return Int(seconds * 1_000 + (attoseconds + step - 1) / step)
    }
}
