import Dispatch
import Glibc
import LinuxSystem
import Synchronization
import WireProtocol
import ZeroMQ

/// A worker: keeps up the session with the broker and hands tasks to a plugin's `TaskHandler`.
///
/// The thread that calls `run` owns both sockets and sends the heartbeats; nothing of the plugin
/// runs on it, so nothing of the plugin can delay a beat. A second thread calls the handler.
public final class PluginWorker: Sendable {
    private let configuration: WorkerConfiguration
    private let handler: any TaskHandler
    private let mailbox: Mailbox
    private let wakeup: Wakeup

    /// - Throws: `.system` when the process has no descriptor left.
    public init(_ configuration: WorkerConfiguration, handler: any TaskHandler) throws(WorkerError)
    {
        self.configuration = configuration
        self.handler = handler
        do {
            wakeup = try Wakeup()
        } catch {
            throw WorkerError(.system, "\(error)")
        }
        mailbox = Mailbox(wakeup: wakeup)
    }

    // MARK: From any thread

    /// Changes how many tasks of a resource class the worker wants to hold at once.
    public func setCapacity(_ count: Int, of resourceClass: WireName) {
        mailbox.post(.capacity(resourceClass, count))
    }

    /// Tells the broker which artifacts are in memory, so that work that needs them comes here.
    public func setLoaded(_ digests: [BlobDigest]) { mailbox.post(.loaded(digests)) }

    public func log(_ level: LogHeader.Level, _ message: String) {
        mailbox.post(.log(level, message, nil))
    }

    /// Takes nothing new, asks what runs to give way, and ends `run` when all results are taken.
    public func stop() { mailbox.post(.stop) }

    /// Makes SIGTERM and SIGINT call `stop`, on whatever thread they come: a library may have made threads before `main`
    /// (OpenBLAS does) that do not block them.
    public func stopOnSignals() throws(WorkerError) {
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGTERM)
        sigaddset(&signals, SIGINT)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        let mailbox = mailbox
        do {
            _ = try SystemThread(name: "signals") {
                var signals = sigset_t()
                sigemptyset(&signals)
                sigaddset(&signals, SIGTERM)
                sigaddset(&signals, SIGINT)
                var received: Int32 = 0
                StopSignalForwarder.install(signals: [SIGTERM, SIGINT])
                while sigwait(&signals, &received) == 0 { mailbox.post(.stop) }
            }
        } catch {
            throw WorkerError(.system, "\(error)")
        }
    }

    // MARK: The thread that owns the sockets

    /// Works until the broker or `stop` drains the worker, then returns.
    ///
    /// A broker that goes away is waited for; what runs goes on meanwhile.
    ///
    /// - Throws: `.refused`, `.brokerGone` (after the grace time, with nothing running), `.system`.
    public func run() throws(WorkerError) {
        let intake = Intake(handler: handler)
        let thread: SystemThread
        do {
            thread = try SystemThread(name: "intake") { intake.run() }
        } catch {
            throw WorkerError(.system, "\(error)")
        }
        defer {
            intake.close()
            thread.join()
        }
        let finish: WorkerCore.Finish
        do {
            finish = try loop(intake)
        } catch let error as WorkerError {
            throw error
        } catch {
            throw WorkerError(.system, "\(error)")
        }
        switch finish {
        case .drained: return
        case .refused(let message): throw WorkerError(.refused, message)
        case .brokerGone:
            throw WorkerError(
                .brokerGone,
                "no sign of a broker at \(configuration.dispatchEndpoint) for the grace time, and "
                    + "nothing is running")
        }
    }

    private func loop(_ intake: Intake) throws -> WorkerCore.Finish {
        let context = try Context()
        // `immediate`: nothing is queued for a broker that is not there; after its return the
        // session is made anew, and what it had not acknowledged is sent again.
        let options = SocketOptions.with {
            $0.immediate = true
            $0.linger = .seconds(1)
            $0.reconnectIntervalMaximum = .milliseconds(250)
        }
        let dispatch = try Socket(context, .dealer, options: options)
        try dispatch.connect(configuration.dispatchEndpoint)
        let results = try Socket(context, .push, options: options)
        try results.connect(configuration.resultsEndpoint)
        var poller = Poller()
        let dispatchSlot = poller.add(dispatch, .input)
        let resultsSlot = poller.add(results, [])
        poller.add(descriptor: wakeup.descriptor)

        let pid = Int(getpid())
        var core = WorkerCore(
            configuration, mailbox: mailbox, pid: pid,
            startTicks: HostResources.startTicks(pid: pid).map { Int($0) },
            now: MonotonicTime.now())
        while true {
            wakeup.clear()
            let now = MonotonicTime.now()
            let (letters, dropped) = mailbox.take()
            for letter in letters { core.open(letter, now: now) }
            core.noteDropped(dropped)
            var received = 0
            while received < 256, let frames = try dispatch.receive(maximumFrames: 512) {
                received += 1
                if let finish = core.receive(frames, now: now) { return finish }
            }
            let finish = core.tick(now, residentBytes: Self.memory)
            intake.put(core.takeHandOvers())
            try core.flushDispatch { try dispatch.send($0) == .sent }
            let hadRoom = try core.flushResults(now: now) { try results.send($0) == .sent }
            if let finish { return finish }

            // A socket that is not writable is looked at again when it is, or with the next beat.
            poller.setInterest(hadRoom ? [] : .output, of: resultsSlot)
            poller.setInterest(
                core.dispatchOut.isEmpty ? .input : [.input, .output], of: dispatchSlot)
            if received == 256 { continue }
            let wait = core.nextTick - MonotonicTime.now()
            _ = try poller.wait(atMost: max(.zero, wait + .milliseconds(1)))
        }
    }

    private static func memory() -> (now: Int, peak: Int?) {
        (HostResources.residentBytes() ?? 0, HostResources.peakResidentBytes())
    }
}

/// The thread on which the plugin hears of tasks.
final class Intake: Sendable {
    private struct Content {
        var queue: [WorkerCore.HandOver] = []
        var isClosed = false
    }

    private let handler: any TaskHandler
    private let content = Mutex(Content())
    private let semaphore = DispatchSemaphore(value: 0)

    init(handler: any TaskHandler) { self.handler = handler }

    func put(_ handOvers: [WorkerCore.HandOver]) {
        guard !handOvers.isEmpty else { return }
        content.withLock { $0.queue.append(contentsOf: handOvers) }
        semaphore.signal()
    }

    func close() {
        content.withLock { $0.isClosed = true }
        semaphore.signal()
    }

    func run() {
        while true {
            semaphore.wait()
            let (queue, isClosed) = content.withLock { content in
                let result = (content.queue, content.isClosed)
                content.queue = []
                return result
            }
            for handOver in queue {
                switch handOver {
                case .task(let task): handler.accept(task)
                case .stop(let reason, let action): action(reason)
                case .drain: handler.drain()
                }
            }
            if isClosed { return }
        }
    }
}

/// Hands stop signals that come on a thread which does not block them to the thread that waits for them.
private enum StopSignalForwarder {
    /// Written once, before the handler that reads it is installed.
    nonisolated(unsafe) private static var waiter = pthread_t()

    /// Called by the thread that is going to wait, which blocks the signals.
    static func install(signals: [Int32]) {
        waiter = pthread_self()
        for number in signals {
            // `pthread_kill` is safe in a handler (signal-safety(7)).
            signal(number) { _ = pthread_kill(StopSignalForwarder.waiter, $0) }
        }
    }
}
