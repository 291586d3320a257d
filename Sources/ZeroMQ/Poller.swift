import CZeroMQ

/// What a poll waits for, and what it found.
public struct PollEvents: OptionSet, Sendable {
    public let rawValue: Int16
    public init(rawValue: Int16) { self.rawValue = rawValue }

    public static let input = PollEvents(rawValue: Int16(ZMQ_POLLIN))
    public static let output = PollEvents(rawValue: Int16(ZMQ_POLLOUT))
    /// Descriptors only: error or hang-up.
    public static let failure = PollEvents(rawValue: Int16(ZMQ_POLLERR))
}

/// Waits on sockets and file descriptors together.
///
/// It does not own what it watches: remove a socket or a descriptor before it is closed. Like the
/// sockets, it belongs to one thread.
public struct Poller: ~Copyable {
    /// One watched socket or descriptor, as named by `add`.
    public struct Slot: Hashable, Sendable {
        fileprivate let index: Int
    }

    private var items: [zmq_pollitem_t] = []
    private var free: [Int] = []

    public init() {}

    @discardableResult
    public mutating func add(_ socket: borrowing Socket, _ interest: PollEvents) -> Slot {
        insert(
            zmq_pollitem_t(socket: socket.handle, fd: 0, events: interest.rawValue, revents: 0))
    }

    @discardableResult
    public mutating func add(descriptor: Int32, _ interest: PollEvents = .input) -> Slot {
        insert(zmq_pollitem_t(socket: nil, fd: descriptor, events: interest.rawValue, revents: 0))
    }

    private mutating func insert(_ item: zmq_pollitem_t) -> Slot {
        if let index = free.popLast() {
            items[index] = item
            return Slot(index: index)
        }
        items.append(item)
        return Slot(index: items.count - 1)
    }

    public mutating func setInterest(_ interest: PollEvents, of slot: Slot) {
        items[slot.index].events = interest.rawValue
    }

    public mutating func remove(_ slot: Slot) {
        // poll(2) leaves negative descriptors alone.
        items[slot.index] = zmq_pollitem_t(socket: nil, fd: -1, events: 0, revents: 0)
        free.append(slot.index)
    }

    /// Waits until something is ready, at most `time` (nil: for ever).
    ///
    /// A signal may end the wait early, with 0 found.
    ///
    /// - Returns: How many slots are ready.
    public mutating func wait(atMost time: Duration?) throws(ZeroMQError) -> Int {
        let milliseconds = time.map { $0.wholeMilliseconds } ?? -1
        let result = zmq_poll(&items, Int32(items.count), milliseconds)
        if result < 0 {
            guard zmq_errno() == EINTR else { throw .last("poll") }
            for index in items.indices { items[index].revents = 0 }
            return 0
        }
        return Int(result)
    }

    /// What the last wait found.
    public func events(of slot: Slot) -> PollEvents {
        PollEvents(rawValue: items[slot.index].revents)
    }
}
