import Glibc

/// A moment of the monotonic clock: for leases, waits and rates. It never jumps with the wall clock
/// and stands still while the machine is suspended.
public struct MonotonicTime: Comparable, Hashable, Sendable {
    public let nanoseconds: UInt64

    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    public static func now() -> MonotonicTime {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return MonotonicTime(
            nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
    }

    public static func < (left: MonotonicTime, right: MonotonicTime) -> Bool {
        left.nanoseconds < right.nanoseconds
    }

    public static func + (time: MonotonicTime, duration: Duration) -> MonotonicTime {
        MonotonicTime(
            nanoseconds: time.nanoseconds &+ UInt64(bitPattern: duration.wholeNanoseconds))
    }

    public static func - (later: MonotonicTime, earlier: MonotonicTime) -> Duration {
        .nanoseconds(Int64(bitPattern: later.nanoseconds &- earlier.nanoseconds))
    }
}

extension Duration {
    /// Nanoseconds, cut to 64 bits (292 years).
    public var wholeNanoseconds: Int64 {
        components.seconds &* 1_000_000_000 &+ components.attoseconds / 1_000_000_000
    }

    public var seconds: Double {
        Double(components.seconds) + Double(components.attoseconds) * 1e-18
    }
    public var wholeMilliseconds: Int { Int(wholeNanoseconds / 1_000_000) }
}

/// Wall time, for display and file stamps only.
public enum WallClock {
    /// Milliseconds since 1970.
    public static func milliseconds() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    }
}
