import BrokerCore
import Glibc
import LinuxSystem
import Logging

/// Keeps the configured workers running: starts them, notices at once when one ends, starts it
/// again with a growing wait, and ends them by process group.
///
/// Workers outlive a broker that is killed; a new one adopts those that still run. Belongs to the
/// event loop's thread. What has happened is collected in `news` for the loop to pass on.
final class Supervisor {
    struct Settings: Sendable {
        var home: BrokerHome
        /// Where `loraqd` itself lies.
        var programDirectory: String
        /// What every worker is started with, beside its own variables.
        var environment: [String: String]
        var searchPath: String
        /// Usable cores by NUMA node; workers get them in this order.
        var nodes: [[Int]]
        var memoryBytes: Int?
        /// Processes that the kernel has killed for want of memory so far.
        var outOfMemoryKills: @Sendable () -> Int? = { nil }
        var firstBackoff: Duration = .milliseconds(500)
        var maximumBackoff: Duration = .seconds(60)
        /// A worker that lived so long begins again with the first backoff.
        var healthyAfter: Duration = .seconds(60)
        /// Between SIGTERM and SIGKILL.
        var stopGrace: Duration = .seconds(10)
        var evidenceBytes = 4_096
    }

    private var usableCPUs: [Int] { settings.nodes.flatMap { $0 } }

    enum News {
        case started(ProcessRecord)
        case adopted(ProcessRecord)
        case exited(ProcessExit)
        /// The process could not even be started.
        case startFailed(instance: String, message: String)
    }

    enum Phase: Equatable {
        case stopped
        /// Started; has not said HELLO.
        case starting(until: MonotonicTime)
        case ready
        /// Told to end; killed at `until`.
        case stopping(until: MonotonicTime)
        /// Died; started again at `until`.
        case backoff(until: MonotonicTime)

        var isRunning: Bool {
            switch self {
            case .starting, .ready, .stopping: true
            case .stopped, .backoff: false
            }
        }
    }

    /// One instance of a plugin, `<plugin>-<n>`.
    struct Slot {
        var plugin: Plugin
        var phase = Phase.stopped
        var isWanted = true
        var process: ProcessRecord?
        /// The pid that its HELLO gave: of a program that a script started, not the script's.
        var helloPid: Int32?
        /// Whether the process is a child of this broker, so that its exit status can be had.
        var isChild = false
        /// Where in the log its present run begins.
        var logStart = 0
        var startedAt = MonotonicTime(nanoseconds: 0)
        var failures = 0
        var restarts = 0
        var lastExit: String?
        /// The cores it was started with.
        var cpus: [Int] = []
    }

    private(set) var slots: [String: Slot] = [:]
    private var news: [News] = []
    private(set) var catalog = PluginCatalog()
    /// Wanted instances by plugin.
    private(set) var instances: [String: Int] = [:]
    private var share = CoreShare([], over: [])
    private var isStopping = false
    /// What `outOfMemoryKills` said when a process last ended.
    private var knownKills: Int?
    /// Instances that were sent SIGKILL from here.
    private var killed: Set<String> = []
    /// Processes that are watched but not supervised: workers that somebody started by hand.
    private var strangers: [Int32: String] = [:]
    private let settings: Settings
    private let watcher: ProcessWatcher
    private let log: Logger

    init(settings: Settings, log: Logger) throws(SystemError) {
        self.settings = settings
        self.log = log
        watcher = try ProcessWatcher()
    }

    /// Readable when a watched process has ended.
    var descriptor: Int32 { watcher.descriptor }

    func takeNews() -> [News] {
        defer { news.removeAll() }
        return news
    }

    // MARK: Beginning

    /// Takes over what still runs from the broker before, then starts what is missing.
    func begin(_ catalog: PluginCatalog, adopting records: [ProcessRecord], now: MonotonicTime) {
        self.catalog = catalog
        for fault in catalog.faults { log.warning("plugin skipped: \(fault.message)") }
        knownKills = settings.outOfMemoryKills()
        let standard = InstanceCount(nodes: settings.nodes, memoryBytes: settings.memoryBytes)
        for plugin in catalog.plugins {
            instances[plugin.name] =
                plugin.manifest.instances ?? standard.standard(for: plugin.manifest)
        }
        for plugin in catalog.plugins { makeSlots(of: plugin) }
        shareCores()
        for record in records { adopt(record, now: now) }
        for name in slots.keys.sorted() where slots[name]?.phase == .stopped { start(name, now) }
    }

    private func makeSlots(of plugin: Plugin) {
        let count = instances[plugin.name] ?? 0
        for number in 0..<count {
            let name = "\(plugin.name)-\(number + 1)"
            if slots[name] == nil { slots[name] = Slot(plugin: plugin) }
            slots[name]?.isWanted = true
        }
    }

    private func shareCores() {
        let wishes = slots.filter(\.value.isWanted).sorted { $0.key < $1.key }.map {
            CoreShare.Wish(instance: $0.key, threads: $0.value.plugin.manifest.threads)
        }
        share = CoreShare(wishes, over: usableCPUs)
    }

    private func adopt(_ record: ProcessRecord, now: MonotonicTime) {
        let instance = record.instance
        if StrayWorkers.isOfAnotherHome(
            pid: record.pid, dispatch: settings.environment["LORAQ_DISPATCH"] ?? "")
        {
            // The store is a copy of another home's, whose broker this worker serves.
            log.notice("process \(record.pid), \(instance), belongs to another home: left alone")
            return reportLost(record)
        }
        if let known = slots[instance]?.process {
            guard known.pid != record.pid else { return }
            log.warning("ending process \(record.pid), a second \(instance)")
            ProcessSpawner.signal(group: record.pid, SIGKILL)
            return
        }
        guard ProcessSpawner.isAlive(pid: record.pid, startTicks: record.startTicks),
            (try? watcher.watch(pid: record.pid)) == true
        else {
            // It ended while no broker was there to see it.
            return reportLost(record)
        }
        guard let plugin = slots[instance]?.plugin ?? catalog[record.plugin] else {
            log.warning("ending \(instance), process \(record.pid): its plugin is gone")
            ProcessSpawner.signal(group: record.pid, SIGTERM)
            return
        }
        log.info("adopted \(instance), process \(record.pid)")
        var slot = slots[instance] ?? Slot(plugin: plugin, isWanted: false)
        slot.process = record
        slot.isChild = false
        slot.startedAt = now
        slot.cpus = share.cpus[instance] ?? []
        // It knows our endpoints and says HELLO by itself.
        slot.phase = .starting(until: now + .milliseconds(plugin.manifest.readyTimeoutMs))
        slots[instance] = slot
        news.append(.adopted(record))
        if !slot.isWanted { stop(instance, now: now) }
    }

    private func reportLost(_ record: ProcessRecord) {
        report(
            ProcessExit(
                instance: record.instance, pid: record.pid, status: .unknown,
                lastLog: WorkerLog.tail(record.logPath, limit: settings.evidenceBytes)))
    }

    // MARK: Starting

    private func start(_ instance: String, _ now: MonotonicTime) {
        guard !isStopping, var slot = slots[instance], slot.isWanted, !slot.phase.isRunning else {
            return
        }
        let logPath = settings.home.workerLog(instance)
        WorkerLog.rotate(logPath, maximumBytes: WorkerLog.maximumBytes / 4)
        slot.logStart = (try? FilePath.size(of: logPath)) ?? 0
        slot.cpus = share.cpus[instance] ?? usableCPUs
        do {
            let pid = try spawn(instance, slot, logPath)
            Failpoint.workerSpawned.reach()
            guard let ticks = HostResources.startTicks(pid: Int(pid)) else {
                throw SystemError(operation: "read the start time of", path: instance, code: ESRCH)
            }
            let record = ProcessRecord(
                instance: instance, plugin: slot.plugin.name, pid: pid, startTicks: ticks,
                logPath: logPath, startedAt: Int64(WallClock.milliseconds()))
            slot.process = record
            slot.isChild = true
            slot.startedAt = now
            slot.phase = .starting(
                until: now + .milliseconds(slot.plugin.manifest.readyTimeoutMs))
            slots[instance] = slot
            log.info("started \(instance), process \(pid)")
            news.append(.started(record))
            // A child keeps its pid until it is reaped, so it is always there to be watched.
            if try !watcher.watch(pid: pid) { ended(pid, now: now) }
        } catch {
            log.error("\(instance): \(error)")
            slot.phase = backoff(&slot, now)
            slot.lastExit = "\(error)"
            slots[instance] = slot
            news.append(.startFailed(instance: instance, message: "\(error)"))
        }
    }

    private func spawn(
        _ instance: String, _ slot: Slot, _ logPath: String
    ) throws(SystemError) -> Int32 {
        let manifest = slot.plugin.manifest
        guard
            let executable = slot.plugin.executable(
                besides: settings.programDirectory, searchPath: settings.searchPath)
        else {
            throw SystemError(operation: "find the program", path: manifest.exec[0], code: ENOENT)
        }
        var environment = settings.environment
        environment["LORAQ_INSTANCE"] = instance
        environment["LORAQ_PLUGIN"] = slot.plugin.name
        environment["LORAQ_THREADS"] = String(manifest.threads ?? max(1, slot.cpus.count))
        environment["LORAQ_CPUS"] = CoreShare.text(slot.cpus)
        environment["LORAQ_MEMORY_BYTES"] = manifest.memoryBytes.map(String.init)
        environment.merge(manifest.env) { $1 }
        return try ProcessSpawner.spawn(
            SpawnRequest(
                executable: executable, arguments: Array(manifest.exec.dropFirst()),
                environment: environment, directory: slot.plugin.directory, logPath: logPath))
    }

    private func backoff(_ slot: inout Slot, _ now: MonotonicTime) -> Phase {
        if now - slot.startedAt >= settings.healthyAfter, slot.phase == .ready { slot.failures = 0 }
        let doublings = min(slot.failures, 16)
        let wait = min(settings.firstBackoff * (1 << doublings), settings.maximumBackoff)
        slot.failures += 1
        slot.restarts += 1
        return .backoff(until: now + wait)
    }

    // MARK: Watching

    /// Whether a process may call itself so: not while a process of another group does.
    func mayBe(instance: String, pid: Int32) -> Bool {
        guard let process = slots[instance]?.process else { return true }
        let group = getpgid(pid)
        return group < 0 || group == process.pid
    }

    /// A worker has said HELLO.
    func isReady(instance: String, pid: Int32, startTicks: UInt64?) {
        if slots[instance]?.process != nil {
            slots[instance]?.helloPid = pid
            if case .starting = slots[instance]?.phase { slots[instance]?.phase = .ready }
            return
        }
        // Started by hand on this machine: its end is noticed at once too.
        guard let startTicks, ProcessSpawner.isAlive(pid: pid, startTicks: startTicks),
            strangers.count < 1_024, strangers[pid] == nil,
            (try? watcher.watch(pid: pid)) == true
        else { return }
        strangers[pid] = instance
    }

    /// Takes in the processes that have ended.
    func reap(now: MonotonicTime) {
        for pid in watcher.ended() { ended(pid, now: now) }
    }

    private func ended(_ pid: Int32, now: MonotonicTime) {
        if let instance = strangers.removeValue(forKey: pid) {
            report(ProcessExit(instance: instance, pid: pid, status: .unknown))
            return
        }
        let child = ChildEnd(reaping: pid)
        guard let (instance, found) = slots.first(where: { $0.value.process?.pid == pid }) else {
            return
        }
        var slot = found
        var exit = ProcessExit(
            instance: instance, pid: found.helloPid ?? pid, status: .unknown)
        if let child {
            exit.peakBytes = Int64(child.peakBytes)
            switch child.status {
            case .exited(let code): exit.status = .exited(code)
            case .signaled(let signal): exit.status = .signaled(signal)
            }
        }
        exit.isOutOfMemory = isOutOfMemory(exit, wasKilled: killed.remove(instance) != nil)
        exit.lastLog = WorkerLog.tail(
            settings.home.workerLog(instance), from: slot.logStart, limit: settings.evidenceBytes)
        if case .stopping = slot.phase { exit.isExpected = true }
        if !slot.isWanted || isStopping { exit.isExpected = true }
        // What it started itself must not outlive it.
        ProcessSpawner.signal(group: pid, SIGKILL)
        slot.process = nil
        slot.helloPid = nil
        slot.lastExit = Self.describe(exit)
        let isClean = slot.phase == .ready && exit.status == .exited(0)
        if !slot.isWanted || isStopping {
            slot.phase = .stopped
        } else if isClean || exit.isExpected {
            slot.restarts += 1
            slot.phase = .backoff(until: now + settings.firstBackoff)
        } else {
            slot.phase = backoff(&slot, now)
        }
        slots[instance] = slot
        log.log(
            level: exit.isExpected ? .info : .warning,
            "\(instance), process \(pid), ended: \(Self.describe(exit))")
        report(exit)
    }

    /// SIGKILL from nobody here, and the kernel has killed something for want of memory since it was last asked.
    private func isOutOfMemory(_ exit: ProcessExit, wasKilled: Bool) -> Bool {
        let kills = settings.outOfMemoryKills()
        defer { knownKills = kills ?? knownKills }
        guard exit.status == .signaled(SIGKILL), !wasKilled, let kills, let knownKills else {
            return false
        }
        return kills > knownKills
    }

    private func report(_ exit: ProcessExit) { news.append(.exited(exit)) }

    static func describe(_ exit: ProcessExit) -> String {
        switch exit.status {
        case .exited(let code): "exited with status \(code)"
        case .signaled(let signal) where exit.isOutOfMemory:
            "killed by signal \(signal): the kernel ran out of memory"
        case .signaled(let signal): "killed by signal \(signal) (\(signalName(signal)))"
        case .unknown: "ended; its exit status is not known, since another broker had started it"
        }
    }

    private static func signalName(_ signal: Int32) -> String {
        strsignal(signal).map { String(cString: $0) } ?? "?"
    }

    // MARK: Time

    /// Starts what has waited out its backoff, and ends what is overdue.
    func tick(now: MonotonicTime) {
        for (instance, slot) in slots {
            switch slot.phase {
            case .backoff(let until) where now >= until:
                start(instance, now)
            case .starting(let until) where now >= until:
                log.warning(
                    "\(instance) did not say HELLO in \(slot.plugin.manifest.readyTimeoutMs) ms: ending it"
                )
                kill(instance)
                slots[instance]?.phase = .starting(until: now + .seconds(5))
            case .stopping(let until) where now >= until:
                kill(instance)
                slots[instance]?.phase = .stopping(until: now + .seconds(5))
            default: break
            }
        }
    }

    var nextDeadline: MonotonicTime? {
        slots.values.compactMap { slot -> MonotonicTime? in
            switch slot.phase {
            case .backoff(let until), .starting(let until), .stopping(let until): until
            case .stopped, .ready: nil
            }
        }.min()
    }

    /// Keeps the logs within their bound; called now and then.
    func rotateLogs() {
        for (instance, slot) in slots where slot.process != nil {
            WorkerLog.rotate(settings.home.workerLog(instance))
            let size = (try? FilePath.size(of: settings.home.workerLog(instance))) ?? 0
            if size < slot.logStart { slots[instance]?.logStart = 0 }
        }
    }

    // MARK: Ending

    /// Ends a worker's whole process group at once; it is started again if it is wanted.
    func kill(_ instance: String) {
        guard let process = slots[instance]?.process else { return }
        killed.insert(instance)
        ProcessSpawner.signal(group: process.pid, SIGKILL)
        // A process that left its group, or an adopted one of another leader.
        if ProcessSpawner.isAlive(pid: process.pid, startTicks: process.startTicks) {
            Glibc.kill(process.pid, SIGKILL)
        }
    }

    /// Asks a worker's process group to end; it is killed after the grace.
    func stop(_ instance: String, now: MonotonicTime) {
        guard let slot = slots[instance] else { return }
        guard let process = slot.process else {
            if !slot.isWanted { slots[instance]?.phase = .stopped }
            return
        }
        if case .stopping = slot.phase { return }
        ProcessSpawner.signal(group: process.pid, SIGTERM)
        slots[instance]?.phase = .stopping(until: now + settings.stopGrace)
    }

    /// An instance is not to be started again once it has ended by itself (it was drained).
    func retire(_ instance: String) {
        slots[instance]?.isWanted = false
        if case .backoff = slots[instance]?.phase { slots[instance]?.phase = .stopped }
    }

    /// Sets how many instances a plugin has, and shares the cores out anew.
    ///
    /// - Returns: Those that should drain: the ones that are now too many, and the ones that run on
    ///   cores that are no longer theirs, which are started again after it. Nil: there is no such
    ///   plugin.
    func scale(_ name: String, to count: Int, now: MonotonicTime) -> [String]? {
        guard let plugin = catalog[name] else { return nil }
        instances[name] = count
        makeSlots(of: plugin)
        let surplus = slots.filter { entry in
            guard entry.value.plugin.name == name, entry.value.isWanted,
                let number = Int(entry.key.dropFirst(name.count + 1))
            else { return false }
            return number > count
        }.keys.sorted()
        for instance in surplus { retire(instance) }
        shareCores()
        for instance in slots.keys.sorted() where slots[instance]?.phase == .stopped {
            start(instance, now)
        }
        let misplaced = slots.filter { entry in
            entry.value.isWanted && entry.value.process != nil
                && entry.value.cpus != share.cpus[entry.key]
        }.keys.sorted()
        return (surplus + misplaced).filter { slots[$0]?.process != nil }
    }

    /// Ends all workers; `isIdle` tells when none is left.
    func stopAll(now: MonotonicTime) {
        isStopping = true
        for instance in slots.keys {
            slots[instance]?.isWanted = false
            stop(instance, now: now)
            if slots[instance]?.process == nil { slots[instance]?.phase = .stopped }
        }
    }

    var isIdle: Bool { slots.values.allSatisfy { $0.process == nil } }

    /// What the core has to know of the plugins.
    var descriptions: [PluginDescription] {
        catalog.plugins.map { plugin in
            var description = PluginDescription(
                name: plugin.name,
                kinds: plugin.manifest.kinds.map {
                    PluginKind(
                        name: $0.name.text, resourceClass: $0.class.text,
                        stallMilliseconds: $0.stallMs)
                },
                instances: instances[plugin.name] ?? 0)
            description.memoryBytes = plugin.manifest.memoryBytes ?? 0
            description.isOnRequest = plugin.manifest.onRequest
            return description
        }
    }
}
