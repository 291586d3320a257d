import Glibc

/// Whether somebody listens at an endpoint, which ZeroMQ itself never says: it goes on trying in silence.
public enum EndpointProbe {
    public enum Finding: Sendable, Equatable {
        case listening
        /// No socket file, or one that a dead process left behind.
        case nobody
        /// The socket is there, but this user may not connect to it.
        case forbidden
        /// Not an `ipc://` endpoint, or the kernel gave another answer.
        case unknown
    }

    /// Connects to the socket's path and hangs up at once.
    public static func look(at endpoint: String) -> Finding {
        visit(endpoint).finding
    }

    /// The process that listens at the endpoint, by the kernel's word.
    public static func owner(of endpoint: String) -> Int? {
        visit(endpoint).process
    }

    private static func visit(_ endpoint: String) -> (finding: Finding, process: Int?) {
        guard endpoint.hasPrefix("ipc://") else { return (.unknown, nil) }
        let path = Array(endpoint.utf8.dropFirst("ipc://".utf8.count))
        var address = sockaddr_un()
        guard path.count < MemoryLayout.size(ofValue: address.sun_path) else {
            return (.unknown, nil)
        }
        address.sun_family = sa_family_t(AF_UNIX)
        // All pointers end with their closures; the copy was checked against the field's size.
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
        let descriptor = socket(
            AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue),
            0)
        guard descriptor >= 0 else { return (.unknown, nil) }
        defer { close(descriptor) }
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        if result == 0 { return (.listening, peer(of: descriptor)) }
        switch errno {
        case ENOENT, ECONNREFUSED, ENOTDIR: return (.nobody, nil)
        case EACCES, EPERM: return (.forbidden, nil)
        case EAGAIN, EINPROGRESS: return (.listening, nil)
        default: return (.unknown, nil)
        }
    }

    /// `SO_PEERCRED`: who called `listen`. Three 32-bit words: process, user, group.
    private static func peer(of descriptor: Int32) -> Int? {
        var words: [UInt32] = [0, 0, 0]
        var size = socklen_t(words.count * MemoryLayout<UInt32>.size)
        guard getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &words, &size) == 0, words[0] > 0
        else { return nil }
        return Int(words[0])
    }
}
