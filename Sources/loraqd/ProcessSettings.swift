import Foundation
import Glibc
import LinuxSystem
import Logging
import Synchronization

/// What is set for the whole process before any thread is started.
enum ProcessSettings {
    /// More is of no use, and some programs walk over all descriptors.
    private static let wantedFiles: rlim_t = 65_536

    /// Restricts new files to their owner, raises the limit of open files, and keeps signals for
    /// `EndSignals`.
    static func apply(_ log: Logger) -> EndSignals {
        umask(0o077)
        signal(SIGPIPE, SIG_IGN)
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        var limit = rlimit()
        if getrlimit(resource, &limit) == 0, limit.rlim_cur < wantedFiles {
            limit.rlim_cur = min(wantedFiles, limit.rlim_max)
            if setrlimit(resource, &limit) != 0 {
                log.warning("the limit of open files could not be raised to \(limit.rlim_cur)")
            }
        }
        return EndSignals()
    }

    /// Where this program lies, links resolved.
    static func ownPath() -> String {
        var buffer = [CChar](repeating: 0, count: 4_097)
        let count = readlink("/proc/self/exe", &buffer, 4_096)
        guard count > 0 else { return CommandLine.arguments.first ?? "loraqd" }
        return String(
            decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// SIGTERM and SIGINT, taken by a thread that waits for them and by nobody else.
struct EndSignals {
    init() {
        var set = Self.set
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    private static var set: sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGTERM)
        sigaddset(&set, SIGINT)
        return set
    }

    /// Calls `body` with the number of signals so far.
    func watch(_ body: @escaping @Sendable (Int) -> Void) throws(SystemError) {
        _ = try SystemThread(name: "signals") {
            var count = 0
            while true {
                var set = Self.set
                var number: Int32 = 0
                guard sigwait(&set, &number) == 0 else { continue }
                count += 1
                body(count)
            }
        }
    }
}
