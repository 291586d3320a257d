import CLinux
import Glibc

/// A thread of its own for blocking calls or compute, which must not run on the cooperative pool.
///
/// `@unchecked Sendable` is sound: the only state is the thread's handle, written before the object is
/// shared, and `join` may be called once.
public final class SystemThread: @unchecked Sendable {
    private final class Start {
        let name: String
        let cpus: [Int]
        let body: @Sendable () -> Void
        init(name: String, cpus: [Int], body: @escaping @Sendable () -> Void) {
            self.name = name
            self.cpus = cpus
            self.body = body
        }
    }

    private var handle = pthread_t()

    /// Starts a thread.
    /// - Parameters:
    ///   - name: Shown by `top -H`; cut to 15 bytes.
    ///   - cpus: The cores it may run on; empty: those of the process.
    ///   - stackBytes: Size of its stack.
    /// - Throws: `SystemError` when no thread can be made.
    public init(
        name: String, cpus: [Int] = [], stackBytes: Int = 8 << 20,
        body: @escaping @Sendable () -> Void
    ) throws(SystemError) {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setstacksize(&attributes, stackBytes)
        let start = Unmanaged.passRetained(Start(name: name, cpus: cpus, body: body))
        let result = pthread_create(
            &handle, &attributes,
            { argument in
                guard let argument else { return nil }
                let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                SystemThread.enter(name: start.name, cpus: start.cpus)
                start.body()
                return nil
            }, start.toOpaque())
        guard result == 0 else {
            start.release()
            throw SystemError(operation: "start thread \(name)", code: result)
        }
    }

    /// Waits for the thread's end.
    public func join() { pthread_join(handle, nil) }

    private static func enter(name: String, cpus: [Int]) {
        clinux_set_thread_name(String(name.utf8.prefix(15)) ?? "loraq")
        setAffinity(cpus)
    }

    /// Binds the calling thread to `cpus`; cores that do not exist are left out, and an empty list
    /// changes nothing.
    public static func setAffinity(_ cpus: [Int]) {
        let wanted = cpus.filter { (0..<1024).contains($0) }
        guard !wanted.isEmpty else { return }
        var words = [UInt64](repeating: 0, count: 16)
        for cpu in wanted { words[cpu / 64] |= 1 << UInt64(cpu % 64) }
        _ = words.withUnsafeBytes { bytes in
            clinux_set_affinity(bytes.baseAddress, bytes.count)
        }
    }
}
