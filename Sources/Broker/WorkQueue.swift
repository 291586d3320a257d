import Dispatch
import LinuxSystem
import Synchronization
import ZeroMQ

/// A thread that does one thing after the other, in the order it was given: what waits for the disk
/// and must not hold up the event loop.
final class WorkQueue: Sendable {
    typealias Work = @Sendable () -> Void

    private struct State {
        var work: [Work] = []
        var isStopped = false
    }

    private let state = Mutex(State())
    private let available = DispatchSemaphore(value: 0)
    private let thread = Mutex<SystemThread?>(nil)

    init(name: String) throws(SystemError) {
        let started = try SystemThread(name: name) { [weak self] in
            while let queue = self, queue.runNext() {}
        }
        thread.withLock { $0 = started }
    }

    func add(_ work: @escaping Work) {
        state.withLock { $0.work.append(work) }
        available.signal()
    }

    /// How much waits to be done.
    var backlog: Int { state.withLock { $0.work.count } }

    private func runNext() -> Bool {
        available.wait()
        let work = state.withLock { state -> [Work] in
            defer { state.work.removeAll() }
            return state.work
        }
        for item in work { item() }
        return state.withLock { !($0.isStopped && $0.work.isEmpty) }
    }

    /// Does what was given so far, then ends the thread.
    func stop() {
        state.withLock { $0.isStopped = true }
        available.signal()
        thread.withLock { $0 }?.join()
    }
}

/// What other threads want done in the event loop. Posting wakes the loop.
final class LoopInbox: Sendable {
    typealias Item = @Sendable (EventLoop) -> Void

    let wakeup: Wakeup
    private let items = Mutex<[Item]>([])

    init() throws(ZeroMQError) { wakeup = try Wakeup() }

    func post(_ item: @escaping Item) {
        items.withLock { $0.append(item) }
        wakeup.signal()
    }

    func take() -> [Item] {
        wakeup.clear()
        return items.withLock { items in
            defer { items.removeAll() }
            return items
        }
    }
}
