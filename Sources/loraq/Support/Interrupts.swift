import Glibc
import Synchronization

/// Ctrl-C as a flag that waits look at. A second one ends the process at once.
enum Interrupts {
    private static let flag = Atomic<Bool>(false)

    static var isInterrupted: Bool { flag.load(ordering: .relaxed) }

    static func clear() { flag.store(false, ordering: .relaxed) }

    /// Takes over SIGINT and SIGTERM; system calls are broken off by them, not restarted (`ByteInput` reads on after
    /// it has looked at the flag).
    static func install() {
        // The flag must exist before a handler may touch it.
        clear()
        // A parent's thread that blocks signals hands that on to its children.
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGINT)
        sigaddset(&signals, SIGTERM)
        pthread_sigmask(SIG_UNBLOCK, &signals, nil)
        for number in [SIGINT, SIGTERM] {
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { _ in
                if Interrupts.flag.exchange(true, ordering: .relaxed) { _exit(130) }
            }
            sigaction(number, &action, nil)
        }
    }
}
