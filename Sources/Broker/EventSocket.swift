import ZeroMQ

/// The XPUB socket of events.
///
/// What peers subscribe to is kept by libzmq in this process, and nothing there bounds it. So the topics are counted here:
/// past the limit the socket is closed, with all that it holds and everybody on it, and opened again by `upkeep`. SUB
/// sockets connect again by themselves; what they did not hear meanwhile `EVENTS` has.
final class EventSocket {
    /// Distinct topics that are subscribed to at once.
    static let maximumTopics = 20_000
    /// Of one subscription; libzmq hangs up on longer ones.
    static let maximumSubscriptionBytes = 1_024

    /// Holds the socket, which cannot be optional by itself.
    private final class Open {
        let socket: Socket
        init(_ socket: consuming Socket) { self.socket = socket }
    }

    private let context: Context
    private let options: SocketOptions
    private let local: String
    private var remote: (endpoint: String, secretKey: String, domain: String)?
    private var open: Open?
    private var slot: Poller.Slot?
    /// Subscribed to by anybody; without any, nothing need be written for events.
    private(set) var topics = 0

    init(_ context: Context, options: SocketOptions, endpoint: String) throws(ZeroMQError) {
        self.context = context
        var options = options
        options.maximumFrameBytes = Self.maximumSubscriptionBytes
        self.options = options
        local = endpoint
        open = Open(try Socket(context, .extendedPublish, options: options))
        try bind()
    }

    /// Binds the ipc endpoint, again when its file was removed.
    func bind() throws(ZeroMQError) { try open?.socket.bind(local) }

    /// Binds a TCP endpoint too, where only CURVE is spoken.
    func bind(remote endpoint: String, secretKey: String, domain: String) throws(ZeroMQError) {
        remote = (endpoint, secretKey, domain)
        try bindRemote()
    }

    private func bindRemote() throws(ZeroMQError) {
        guard let remote, let open else { return }
        try open.socket.serveCurve(secretKey: remote.secretKey, domain: remote.domain)
        try open.socket.bind(remote.endpoint)
    }

    /// Opens it again, if it was closed; throws as long as an endpoint is still in use.
    func reopen(_ poller: inout Poller) throws(ZeroMQError) {
        guard open == nil else { return }
        open = Open(try Socket(context, .extendedPublish, options: options))
        do throws(ZeroMQError) {
            try bind()
            try bindRemote()
        } catch {
            open = nil
            throw error
        }
        watch(&poller)
    }

    func watch(_ poller: inout Poller) {
        if let open { slot = poller.add(open.socket, .input) }
    }

    func hasInput(_ poller: borrowing Poller) -> Bool {
        slot.map { poller.events(of: $0) != [] } ?? false
    }

    /// Takes in what was subscribed to. False when that was too much: the socket is closed then.
    func receiveSubscriptions(limit: Int, _ poller: inout Poller) -> Bool {
        guard let open else { return true }
        for _ in 0..<limit {
            guard let frames = try? open.socket.receive() else { break }
            switch frames.first?.first {
            case 1?: topics += 1
            case 0?: topics = max(0, topics - 1)
            default: break
            }
        }
        guard topics > Self.maximumTopics else { return true }
        if let slot { poller.remove(slot) }
        slot = nil
        self.open = nil
        topics = 0
        return false
    }

    /// XPUB drops what is published for subscribers that do not read.
    func send(_ frames: [[UInt8]]) throws(ZeroMQError) { _ = try open?.socket.send(frames) }
}
