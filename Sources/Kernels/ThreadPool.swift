import CKernels
import Synchronization

/// Persistent compute threads. The caller of `run` is thread 0; the others spin for at most a millisecond after
/// the last run and then sleep, so an idle pool costs nothing.
///
/// `@unchecked Sendable`: the pool's state lives behind its own atomics and lock (`pool.c`); the pointer never changes.
public final class ThreadPool: @unchecked Sendable {
    let handle: OpaquePointer
    public let threadCount: Int

    /// - Parameters:
    ///   - threads: At least 1, the caller included.
    ///   - cpus: One CPU number a thread for pinning the threads after the first, or nil.
    /// - Throws: `.shape` for a bad count, `.memory` when threads cannot be started.
    public init(threads: Int, cpus: [Int]? = nil) throws(KernelError) {
        try require(threads >= 1 && threads <= 1024, "a pool cannot have \(threads) threads")
        try require(
            cpus == nil || cpus?.count == threads,
            "\(cpus?.count ?? 0) CPU numbers for \(threads) threads")
        let created: OpaquePointer?
        if let cpus {
            created = cpus.map { Int32(clamping: $0) }.withUnsafeBufferPointer {
                ck_pool_create(Int32(threads), $0.baseAddress)
            }
        } else {
            created = ck_pool_create(Int32(threads), nil)
        }
        guard let created else {
            throw KernelError(.memory, "cannot start \(threads) compute threads")
        }
        handle = created
        threadCount = threads
    }

    deinit { ck_pool_destroy(handle) }

    /// Runs `body(thread, threadCount)` on every thread and returns when all are done.
    ///
    /// Callers on several threads take turns in the order they came, asleep while they wait. Called from inside another
    /// run it runs the whole body inline, as one thread.
    public func run(_ body: @Sendable (_ thread: Int, _ threadCount: Int) -> Void) {
        withoutActuallyEscaping(body) { body in
            withUnsafePointer(to: body) { pointer in
                run(
                    { arguments, thread, threads in
                        guard let arguments else { return }
                        let body = arguments.assumingMemoryBound(
                            to: (@Sendable (Int, Int) -> Void).self)
                        body.pointee(Int(thread), Int(threads))
                    }, pointer)
            }
        }
    }

    /// `body` of 0 ..< count, each on one of the threads: what an operation does inside runs on that thread alone.
    ///
    /// - Returns: The results in order.
    /// - Throws: The error of the lowest index that failed; all bodies run all the same.
    public func map<Result: Sendable>(
        _ count: Int, _ body: @Sendable (Int) throws -> Result
    ) throws -> [Result] {
        let next = Atomic(0)
        let results = Mutex([Swift.Result<Result, any Error>?](repeating: nil, count: count))
        run { _, _ in
            while true {
                let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
                if index >= count { return }
                let result = Swift.Result { try body(index) }
                results.withLock { $0[index] = result }
            }
        }
        return try results.withLock { try $0.compactMap { try $0?.get() } }
    }

    func run(_ task: ck_task, _ arguments: UnsafeRawPointer) {
        ck_pool_run(handle, task, arguments)
    }
}
