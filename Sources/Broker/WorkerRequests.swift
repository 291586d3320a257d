import BrokerCore
import LinuxSystem
import WireProtocol

extension EventLoop {
    func workersReply() throws -> WorkersReply {
        let views = core?.workers() ?? []
        var workers: [WorkerObject] = []
        for (instance, slot) in supervisor.slots {
            workers.append(
                try workerObject(instance, slot, views.first { $0.instance == instance }))
        }
        // Those that were started by hand.
        for view in views where supervisor.slots[view.instance] == nil {
            workers.append(try workerObject(view))
        }
        workers.sort { $0.instance < $1.instance }
        var plugins: [PluginObject] = []
        for plugin in supervisor.catalog.plugins {
            plugins.append(
                PluginObject(
                    name: plugin.manifest.name, version: plugin.manifest.version,
                    path: plugin.directory, instances: supervisor.instances[plugin.name] ?? 0,
                    kinds: plugin.manifest.kinds.map(\.name)))
        }
        for fault in supervisor.catalog.faults {
            guard let name = WireName(text: fault.name) else { continue }
            plugins.append(
                PluginObject(
                    name: name, path: fault.path, instances: 0, kinds: [],
                    error: ErrorObject(.invalidSpec, .user, fault.message)))
        }
        return WorkersReply(workers: workers, plugins: plugins)
    }

    private func workerObject(_ view: WorkerView) throws(WireError) -> WorkerObject {
        var kinds: [WireName] = []
        for kind in view.kinds { kinds.append(try WireName(checking: kind)) }
        var object = WorkerObject(
            instance: view.instance, plugin: try WireName(checking: view.plugin),
            state: Self.state(view.state), pid: Int(view.pid), numerics: view.numerics,
            kinds: kinds, held: view.held.count, rssBytes: Int(view.residentBytes),
            peakBytes: view.peakBytes.map(Int.init))
        var classes: [String: WorkerObject.ClassUse] = [:]
        for (name, free) in view.credit {
            classes[name] = .init(held: view.heldCounts[name] ?? 0, free: free)
        }
        object.classes = classes
        return object
    }

    private static func state(_ word: String) -> WorkerObject.State {
        WorkerObject.State(rawValue: word) ?? .ready
    }

    private func workerObject(
        _ instance: String, _ slot: Supervisor.Slot, _ view: WorkerView?
    ) throws(WireError) -> WorkerObject {
        var object: WorkerObject
        if let view, slot.phase.isRunning {
            object = try workerObject(view)
            if case .stopping = slot.phase { object.state = .draining }
        } else {
            let state: WorkerObject.State =
                switch slot.phase {
                case .stopped: .stopped
                case .backoff: .backoff
                case .starting, .ready: .starting
                case .stopping: .draining
                }
            object = WorkerObject(
                instance: instance, plugin: slot.plugin.manifest.name, state: state,
                kinds: slot.plugin.manifest.kinds.map(\.name))
        }
        object.pid = slot.process.map { Int($0.pid) } ?? object.pid
        object.startedAtMs = slot.process.map { Int($0.startedAt) }
        object.restarts = slot.restarts
        object.lastExit = slot.lastExit
        return object
    }

    func scale(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(ScaleRequest.self)
        guard WorkerManifest.instanceRange.contains(header.instances) else {
            throw ErrorObject(
                .badHeader, .user,
                "`instances` must be \(WorkerManifest.instanceRange.lowerBound) to "
                    + "\(WorkerManifest.instanceRange.upperBound)")
        }
        guard
            let draining = supervisor.scale(header.plugin.text, to: header.instances, now: now)
        else {
            let names = supervisor.catalog.plugins.map(\.name).joined(separator: ", ")
            throw ErrorObject(
                .unknownWorker, .user, "there is no plugin \(header.plugin)",
                hint: names.isEmpty ? "no plugin was found" : "there are: \(names)")
        }
        step(.plugins(pluginDescriptions))
        for instance in draining { drainWorker(instance) }
        takeSupervisorNews()
        reply(request, ScaleReply(plugin: header.plugin, instances: header.instances))
    }

    /// Lets a worker finish what it holds; one that never said HELLO is ended at once.
    private func drainWorker(_ instance: String) {
        if core?.workers().contains(where: { $0.instance == instance }) == true {
            step(.drain(worker: instance, request: RequestID(0)))
        } else {
            supervisor.stop(instance, now: now)
        }
    }

    // MARK: Draining and stopping

    func drain(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(DrainRequest.self)
        if let worker = header.worker {
            let isKnown =
                supervisor.slots[worker] != nil
                || core?.workers().contains { $0.instance == worker } == true
            guard isKnown else {
                throw ErrorObject(
                    .unknownWorker, .user, "there is no worker `\(worker.prefix(80))`")
            }
            supervisor.retire(worker)
            guard core?.workers().contains(where: { $0.instance == worker }) == true else {
                supervisor.stop(worker, now: now)
                return reply(request, DrainReply(draining: [worker]))
            }
        } else if header.stop == true {
            stopPhase = .draining(until: now + .seconds(configuration.drainSeconds))
        }
        step(.drain(worker: header.worker, request: expectReply(request)))
    }

    /// The orderly end: workers are asked to end and killed after the grace; what they still send is
    /// taken in; then the loop ends.
    func beginStop() {
        if case .stopping = stopPhase { return }
        log.notice("stopping")
        stopPhase = .stopping
        Failpoint.stopBegun.reach()
        step(.drain(worker: nil, request: RequestID(0)))
        supervisor.stopAll(now: now)
    }

    func advanceStop() {
        switch stopPhase {
        case .running: return
        case .draining(let until):
            if now >= until || core?.workers().allSatisfy(\.held.isEmpty) ?? true { beginStop() }
        case .stopping:
            if supervisor.isIdle, inFlight.isEmpty, batch.changesNothing { isFinished = true }
        }
    }

    /// Ends the queues and sends what is still to be sent.
    func close() {
        flush(evenIfBusy: true)
        for sink in sinks.all { detach(sink) }
        for split in splits.values { split.cancel() }
        splitter.stop()
        smallSplitter.stop()
        verifier.stop()
        copier.stop()
        reader.stop()
        disk.stop()
        pipeline.stop()
        store.close()
        for item in inbox.take() { item(self) }
        flush()
        try? retryOutgoing()
        log.info("stopped")
    }

    // MARK: Supervisor

    func supervise() {
        supervisor.reap(now: now)
        takeSupervisorNews()
    }

    func takeSupervisorNews() {
        for news in supervisor.takeNews() {
            switch news {
            case .started(let record):
                batch.mutations.append(.putProcess(record))
                step(
                    .workerStarted(
                        instance: record.instance, plugin: record.plugin, pid: record.pid))
            case .adopted(let record):
                step(
                    .workerStarted(
                        instance: record.instance, plugin: record.plugin, pid: record.pid))
            case .exited(let exit):
                batch.mutations.append(.deleteProcess(instance: exit.instance))
                step(.workerExited(exit))
            case .startFailed:
                break
            }
        }
    }
}
