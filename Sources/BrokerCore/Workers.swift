extension Core {
    // MARK: Plugins

    func setPlugins(_ descriptions: [PluginDescription]) {
        plugins = [:]
        for description in descriptions { plugins[description.name] = description }
        knownNumerics = knownNumerics.filter { plugins[$0.key] != nil }
        needsDispatch = true
    }

    func kind(_ name: String, of plugin: String) -> PluginKind? {
        plugins[plugin]?.kinds.first { $0.name == name }
    }

    // MARK: HELLO, CREDIT, BYE

    func workerHello(_ hello: WorkerHello) {
        guard workersByInstance[hello.instance] != nil || workerList.count < limits.workers else {
            return
        }
        var classes: [String: String] = [:]
        for name in hello.kinds {
            // A plugin that nobody configured: each kind is a class of its own.
            classes[name] = kind(name, of: hello.plugin)?.resourceClass ?? name
        }
        let worker = LiveWorker(hello: hello, session: newToken(), classes: classes, at: time)
        let before = workersByInstance[hello.instance]
        if let before { forget(before) }
        insert(worker)
        knownNumerics[hello.plugin, default: [:]][hello.instance] = hello.numerics

        var keep: [AttemptKey] = []
        var drop: [AttemptKey] = []
        for key in hello.holding.prefix(limits.heldPerWorker) {
            // What it holds counts as sent, also what it must drop.
            let only = Set(classes.values).count == 1 ? classes.values.first : nil
            let own = jobs[key.task.job].flatMap { classes[$0.submission.kind] }
            if let resourceClass = hello.holdingClasses[key] ?? own ?? only {
                worker.sent[resourceClass, default: 0] += 1
            }
            if let task = leasedTask(key) {
                keep.append(key)
                reattach(task, to: worker)
            } else {
                drop.append(key)
            }
        }
        if let before {
            if before.hello.pid == hello.pid {
                // Not named: its result may be under way. Its lease decides.
                for task in before.heldInOrder { reattach(task, to: worker) }
            } else {
                release(before, .lost, leaseLost(hello.instance), exit: nil)
            }
        }
        for task in orphanTasks(of: hello.instance) {
            reattach(task, to: worker)
        }
        act(
            .welcome(
                hello.peer,
                Welcome(instance: hello.instance, session: worker.session, keep: keep, drop: drop)))
        publish("worker.ready") {
            $0.worker = hello.instance
            $0.message = "\(hello.plugin) \(hello.pluginVersion), numerics \(hello.numerics)"
        }
        needsDispatch = true
    }

    /// The task of a key that is leased under exactly this key.
    func leasedTask(_ key: AttemptKey) -> LiveTask? {
        guard let task = jobs[key.task.job]?.tasks[key.task.index], task.state == .leased else {
            return nil
        }
        let isCurrent = task.attempt == key.attempt && task.lease == key.lease
        return isCurrent || plantedFault == .acceptsStaleToken ? task : nil
    }

    private func reattach(_ task: LiveTask, to worker: LiveWorker) {
        if let other = task.worker, other !== worker { unhold(task, other) }
        guard task.worker !== worker else { return }
        orphans[task.id] = nil
        task.worker = worker
        task.workerName = worker.instance
        task.renewedAt = time
        task.counterAt = time
        hold(task, worker, worker.classes[task.job.submission.kind] ?? task.job.submission.kind)
        worker.loaded.formUnion(task.references.digests)
        if task.isSuspect { worker.isAlone = true }
    }

    private func unhold(_ task: LiveTask, _ worker: LiveWorker) {
        let kind = task.job.submission.kind
        worker.held[task.id] = nil
        worker.heldCounts[worker.classes[kind] ?? kind, default: 1] -= 1
        if !task.job.isLines { worker.singlesHeld -= 1 }
    }

    private func insert(_ worker: LiveWorker) {
        workersByInstance[worker.instance] = worker
        workersBySession[worker.session] = worker
        let place = workerList.firstIndex { $0.instance > worker.instance } ?? workerList.count
        workerList.insert(worker, at: place)
    }

    private func forget(_ worker: LiveWorker) {
        if workersByInstance[worker.instance] === worker {
            workersByInstance[worker.instance] = nil
        }
        workersBySession[worker.session] = nil
        workerList.removeAll { $0 === worker }
    }

    private func known(_ peer: PeerID, _ session: Token) -> LiveWorker? {
        guard let worker = workersBySession[session] else {
            act(.unknownSession(peer))
            return nil
        }
        worker.lastHeard = time
        return worker
    }

    func workerCredit(_ peer: PeerID, _ session: Token, _ classes: [String: Int]) {
        guard let worker = known(peer, session) else { return }
        for (name, total) in classes where worker.classes.values.contains(name) {
            // Totals only grow; an older message says nothing new.
            worker.credit[name] = max(worker.credit[name] ?? 0, min(total, 1 << 40))
        }
        needsDispatch = true
    }

    func workerBye(_ peer: PeerID, _ session: Token) {
        guard let worker = known(peer, session) else { return }
        forget(worker)
        release(
            worker, .preempted,
            BrokerError(.leaseLost, .retryable, "worker \(worker.instance) left"), exit: nil)
        needsDispatch = true
    }

    // MARK: BEAT

    func workerBeat(_ beat: WorkerBeat) {
        guard let worker = known(beat.peer, beat.session) else { return }
        worker.residentBytes = beat.residentBytes
        worker.peakBytes = beat.peakBytes ?? worker.peakBytes
        var drop: [AttemptKey] = []
        var cancel: [AttemptKey] = []
        for held in beat.held.prefix(limits.heldPerWorker) {
            if let task = leasedTask(held.key), task.worker === worker {
                task.renewedAt = time
                noteProgress(task, held.progress)
            } else {
                // What it had produced of a cancelled task is still wanted; a drop would throw it away.
                if acceptsPartial(held.key) {
                    cancel.append(held.key)
                } else {
                    drop.append(held.key)
                }
                watchRevoked(held, worker)
            }
        }
        if !worker.revoked.isEmpty {
            let stillHeld = Set(beat.held.map(\.key))
            worker.revoked = worker.revoked.filter { stillHeld.contains($0.key) }
        }
        if let loaded = beat.loaded {
            worker.loaded = Set(loaded)
            for task in worker.held.values { worker.loaded.formUnion(task.references.digests) }
        }
        if !cancel.isEmpty { act(.cancelAttempts(beat.peer, cancel, reason: "cancelled")) }
        act(.beatAck(beat.peer, drop: drop))
    }

    private func noteProgress(_ task: LiveTask, _ counter: Int64) {
        guard counter != task.counter else { return }
        task.counter = counter
        task.counterAt = time
        if let worker = task.worker, let resourceClass = worker.classes[task.job.submission.kind] {
            worker.classMovedAt[resourceClass] = time
        }
    }

    /// An attempt that the worker should have given up: once it does not move any more, the process must go.
    private func watchRevoked(_ held: HeldAttempt, _ worker: LiveWorker) {
        guard let before = worker.revoked[held.key], before.counter == held.progress else {
            worker.revoked[held.key] = RevokedAttempt(
                counter: held.progress, at: time,
                partial: worker.revoked[held.key]?.partial)
            return
        }
        let patience = limits.cancelGraceMilliseconds.nanosecondsFromMilliseconds
        if time - before.at > patience {
            kill(worker, "it does not give up a cancelled task, and nothing moves")
        }
    }

    func takeProgress(_ report: ProgressReport) {
        guard let task = leasedTask(report.key) else { return }
        noteProgress(task, report.counter)
        task.job.progress = report
        var event = BrokerEvent(type: "progress", at: wall)
        event.job = task.job.id
        event.jobSequence = task.job.sequence
        event.task = task.index
        event.attempt = task.attempt
        event.worker = task.workerName
        event.progress = report
        act(.publish(event))
    }

    // MARK: DEFER, DRAIN

    func workerDefer(
        _ peer: PeerID, _ session: Token, _ keys: [AttemptKey], _ reason: String, _ wait: Int
    ) {
        guard let worker = known(peer, session) else { return }
        let wait = min(max(0, wait), limits.maximumDeferMilliseconds)
        for key in keys {
            guard let task = leasedTask(key), task.worker === worker else { continue }
            recordAttempt(task, outcome: "deferred")
            detach(task)
            backOff(task, milliseconds: wait, reason: "\(worker.instance): \(reason)")
        }
    }

    func drain(_ instance: String?, _ request: RequestID) {
        if let instance {
            guard let worker = workersByInstance[instance] else {
                let error = BrokerError(
                    .badState, .user, "there is no worker \(instance)",
                    hint: "loraq workers lists them")
                return reply(request, .failed(error))
            }
            drain(worker)
            return reply(request, .draining([instance]))
        }
        if !isBrokerDraining {
            isBrokerDraining = true
            publish("broker.draining") { _ in }
        }
        for worker in workerList { drain(worker) }
        reply(request, .draining(workerList.map(\.instance)))
    }

    private func drain(_ worker: LiveWorker) {
        guard !worker.isDraining else { return }
        worker.isDraining = true
        act(.drainWorker(worker.peer, instance: worker.instance))
    }

    // MARK: Death

    func workerExited(_ exit: ProcessExit) {
        publish("worker.exited") {
            $0.worker = exit.instance
            $0.message = describe(exit)
        }
        let error = BrokerError(
            .workerDied, .retryable, "worker \(exit.instance) \(describe(exit))",
            details: evidence(exit))
        if let worker = workersByInstance[exit.instance], worker.hello.pid == exit.pid {
            forget(worker)
            let isQuiet = exit.isExpected || worker.killReason != nil
            release(worker, isQuiet ? .preempted : .crash, error, exit: exit)
        } else if workersByInstance[exit.instance] == nil {
            releaseOrphans(of: exit.instance, exit.isExpected ? .preempted : .crash, error, exit)
        }
        needsDispatch = true
    }

    /// What is told of a death beside its words; log lines are kept with the attempt.
    private func evidence(_ exit: ProcessExit) -> [String: DetailValue] {
        var details: [String: DetailValue] = [:]
        if let peak = exit.peakBytes { details["peak_bytes"] = .integer(peak) }
        if case .signaled(let signal) = exit.status { details["signal"] = .integer(Int64(signal)) }
        if exit.isOutOfMemory { details["cause"] = .text("out of memory") }
        if let last = exit.lastLog.split(separator: "\n").last {
            details["last_log"] = .text(String(last.prefix(400)))
        }
        return details
    }

    private func describe(_ exit: ProcessExit) -> String {
        switch exit.status {
        case .exited(let code): "exited with status \(code)"
        case .signaled(let signal) where exit.isOutOfMemory:
            "died of signal \(signal): the kernel ran out of memory"
        case .signaled(let signal): "died of signal \(signal)"
        case .unknown: "ended; how cannot be known, since another broker had started it"
        }
    }

    private func leaseLost(_ instance: String) -> BrokerError {
        BrokerError(
            .leaseLost, .retryable,
            "nothing was heard of worker \(instance) for \(limits.leaseMilliseconds) ms")
    }

    /// Gives back all that a worker held, which is gone.
    private func release(
        _ worker: LiveWorker, _ failure: FailureClass, _ error: BrokerError, exit: ProcessExit?
    ) {
        blame(worker.heldInOrder, failure, error, exit)
    }

    private func releaseOrphans(
        of instance: String, _ failure: FailureClass, _ error: BrokerError, _ exit: ProcessExit?
    ) {
        blame(orphanTasks(of: instance), failure, error, exit)
    }

    private func orphanTasks(of instance: String) -> [LiveTask] {
        orphans.values.filter { $0.workerName == instance }
            .sorted { ($0.job.sequence, $0.index) < ($1.job.sequence, $1.index) }
    }

    /// Sorts out who is to blame for a worker's end: nobody, if it was wanted or if several tasks were in hand; then
    /// those become suspects, and run alone. Only what died alone pays.
    private func blame(
        _ tasks: [LiveTask], _ failure: FailureClass, _ error: BrokerError, _ exit: ProcessExit?
    ) {
        let companions = tasks.count - 1
        for task in tasks where task.state == .leased {
            if task.stopDeadline != nil {
                giveBack(task, .timeout, isCounted: true, error: hung(task), exit: exit)
            } else if failure != .crash && failure != .lost {
                giveBack(task, failure, isCounted: false, error: error, exit: exit)
            } else if companions > 0, plantedFault != .blamesCompanions {
                task.failures.shared += 1
                let patience =
                    task.job.isLines ? limits.sharedDeathsOfLines : limits.sharedDeathsOfSingles
                // Silence of a whole worker says little of its tasks: only when it comes again.
                let isSuspicious = failure == .crash || task.failures.shared > 1
                if task.failures.shared >= patience, isSuspicious { task.isSuspect = true }
                giveBack(
                    task, failure, isCounted: false, error: error, exit: exit,
                    companions: companions)
            } else {
                giveBack(task, failure, isCounted: true, error: error, exit: exit)
            }
        }
    }

    func hung(_ task: LiveTask) -> BrokerError {
        let kind = task.workerName.flatMap { workersByInstance[$0] }
            .flatMap { self.kind(task.job.submission.kind, of: $0.hello.plugin) }
        let limit = kind?.stallMilliseconds.map { " for \($0) ms" } ?? ""
        return BrokerError(
            .hung, .retryable, "attempt \(task.attempt) made no headway\(limit)",
            details: ["counter": .integer(task.counter)])
    }

    func kill(_ worker: LiveWorker, _ reason: String) {
        guard worker.killReason == nil else { return }
        worker.killReason = reason
        worker.lastHeard = time
        act(.killWorker(instance: worker.instance, reason: reason))
    }

    // MARK: The watch, at each tick

    func sweep() {
        lastSweep = time
        let lease = limits.leaseMilliseconds.nanosecondsFromMilliseconds
        for worker in workerList {
            let isSilent = time - worker.lastHeard > lease && plantedFault != .neverEndsLease
            if isSilent || isKilledForLong(worker) {
                lose(worker)
                continue
            }
            guard worker.killReason == nil else { continue }
            for task in worker.heldInOrder where task.state == .leased {
                watch(task, on: worker, lease: lease)
            }
        }
        if !orphans.isEmpty, time >= graceEnds {
            for name in Set(orphans.values.compactMap(\.workerName)).sorted() {
                let error = BrokerError(
                    .leaseLost, .retryable,
                    "worker \(name) did not come back within \(limits.graceMilliseconds) ms of the broker's start"
                )
                releaseOrphans(of: name, .lost, error, nil)
            }
        }
        watchNumerics()
        storeWork()
    }

    private func isKilledForLong(_ worker: LiveWorker) -> Bool {
        worker.killReason != nil
            && time - worker.lastHeard > limits.cancelGraceMilliseconds.nanosecondsFromMilliseconds
    }

    private func lose(_ worker: LiveWorker) {
        forget(worker)
        publish("worker.lost") { $0.worker = worker.instance }
        if worker.killReason == nil {
            act(.killWorker(instance: worker.instance, reason: "nothing was heard of it"))
        }
        release(
            worker, worker.killReason == nil ? .lost : .preempted, leaseLost(worker.instance),
            exit: nil)
        needsDispatch = true
    }

    private func watch(_ task: LiveTask, on worker: LiveWorker, lease: Int64) {
        if time - task.renewedAt > lease, plantedFault != .neverEndsLease {
            // The worker lives, and does not say that it has this.
            return giveBack(task, .lost, isCounted: true, error: leaseLost(worker.instance))
        }
        if let deadline = task.stopDeadline {
            if time >= deadline { kill(worker, "task \(task.id) hangs and does not stop") }
            return
        }
        let kindName = task.job.submission.kind
        guard let stall = kind(kindName, of: worker.hello.plugin)?.stallMilliseconds,
            let resourceClass = worker.classes[kindName]
        else { return }
        // What has not begun waits its turn inside the worker: then the whole class must stand still.
        let movedAt =
            task.counter > 0
            ? task.counterAt
            : max(task.counterAt, worker.classMovedAt[resourceClass] ?? task.counterAt)
        guard time - movedAt > stall.nanosecondsFromMilliseconds, let lease = task.lease else {
            return
        }
        task.stopDeadline = time + limits.cancelGraceMilliseconds.nanosecondsFromMilliseconds
        let key = AttemptKey(task: task.id, attempt: task.attempt, lease: lease)
        act(.cancelAttempts(worker.peer, [key], reason: "hung"))
    }

    /// Whether some configured worker computes under these numerics, or may: nobody knows before its `HELLO`.
    func mayHaveNumerics(_ key: LaneKey) -> Bool {
        guard let numerics = key.numerics else { return true }
        if workerList.contains(where: {
            $0.hello.numerics == numerics && $0.classes[key.kind] != nil
                && serves($0.hello.plugin, key.worker)
        }) {
            return true
        }
        return plugins.values.contains { plugin in
            guard plugin.instances > 0, plugin.kinds.contains(where: { $0.name == key.kind }),
                serves(plugin.name, key.worker)
            else { return false }
            let known = knownNumerics[plugin.name] ?? [:]
            return known.isEmpty || known.values.contains(numerics)
        }
    }

    private func watchNumerics() {
        for lane in lanes.values where lane.key.numerics != nil {
            guard !lane.levels.isEmpty, !mayHaveNumerics(lane.key) else {
                lane.unavailableSince = nil
                continue
            }
            let since = lane.unavailableSince ?? time
            lane.unavailableSince = since
            guard time - since >= limits.numericsUnavailableMilliseconds.nanosecondsFromMilliseconds
            else { continue }
            let jobs = lane.levels.flatMap { $0.queues.values.flatMap(\.jobs) }
                .sorted { $0.sequence < $1.sequence }
            for job in jobs where job.status.counts.leased == 0 {
                endJob(job, .failed, numericsUnavailable(job))
            }
        }
    }

    func numericsUnavailable(_ job: LiveJob) -> BrokerError {
        BrokerError(
            .numericsUnavailable, .user,
            "the job began under numerics \"\(job.status.numerics ?? "")\", which no configured worker has any more",
            hint: "loraq retry --numerics any \(job.id) runs what is left under the present ones",
            details: [
                "numerics": .text(job.status.numerics ?? ""),
                "present": .list(Set(knownNumerics.values.flatMap(\.values)).sorted()),
            ])
    }

    /// Once a minute the time at work of jobs with a cap goes to the store, so that a restart does not forget it.
    private func storeWork() {
        for worker in workerList {
            for task in worker.held.values
            where task.job.submission.maximumSeconds != nil
                && time - task.job.workStoredAt > 60_000_000_000
            {
                markDirty(task.job)
            }
        }
    }
}
