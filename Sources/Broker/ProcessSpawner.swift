import CLinux
import Glibc
import LinuxSystem

/// What a worker process is started with.
struct SpawnRequest: Sendable {
    var executable: String
    /// Without the program's name.
    var arguments: [String]
    var environment: [String: String]
    var directory: String
    /// Receives standard output and error, at its end.
    var logPath: String
}

enum ProcessSpawner {
    /// Starts a process in a group of its own, with default signals and no descriptor of ours.
    ///
    /// `posix_spawn` and not `fork`: a forked child would share the ZeroMQ context's threads' state.
    /// The process outlives the broker: nothing ties it to its parent.
    static func spawn(_ request: SpawnRequest) throws(SystemError) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(
            &actions, 1, request.logPath, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        posix_spawn_file_actions_addchdir_np(&actions, request.directory)
        posix_spawn_file_actions_addclosefrom_np(&actions, 3)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes,
            Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))

        let arguments = [request.executable] + request.arguments
        let environment = request.environment.sorted { $0.key < $1.key }.map { "\($0)=\($1)" }
        var pid: pid_t = 0
        let result = withCStrings(arguments) { argv in
            withCStrings(environment) { envp in
                posix_spawn(&pid, request.executable, &actions, &attributes, argv, envp)
            }
        }
        guard result == 0 else {
            throw SystemError(operation: "start", path: request.executable, code: result)
        }
        return pid
    }

    private static func withCStrings<R>(
        _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> R
    ) -> R {
        var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) }
        pointers.append(nil)
        defer { for pointer in pointers { free(pointer) } }
        return pointers.withUnsafeBufferPointer { buffer in
            // Never empty: it ends with nil.
            buffer.baseAddress.map(body) ?? body(UnsafePointer(bitPattern: 8).unsafelyUnwrapped)
        }
    }

    /// Sends a signal to a worker's whole process group; a group that is gone is no error.
    static func signal(group pid: pid_t, _ signal: Int32) {
        guard pid > 1 else { return }
        kill(-pid, signal)
    }

    /// Whether a process is alive: there, and not a zombie, and the one that started at `ticks`.
    static func isAlive(pid: Int32, startTicks: UInt64) -> Bool {
        guard HostResources.startTicks(pid: Int(pid)) == startTicks,
            let bytes = try? FilePath.read("/proc/\(pid)/stat", limit: 4_096)
        else { return false }
        let text = String(decoding: bytes, as: UTF8.self)
        guard let end = text.lastIndex(of: ")") else { return false }
        let state = text[text.index(after: end)...].first { $0 != " " }
        return state != "Z" && state != "X"
    }
}
