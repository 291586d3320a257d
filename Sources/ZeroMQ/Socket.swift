import CZeroMQ

/// What became of a message given to `Socket.send`.
public enum SendOutcome: Sendable, Equatable {
    /// libzmq has it.
    case sent
    /// The peer's queue (or, for PUSH and DEALER, every peer's) is full; nothing was sent.
    case wouldBlock
    /// ROUTER: no peer has this routing id (any more); nothing was sent.
    case unroutable
}

/// A ZeroMQ socket. Make it, use it and drop it in one thread; it cannot be copied and closes when
/// its owner lets go of it.
///
/// Messages are arrays of frames. Nothing here blocks but the calls that take a time.
public struct Socket: ~Copyable {
    public let kind: SocketKind
    let handle: UnsafeMutableRawPointer
    private let context: Context
    /// The frame being received; kept at one address for libzmq.
    private let frame: UnsafeMutablePointer<zmq_msg_t>

    public init(
        _ context: Context, _ kind: SocketKind, options: SocketOptions = SocketOptions()
    ) throws(ZeroMQError) {
        guard let handle = zmq_socket(context.handle, kind.code) else {
            throw .last("open a \(kind.name) socket")
        }
        do throws(ZeroMQError) {
            try OptionSetter(handle: handle, kind: kind).apply(options)
        } catch {
            zmq_close(handle)
            throw error
        }
        self.kind = kind
        self.handle = handle
        self.context = context
        self.frame = .allocate(capacity: 1)
    }

    deinit {
        frame.deallocate()
        zmq_close(handle)
    }

    // MARK: Endpoints

    /// Binds, and gives the endpoint in full (with the port that `tcp://…:*` got).
    ///
    /// libzmq lets a second process take over an `ipc://` path in silence: hold a lock first.
    @discardableResult
    public func bind(_ endpoint: String) throws(ZeroMQError) -> String {
        try Self.check(endpoint, operation: "bind \(kind.name) to")
        guard retryingOnInterrupt({ zmq_bind(handle, endpoint) }) == 0 else {
            throw .last("bind \(kind.name) to", endpoint: endpoint)
        }
        return try lastEndpoint()
    }

    public func connect(_ endpoint: String) throws(ZeroMQError) {
        try Self.check(endpoint, operation: "connect \(kind.name) to")
        guard retryingOnInterrupt({ zmq_connect(handle, endpoint) }) == 0 else {
            throw .last("connect \(kind.name) to", endpoint: endpoint)
        }
    }

    public func disconnect(_ endpoint: String) throws(ZeroMQError) {
        guard retryingOnInterrupt({ zmq_disconnect(handle, endpoint) }) == 0 else {
            throw .last("disconnect \(kind.name) from", endpoint: endpoint)
        }
    }

    public func unbind(_ endpoint: String) throws(ZeroMQError) {
        guard retryingOnInterrupt({ zmq_unbind(handle, endpoint) }) == 0 else {
            throw .last("unbind \(kind.name) from", endpoint: endpoint)
        }
    }

    private func lastEndpoint() throws(ZeroMQError) -> String {
        var bytes = [UInt8](repeating: 0, count: 1_024)
        var count = bytes.count
        guard
            retryingOnInterrupt({ zmq_getsockopt(handle, ZMQ_LAST_ENDPOINT, &bytes, &count) }) == 0
        else { throw .last("read the endpoint of a \(kind.name) socket") }
        return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }

    /// The longest path of a Unix socket, in bytes (`sun_path` holds one more for its end).
    public static let maximumPathBytes = 107

    /// Refuses endpoints that the kernel would refuse with a message nobody understands.
    private static func check(_ endpoint: String, operation: String) throws(ZeroMQError) {
        guard endpoint.hasPrefix("ipc://") else { return }
        let count = endpoint.utf8.count - "ipc://".utf8.count
        guard count > 0 else {
            throw ZeroMQError(
                code: .invalidEndpoint, operation: operation, endpoint: endpoint,
                message: "the path is empty")
        }
        guard count <= maximumPathBytes else {
            throw ZeroMQError(
                code: .invalidEndpoint, operation: operation, endpoint: endpoint,
                message: "the path has \(count) bytes, but a Unix socket's path may have at most "
                    + "\(maximumPathBytes); use a shorter LORAQ_HOME")
        }
    }

    // MARK: Subscriptions

    /// SUB only: receive the messages whose first frame begins with `prefix`.
    public func subscribe(to prefix: String) throws(ZeroMQError) {
        try OptionSetter(handle: handle, kind: kind).set(ZMQ_SUBSCRIBE, Array(prefix.utf8))
    }

    public func unsubscribe(from prefix: String) throws(ZeroMQError) {
        try OptionSetter(handle: handle, kind: kind).set(ZMQ_UNSUBSCRIBE, Array(prefix.utf8))
    }

    // MARK: Sending

    /// Hands a whole message to libzmq, or nothing of it; never waits.
    public func send(_ frames: [[UInt8]]) throws(ZeroMQError) -> SendOutcome {
        var outcome = SendOutcome.sent
        for (index, frame) in frames.enumerated() {
            let more = index + 1 < frames.count ? ZMQ_SNDMORE : 0
            let result = retryingOnInterrupt {
                frame.withUnsafeBytes {
                    zmq_send(handle, $0.baseAddress, $0.count, ZMQ_DONTWAIT | more)
                }
            }
            guard result < 0 else { continue }
            switch zmq_errno() {
            case EAGAIN:
                if index == 0 { return .wouldBlock }
                // The peer went away in the middle: libzmq has taken back the frames before and
                // swallows those that follow, so they must still be given to it.
                outcome = .wouldBlock
            case EHOSTUNREACH where kind == .router:
                return .unroutable
            default:
                throw .last("send on a \(kind.name) socket")
            }
        }
        return outcome
    }

    /// As `send`, but waits until there is room, at most `time`.
    public func send(_ frames: [[UInt8]], within time: Duration) throws(ZeroMQError) -> SendOutcome
    {
        let clock = ContinuousClock()
        let deadline = clock.now + time
        while true {
            let outcome = try send(frames)
            guard outcome == .wouldBlock else { return outcome }
            let left = deadline - clock.now
            guard left > .zero, try wait(for: .output, atMost: left) else { return .wouldBlock }
        }
    }

    // MARK: Receiving

    /// The most frames and bytes of a message that `receive` takes unless told otherwise.
    public static let defaultMaximumFrames = 16_384
    public static let defaultMaximumBytes = 256 << 20

    /// The next message, or nil when there is none; never waits.
    ///
    /// - Throws: `.tooLarge` when the message has more frames or bytes than given here. It is read
    ///   to its end and dropped, so the next call gives the next message.
    public func receive(
        maximumFrames: Int = defaultMaximumFrames, maximumBytes: Int = defaultMaximumBytes
    ) throws(ZeroMQError) -> [[UInt8]]? {
        var frames: [[UInt8]] = []
        var bytes = 0
        var count = 0
        while true {
            zmq_msg_init(frame)
            if retryingOnInterrupt({ zmq_msg_recv(frame, handle, ZMQ_DONTWAIT) }) < 0 {
                let error = zmq_errno()
                zmq_msg_close(frame)
                if error == EAGAIN { return nil }
                throw ZeroMQError(errno: error, operation: "receive on a \(kind.name) socket")
            }
            count += 1
            bytes += zmq_msg_size(frame)
            if count <= maximumFrames, bytes <= maximumBytes { frames.append(frameBytes()) }
            let more = zmq_msg_more(frame) != 0
            zmq_msg_close(frame)
            if !more { break }
        }
        guard count <= maximumFrames, bytes <= maximumBytes else {
            throw ZeroMQError(
                code: .tooLarge, operation: "receive on a \(kind.name) socket",
                message: "a message of \(count) frames and \(bytes) bytes is over the limit of "
                    + "\(maximumFrames) frames and \(maximumBytes) bytes")
        }
        return frames
    }

    /// As `receive`, but waits for a message, at most `time`.
    public func receive(within time: Duration) throws(ZeroMQError) -> [[UInt8]]? {
        let clock = ContinuousClock()
        let deadline = clock.now + time
        while true {
            if let frames = try receive() { return frames }
            let left = deadline - clock.now
            guard left > .zero, try wait(for: .input, atMost: left) else { return nil }
        }
    }

    private func frameBytes() -> [UInt8] {
        let count = zmq_msg_size(frame)
        guard count > 0, let data = zmq_msg_data(frame) else { return [] }
        return [UInt8](UnsafeRawBufferPointer(start: data, count: count))
    }

    /// Whether the socket became ready within `time`.
    private func wait(for interest: PollEvents, atMost time: Duration) throws(ZeroMQError) -> Bool {
        var poller = Poller()
        poller.add(self, interest)
        return try poller.wait(atMost: time) > 0
    }
}
