import Glibc

/// Short waits of a thread that polls something else than a socket. A signal ends them early.
public enum MonotonicSleep {
    public static func wait(_ time: Duration) {
        let (seconds, attoseconds) = time.components
        guard seconds >= 0, attoseconds >= 0 else { return }
        var span = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
        nanosleep(&span, nil)
    }
}
