import CZeroMQ

/// A libzmq context: its I/O threads and the space of its `inproc` names.
///
/// A socket keeps its context alive, so the context ends after its last socket.
// Sound: libzmq documents contexts as thread-safe, and the handle never changes.
public final class Context: @unchecked Sendable {
    let handle: UnsafeMutableRawPointer

    /// - Parameters:
    ///   - ioThreads: Threads that move bytes; one is enough for gigabits.
    ///   - maximumSockets: How many sockets may be open at once.
    public init(ioThreads: Int = 1, maximumSockets: Int = 4096) throws(ZeroMQError) {
        guard let handle = zmq_ctx_new() else { throw .last("create a context") }
        self.handle = handle
        // Not "blocky": a socket made without options of its own has no linger.
        for (option, value) in [
            (ZMQ_IO_THREADS, ioThreads), (ZMQ_MAX_SOCKETS, maximumSockets), (ZMQ_BLOCKY, 0),
        ] {
            guard zmq_ctx_set(handle, option, Int32(clamping: value)) == 0 else {
                let error = ZeroMQError.last("set context option \(option)")
                zmq_ctx_term(handle)
                throw error
            }
        }
    }

    /// Makes every blocking call on this context's sockets fail with `.terminated` at once.
    public func shutdown() {
        _ = retryingOnInterrupt { zmq_ctx_shutdown(handle) }
    }

    deinit {
        _ = retryingOnInterrupt { zmq_ctx_term(handle) }
    }

    /// The libzmq that is linked, like `4.3.4`.
    public static var libraryVersion: String {
        var (major, minor, patch): (Int32, Int32, Int32) = (0, 0, 0)
        zmq_version(&major, &minor, &patch)
        return "\(major).\(minor).\(patch)"
    }

    /// Whether the linked libzmq can encrypt with CURVE.
    public static var hasCurve: Bool { zmq_has("curve") == 1 }
}
