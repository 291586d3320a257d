import BrokerCore
import Collections
import WireProtocol
import ZeroMQ

/// The two sockets with addressed peers.
enum Channel: Sendable { case control, dispatch }

/// Somebody at the other end of a ROUTER.
struct Peer: Hashable, Sendable {
    var channel: Channel
    var routingID: [UInt8]
}

/// A request that is still to be answered.
struct PendingRequest: Sendable {
    var peer: Peer
    var verb: Verb
    var requestID: String?
    /// Whether the request came with an empty frame, which its answer must have too.
    var hasDelimiter: Bool
}

/// Messages that could not be sent yet, by peer, within limits. A peer that does not read loses
/// what is over them: a client asks again, and a worker's leases run out.
struct OutgoingQueues {
    struct Limits {
        var messagesPerPeer = 10_000
        var bytesPerPeer = 64 << 20
        var bytesInAll = 256 << 20
    }

    private struct Queue {
        var messages: Deque<[[UInt8]]> = []
        var bytes = 0
    }

    private let limits: Limits
    private var queues: [Peer: Queue] = [:]
    private var bytes = 0
    /// Messages thrown away since the start, with their reason.
    private(set) var overflows = 0
    private(set) var unroutable = 0

    init(limits: Limits = Limits()) { self.limits = limits }

    var isEmpty: Bool { queues.isEmpty }

    /// Sends now if nothing waits for the peer, or queues.
    mutating func send(
        _ frames: [[UInt8]], to peer: Peer, over socket: borrowing Socket
    ) throws(ZeroMQError) {
        if queues[peer] == nil {
            switch try socket.send(frames) {
            case .sent: return
            case .unroutable:
                unroutable += 1
                return
            case .wouldBlock: break
            }
        }
        let size = frames.reduce(0) { $0 + $1.count }
        var queue = queues[peer] ?? Queue()
        guard queue.messages.count < limits.messagesPerPeer,
            queue.bytes + size <= limits.bytesPerPeer, bytes + size <= limits.bytesInAll
        else {
            overflows += 1
            return
        }
        queue.messages.append(frames)
        queue.bytes += size
        bytes += size
        queues[peer] = queue
    }

    /// Tries what waits on a channel.
    mutating func retry(_ channel: Channel, over socket: borrowing Socket) throws(ZeroMQError) {
        for peer in queues.keys where peer.channel == channel {
            guard var queue = queues[peer] else { continue }
            sending: while let frames = queue.messages.first {
                switch try socket.send(frames) {
                case .wouldBlock: break sending
                case .unroutable:
                    unroutable += queue.messages.count
                    bytes -= queue.bytes
                    queue = Queue()
                    break sending
                case .sent:
                    queue.messages.removeFirst()
                    let size = frames.reduce(0) { $0 + $1.count }
                    queue.bytes -= size
                    bytes -= size
                }
            }
            queues[peer] = queue.messages.isEmpty ? nil : queue
        }
    }
}
