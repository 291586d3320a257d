import Glibc
import LinuxSystem

/// Starts a program in a session of its own that outlives this process.
enum DetachedProcess {
    /// `POSIX_SPAWN_SETSID` of <spawn.h>, which glibc shows to GNU sources only.
    private static let newSession: Int32 = 0x80

    /// - Parameters:
    ///   - logPath: Receives standard output and error, at its end.
    /// - Returns: The process id.
    static func start(
        _ executable: String, _ arguments: [String], logPath: String
    ) throws(SystemError) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(
            &actions, 1, logPath, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        keepDescriptorsFromChildren()
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        posix_spawnattr_setflags(
            &attributes,
            Int16(newSession | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))
        var pid: pid_t = 0
        // The copies live until the spawn has returned.
        var words: [UnsafeMutablePointer<CChar>?] = ([executable] + arguments).map { strdup($0) }
        words.append(nil)
        defer { for word in words { free(word) } }
        let result = posix_spawn(&pid, executable, &actions, &attributes, words, environ)
        guard result == 0 else {
            throw SystemError(operation: "start", path: executable, code: result)
        }
        return pid
    }

    /// Descriptors that this process itself was given (a shell's locks and pipes) stay here too.
    private static func keepDescriptorsFromChildren() {
        for name in (try? FilePath.entries(of: "/proc/self/fd")) ?? [] {
            guard let descriptor = Int32(name), descriptor > 2 else { continue }
            _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        }
    }

    /// Whether a process runs: it is there, and no zombie that only waits to be reaped.
    static func isRunning(_ pid: Int) -> Bool {
        guard let bytes = try? FilePath.read("/proc/\(pid)/stat", limit: 4096) else { return false }
        let text = String(decoding: bytes, as: UTF8.self)
        guard let end = text.lastIndex(of: ")") else { return false }
        let state = text[text.index(after: end)...].first { $0 != " " }
        return state != "Z" && state != "X"
    }

    /// How a child of ours ended, or nil while it runs.
    static func outcome(of child: pid_t) -> String? {
        var status: Int32 = 0
        guard waitpid(child, &status, WNOHANG) == child else { return nil }
        let signal = status & 0x7F
        return signal == 0 ? "exit code \(status >> 8 & 0xFF)" : "signal \(signal)"
    }

    /// The running program's own path.
    static func ownPath() -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = buffer.withUnsafeMutableBytes { bytes in
            bytes.withMemoryRebound(to: CChar.self) { text in
                text.baseAddress.map { readlink("/proc/self/exe", $0, text.count) } ?? -1
            }
        }
        guard count > 0 else { return nil }
        return String(decoding: buffer[..<count], as: UTF8.self)
    }
}
