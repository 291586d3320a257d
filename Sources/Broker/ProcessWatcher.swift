import CLinux
import Glibc
import LinuxSystem

/// Tells when processes end, whether they are children or were adopted from a broker before, by
/// pidfds in one epoll set: the event loop polls a single descriptor.
final class ProcessWatcher {
    /// To be polled for input.
    let descriptor: Int32
    private var watched: [Int32: Int32] = [:]

    init() throws(SystemError) {
        descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard descriptor >= 0 else {
            throw SystemError(operation: "open an epoll set", code: errno)
        }
    }

    deinit {
        for pidfd in watched.values { close(pidfd) }
        close(descriptor)
    }

    /// Begins to watch a process; false if it is gone already.
    func watch(pid: Int32) throws(SystemError) -> Bool {
        let pidfd = clinux_pidfd_open(pid)
        guard pidfd >= 0 else {
            if errno == ESRCH { return false }
            throw SystemError(operation: "open a pidfd of process \(pid)", code: errno)
        }
        var event = epoll_event(events: EPOLLIN.rawValue, data: epoll_data_t(fd: pid))
        guard epoll_ctl(descriptor, EPOLL_CTL_ADD, pidfd, &event) == 0 else {
            let code = errno
            close(pidfd)
            throw SystemError(operation: "watch process \(pid)", code: code)
        }
        watched[pid] = pidfd
        return true
    }

    /// The processes that have ended; they are no longer watched.
    func ended() -> [Int32] {
        var events = [epoll_event](repeating: epoll_event(), count: 64)
        let count = epoll_wait(descriptor, &events, Int32(events.count), 0)
        guard count > 0 else { return [] }
        let pids = events[..<Int(count)].map(\.data.fd)
        for pid in pids {
            guard let pidfd = watched.removeValue(forKey: pid) else { continue }
            epoll_ctl(descriptor, EPOLL_CTL_DEL, pidfd, nil)
            close(pidfd)
        }
        return pids
    }
}

/// How a child ended, as `wait4` tells it.
struct ChildEnd {
    enum Status {
        case exited(Int32)
        case signaled(Int32)
    }

    var status: Status
    var peakBytes: Int

    /// Takes the end of a child that is over; nil when `pid` is no child of this process.
    init?(reaping pid: Int32) {
        var raw: Int32 = 0
        var usage = rusage()
        while true {
            let result = wait4(pid, &raw, WNOHANG, &usage)
            if result == pid { break }
            if result < 0, errno == EINTR { continue }
            return nil
        }
        let signal = clinux_wait_signal(raw)
        status = signal != 0 ? .signaled(signal) : .exited(clinux_wait_exit_code(raw))
        peakBytes = usage.ru_maxrss * 1_024
    }
}
