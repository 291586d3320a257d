import BrokerCore
import Dispatch
import Glibc
import JobStore
import LinuxSystem
import Logging
import Synchronization

/// A broker: the event loop on its thread, with everything it owns.
public final class BrokerServer: Sendable {
    private let inbox: LoopInbox
    private let thread: SystemThread
    private let ended: DispatchSemaphore

    /// Takes the home's lock, opens the store, binds the sockets and starts the workers. When it
    /// returns, clients can connect.
    ///
    /// - Throws: `BrokerStartError`.
    public convenience init(configuration: BrokerConfiguration, log: Logger) throws {
        let home = BrokerHome(root: configuration.home)
        let lock = try Self.prepare(home)
        let inbox: LoopInbox
        do {
            inbox = try LoopInbox()
        } catch {
            throw BrokerStartError(.cannotPrepareHome, "\(error)")
        }
        try self.init(configuration, home, lock, inbox, log)
    }

    private init(
        _ configuration: BrokerConfiguration, _ home: BrokerHome, _ lock: FileLock,
        _ inbox: LoopInbox, _ log: Logger
    ) throws {
        self.inbox = inbox
        let ended = DispatchSemaphore(value: 0)
        self.ended = ended
        let started = DispatchSemaphore(value: 0)
        let failure = Mutex<BrokerStartError?>(nil)
        // Held until the loop has ended and everything is closed, and let go before that is told.
        let held = Mutex<FileLock?>(lock)
        thread = try SystemThread(name: "broker") {
            do throws(BrokerStartError) {
                let loop = try Self.makeLoop(configuration, home, inbox, log)
                started.signal()
                loop.run()
            } catch {
                failure.withLock { $0 = error }
                started.signal()
            }
            held.withLock { $0 = nil }
            ended.signal()
        }
        started.wait()
        if let error = failure.withLock({ $0 }) {
            ended.wait()
            throw error
        }
    }

    private static func prepare(_ home: BrokerHome) throws(BrokerStartError) -> FileLock {
        do {
            try home.prepare()
        } catch {
            throw BrokerStartError(.cannotPrepareHome, "\(error)")
        }
        do {
            // Before any bind: libzmq lets a second broker take the sockets over in silence.
            return try FileLock(path: home.lock)
        } catch let held as FileLock.Held {
            let holder = held.holder.map { " (process \($0))" } ?? ""
            throw BrokerStartError(
                .alreadyRunning, "a broker\(holder) is running already for \(home.root)")
        } catch {
            throw BrokerStartError(.cannotPrepareHome, "\(error)")
        }
    }

    private static func makeLoop(
        _ configuration: BrokerConfiguration, _ home: BrokerHome, _ inbox: LoopInbox, _ log: Logger
    ) throws(BrokerStartError) -> EventLoop {
        let store: DurableJobStore
        do {
            store = try DurableJobStore(
                path: home.database, eventHistory: configuration.limits.eventHistory)
        } catch {
            throw BrokerStartError(.cannotOpenStore, "\(home.database): \(error)")
        }
        Failpoint.storeOpened.reach()
        do {
            let loop = try EventLoop(
                configuration: configuration, home: home, store: store, inbox: inbox, log: log)
            try loop.begin()
            return loop
        } catch let error as BrokerStartError {
            store.close()
            throw error
        } catch let error as StoreError {
            store.close()
            throw BrokerStartError(.cannotOpenStore, "\(home.database): \(error)")
        } catch {
            store.close()
            throw BrokerStartError(.cannotBind, "\(error)")
        }
    }

    /// Ends the broker in order: workers are asked to end, what they still send is stored.
    public func stop() { inbox.post { $0.beginStop() } }

    /// Waits until the broker has ended.
    public func waitUntilStopped() {
        ended.wait()
        ended.signal()
    }

    /// Has something done by the loop's own thread; for tests.
    func inLoop(_ body: @escaping LoopInbox.Item) { inbox.post(body) }

    /// Ends the loop at once, without a word to workers: as a crash would, for tests.
    func abandon() {
        inbox.post { $0.isFinished = true }
        waitUntilStopped()
    }
}

extension EventLoop {
    /// Makes the core from the store and takes over the workers.
    func begin() throws {
        readClocks()
        try pipeline.restoreKept()
        reloadCore()
        guard core != nil else {
            throw StoreError(.readFailed, "the queue cannot be read from the store")
        }
        let records = try store.processes()
        let strays = StrayWorkers.find(
            dispatch: home.endpoint("dispatch"), logPath: home.workerLog
        ).filter { stray in !records.contains { $0.pid == stray.pid } }
        var catalog = PluginCatalog()
        if configuration.startsWorkers {
            catalog = PluginCatalog(searching: [home.workers] + configuration.workerFolders)
        }
        supervisor.begin(catalog, adopting: records + strays, now: now)
        step(.plugins(pluginDescriptions))
        step(.brokerStarted(version: BrokerVersion.current))
        takeSupervisorNews()
        flush()
    }
}
