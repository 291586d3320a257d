import JSONModel
import LinuxSystem
import WireProtocol
import ZeroMQ

/// How one request behaves when its answer does not come.
public struct RequestPolicy: Sendable {
    /// How long to wait for the answer in all.
    public var timeout: Duration
    /// Whether the same request, under the same id, may be sent again: after a reconnect, or when no
    /// answer came for a while. Every verb but `RETRY` and `REMOVE` bears that.
    public var mayResend: Bool
    /// Whether to go on waiting where no broker runs (it may be restarting).
    public var waitsForBroker: Bool
    /// Whether that holds also where none runs when the request is made.
    public var waitsAtStart: Bool
    /// How long without an answer before the first resend; doubled each time.
    public var resendAfter = Duration.seconds(3)

    public init(
        timeout: Duration = .seconds(30), mayResend: Bool = true, waitsForBroker: Bool = false,
        waitsAtStart: Bool? = nil
    ) {
        self.timeout = timeout
        self.mayResend = mayResend
        self.waitsForBroker = waitsForBroker
        self.waitsAtStart = waitsAtStart ?? waitsForBroker
    }

    public static let usual = RequestPolicy()
    public static let once = RequestPolicy(mayResend: false)
    /// For submits: if the broker goes away before it answers, the same id is sent again when it is back.
    public static let persistent = RequestPolicy(
        timeout: .seconds(60), waitsForBroker: true, waitsAtStart: false)
}

/// A client's side of the control socket: one request at a time, on the caller's own thread.
///
/// Replies are matched by `request_id`; late ones of earlier requests are dropped. The socket is made
/// anew before a request is sent again, so that nothing waits in a queue towards a broker that is gone.
public final class BrokerConnection {
    public let endpoint: String
    /// Asked about ten times a second during a wait; true ends the wait with `.interrupted`.
    public var isInterrupted: () -> Bool = { false }
    /// Called when the broker is found gone during a request that waits for it, and when it is back.
    public var onPresenceChange: (_ isThere: Bool) -> Void = { _ in }

    private let context: Context
    private let options: SocketOptions
    private var socket: Socket
    private var generator: any RandomNumberGenerator
    private var requestCount = 0
    private let clientToken: UInt64
    private var hasAnswered = false

    /// The longest a wait goes without looking around.
    static let slice = Duration.milliseconds(100)

    public init(
        endpoint: String, context: Context, curve: CurveRole? = nil,
        generator: any RandomNumberGenerator = SystemRandomNumberGenerator()
    ) throws(ClientError) {
        self.endpoint = endpoint
        self.context = context
        self.generator = generator
        clientToken = self.generator.next()
        options = .with { $0.curve = curve }
        socket = try Self.connected(context, endpoint, options)
    }

    private static func connected(
        _ context: Context, _ endpoint: String, _ options: SocketOptions
    ) throws(ClientError) -> Socket {
        do throws(ZeroMQError) {
            let socket = try Socket(context, .dealer, options: options)
            try socket.connect(endpoint)
            return socket
        } catch {
            throw ClientError(socket: error)
        }
    }

    /// Sends a request and gives its `OK` (or `WELCOME`).
    ///
    /// - Throws: `.refused` with the broker's error; `.unreachable`; `.timeout`; `.interrupted`.
    public func request(
        _ verb: Verb, _ header: JSONObject = JSONObject(), bodies: [Message.Body] = [],
        policy: RequestPolicy = .usual
    ) throws(ClientError) -> Message {
        requestCount += 1
        let id = String(clientToken, radix: 16) + "-\(requestCount)"
        let frames: [[UInt8]]
        do throws(WireError) {
            frames = try Message(
                verb: verb, header: .object(header), requestID: id, bodies: bodies
            ).frames()
        } catch {
            throw ClientError(wire: error, answering: false)
        }
        var exchange = Exchange(verb: verb, id: id, policy: policy)
        // Where an answer came before, silence will tell soon enough if the broker has gone since.
        let begins = if hasAnswered { true } else { try exchange.mayBegin(self) }
        if begins { try send(frames) }
        while true {
            if isInterrupted() { throw .interrupted }
            let left = exchange.deadline - MonotonicTime.now()
            guard left > .zero else { throw exchange.timedOut(endpoint) }
            if let reply = try receive(for: id, within: min(Self.slice, left)) {
                hasAnswered = true
                if exchange.isAway { onPresenceChange(true) }
                return try Self.checked(reply)
            }
            switch try exchange.next(self) {
            case .wait: break
            case .resend:
                socket = try Self.connected(context, endpoint, options)
                try send(frames)
            }
        }
    }

    private func send(_ frames: [[UInt8]]) throws(ClientError) {
        do throws(ZeroMQError) {
            // A full queue is left to the resend: nothing of the message was taken.
            _ = try socket.send(frames, within: Self.slice)
        } catch {
            throw ClientError(socket: error)
        }
    }

    /// The reply to the request `id`, or nil if none came within `time`.
    private func receive(for id: String, within time: Duration) throws(ClientError) -> Message? {
        let frames: [[UInt8]]?
        do throws(ZeroMQError) {
            frames = try socket.receive(within: time)
        } catch {
            throw ClientError(socket: error)
        }
        guard let frames else { return nil }
        do throws(WireError) {
            let message = try Message(frames: frames)
            return message.requestID == id ? message : nil
        } catch {
            // A broken reply to an earlier request is dropped like a whole one.
            if let other = error.requestID, other != id { return nil }
            throw ClientError(wire: error, answering: true)
        }
    }

    private static func checked(_ reply: Message) throws(ClientError) -> Message {
        guard reply.verb == .error else { return reply }
        let refusal: ErrorObject
        do throws(WireError) {
            refusal = try reply.decodeError()
        } catch {
            throw ClientError(wire: error, answering: true)
        }
        throw ClientError(refusal: refusal)
    }

    /// One request's waiting: when to send again, when to give up.
    private struct Exchange {
        enum Step { case wait, resend }

        let verb: Verb
        let id: String
        let policy: RequestPolicy
        let deadline: MonotonicTime
        private(set) var isAway = false
        private var silentSlices = 0
        private var resendInterval: Duration
        private var resendAt: MonotonicTime

        init(verb: Verb, id: String, policy: RequestPolicy) {
            self.verb = verb
            self.id = id
            self.policy = policy
            let now = MonotonicTime.now()
            deadline = now + policy.timeout
            resendInterval = policy.resendAfter
            resendAt = now + policy.resendAfter
        }

        /// Whether the request can be sent now; where nobody listens, gives up or notes it.
        mutating func mayBegin(_ connection: BrokerConnection) throws(ClientError) -> Bool {
            switch EndpointProbe.look(at: connection.endpoint) {
            case .listening, .unknown: return true
            case .forbidden:
                throw ClientError(
                    .unreachable, "not allowed to connect to \(connection.endpoint)",
                    hint: "the broker belongs to another user; set LORAQ_HOME or --home to your own"
                )
            case .nobody:
                guard policy.waitsAtStart, policy.mayResend else {
                    throw .unreachable(connection.endpoint)
                }
                connection.onPresenceChange(false)
                isAway = true
                return false
            }
        }

        /// What to do after a slice without an answer.
        mutating func next(_ connection: BrokerConnection) throws(ClientError) -> Step {
            silentSlices += 1
            let now = MonotonicTime.now()
            // Looking costs the broker an accept, so it happens twice a second and only in silence.
            if silentSlices % 5 == 0 || isAway {
                switch EndpointProbe.look(at: connection.endpoint) {
                case .nobody:
                    guard policy.waitsForBroker, policy.mayResend else {
                        throw ClientError(
                            .unreachable,
                            "the broker at \(connection.endpoint) went away before it answered \(verb)",
                            hint: policy.mayResend
                                ? "start it again with `loraq up` and repeat the command"
                                : "whether it was carried out shows `loraq status` or `loraq jobs`")
                    }
                    if !isAway { connection.onPresenceChange(false) }
                    isAway = true
                    return .wait
                case .listening where isAway:
                    isAway = false
                    connection.onPresenceChange(true)
                    resendAt = now + resendInterval
                    return .resend
                case .listening, .forbidden, .unknown: break
                }
            }
            guard policy.mayResend, now >= resendAt else { return .wait }
            resendInterval += resendInterval
            resendAt = now + resendInterval
            return .resend
        }

        func timedOut(_ endpoint: String) -> ClientError {
            if EndpointProbe.look(at: endpoint) == .nobody { return .unreachable(endpoint) }
            let seconds = policy.timeout.components.seconds
            return ClientError(
                .timeout, "the broker at \(endpoint) did not answer \(verb) within \(seconds) s",
                hint: "`loraq doctor` looks into it; its log is logs/loraqd.log in its home")
        }
    }
}
