import Glibc
import LinuxSystem

/// A thread that runs closures in order, and owns whatever they share.
///
/// `@unchecked Sendable` is sound: the queue and the flag are touched under `mutex` only.
final class StoreThread: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var jobs: [@Sendable () -> Void] = []
    private var isClosed = false
    private var thread: SystemThread?

    init(name: String) throws(StoreError) {
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
        do {
            thread = try SystemThread(name: name) { [unowned self] in run() }
        } catch {
            throw StoreError(.cannotOpen, "\(error)")
        }
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
        condition.deallocate()
    }

    /// False once the thread is closed: then the closure will not run.
    @discardableResult
    func enqueue(_ job: @escaping @Sendable () -> Void) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        guard !isClosed else { return false }
        jobs.append(job)
        pthread_cond_signal(condition)
        return true
    }

    /// Runs what was enqueued so far, then ends the thread.
    func close() {
        pthread_mutex_lock(mutex)
        let wasClosed = isClosed
        isClosed = true
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
        if !wasClosed { thread?.join() }
    }

    private func run() {
        while true {
            pthread_mutex_lock(mutex)
            while jobs.isEmpty && !isClosed { pthread_cond_wait(condition, mutex) }
            let batch = jobs
            jobs.removeAll(keepingCapacity: true)
            let isLast = isClosed
            pthread_mutex_unlock(mutex)
            for job in batch { job() }
            if batch.isEmpty && isLast { return }
        }
    }
}

/// A value handed from one thread to another, once.
///
/// `@unchecked Sendable` is sound: `value` is written before `signal` and read after `wait`.
final class Handover<Value>: @unchecked Sendable {
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
    private var value: Value?

    init() { sem_init(semaphore, 0, 0) }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    func give(_ value: Value) {
        self.value = value
        sem_post(semaphore)
    }

    func take() -> Value? {
        while sem_wait(semaphore) != 0 && errno == EINTR {}
        return value
    }
}
