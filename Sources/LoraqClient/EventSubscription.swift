import JSONModel
import LinuxSystem
import WireProtocol
import ZeroMQ

/// An event as it came: its topic and its header.
public struct BrokerEvent: Sendable, Equatable {
    public let topic: String
    public let json: JSONValue

    public init(topic: String, json: JSONValue) {
        self.topic = topic
        self.json = json
    }

    public var type: String { json["type"]?.string ?? "" }
    public var job: String? { json["job"]?.string }
    public var number: Int? { json["event"]?.integer }
}

/// A subscription to the broker's events. It comes back by itself after a broker's restart; what happened
/// meanwhile is not sent again, so whoever counts on events also looks by `STATUS` or `EVENTS`.
public final class EventSubscription {
    private let socket: Socket

    init(
        endpoint: String, context: Context, topics: [String], curve: CurveRole? = nil
    ) throws(ClientError) {
        do throws(ZeroMQError) {
            let socket = try Socket(context, .subscribe, options: .with { $0.curve = curve })
            for topic in topics.isEmpty ? [""] : topics { try socket.subscribe(to: topic) }
            try socket.connect(endpoint)
            self.socket = socket
        } catch {
            throw ClientError(socket: error)
        }
    }

    /// The next event, or nil if none came within `time` (or a signal came).
    public func next(within time: Duration) throws(ClientError) -> BrokerEvent? {
        do throws(ZeroMQError) {
            guard let frames = try socket.receive(within: time), let topic = frames.first else {
                return nil
            }
            // What is no event of LQP/1 is passed over: events are hints, never the truth.
            guard let message = try? Message(frames: Array(frames.dropFirst())),
                message.verb == .event
            else { return nil }
            return BrokerEvent(
                topic: String(decoding: topic, as: UTF8.self), json: message.header)
        } catch {
            throw ClientError(socket: error)
        }
    }
}
