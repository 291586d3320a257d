import CLinux
import Glibc

/// Wakes a poll loop from any thread, by an eventfd that the loop polls.
// Sound: the descriptor never changes, and read and write on an eventfd are atomic.
public final class Wakeup: @unchecked Sendable {
    /// To be added to the loop's `Poller`.
    public let descriptor: Int32

    public init() throws(ZeroMQError) {
        descriptor = clinux_eventfd()
        guard descriptor >= 0 else {
            throw ZeroMQError(errno: Glibc.errno, operation: "open an eventfd")
        }
    }

    deinit { close(descriptor) }

    /// Makes the descriptor readable until `clear`. Signals before one wake are one.
    public func signal() {
        var one: UInt64 = 1
        // EAGAIN means that the counter is full: the loop is awake anyway.
        while write(descriptor, &one, 8) < 0, Glibc.errno == EINTR {}
    }

    /// Takes the signals back; call it before looking at what they announced.
    public func clear() {
        var count: UInt64 = 0
        while read(descriptor, &count, 8) < 0, Glibc.errno == EINTR {}
    }
}
