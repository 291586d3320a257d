extension Core {
    /// A lane with the worker that its next task goes to.
    private struct Candidate {
        let lane: Lane
        let worker: LiveWorker
        let resourceClass: String
        let queue: ReadyQueue
        let job: LiveJob
        let isOldest: Bool

        func precedes(_ other: Candidate) -> Bool {
            if isOldest != other.isOldest { return isOldest }
            if !isOldest {
                if queue.priority != other.queue.priority {
                    return queue.priority > other.queue.priority
                }
                return queue.precedes(job, other.queue, other.job)
            }
            return job.sequence < other.job.sequence
        }
    }

    /// Gives out tasks as long as there is one that a worker can take.
    func dispatchAll() {
        needsDispatch = false
        guard !isBrokerDraining else { return }
        serveSuspects()
        while let candidate = nextCandidate() {
            let task = takeTask(candidate)
            assign(task, to: candidate.worker, candidate.resourceClass)
        }
        preemptForPriority()
    }

    private func nextCandidate() -> Candidate? {
        var best: Candidate?
        for lane in lanes.values where !lane.levels.isEmpty {
            guard let worker = pickWorker(for: lane),
                let resourceClass = worker.classes[lane.key.kind]
            else { continue }
            let turn = (classDispatches[resourceClass] ?? 0) % limits.oldestFirstEvery
            let isOldest = turn == limits.oldestFirstEvery - 1
            let reach = limits.loadingJobsPerQueue
            let head =
                isOldest
                ? lane.oldest(reach: reach, fits: fitsMemory)
                : lane.best(reach: reach, fits: fitsMemory)
            guard let head else { continue }
            let candidate = Candidate(
                lane: lane, worker: worker, resourceClass: resourceClass, queue: head.queue,
                job: head.job, isOldest: isOldest)
            if let other = best, !candidate.precedes(other) { continue }
            best = candidate
        }
        return best
    }

    /// Bytes of the budget that are spoken for: what the workers that are there may use by themselves, and what the tasks
    /// with a stated need that they hold were admitted on.
    var memoryTaken: Int {
        workerList.reduce(memoryInUse) { $0 + (plugins[$1.hello.plugin]?.memoryBytes ?? 0) }
    }

    func fitsMemory(_ job: LiveJob) -> Bool {
        guard let budget = limits.memoryBudget, job.submission.memoryBytes > 0 else { return true }
        return memoryTaken + job.submission.memoryBytes <= budget
    }

    /// Whether work goes to a plugin: to the one that it names, else to all but those that want to be named.
    func serves(_ plugin: String, _ wanted: String?) -> Bool {
        wanted.map { $0 == plugin } ?? (plugins[plugin]?.isOnRequest != true)
    }

    /// Knows the kind, is of the plugin that is wanted, and computes under the lane's numerics.
    func suits(_ worker: LiveWorker, _ lane: Lane) -> Bool {
        worker.classes[lane.key.kind] != nil && serves(worker.hello.plugin, lane.key.worker)
            && (lane.key.numerics == nil || lane.key.numerics == worker.hello.numerics)
    }

    private func canServe(_ worker: LiveWorker, _ lane: Lane) -> Bool {
        guard suits(worker, lane), let resourceClass = worker.classes[lane.key.kind] else {
            return false
        }
        if plantedFault == .ignoresCredit { return worker.held.count < 20 }
        return worker.available(resourceClass) > 0 && worker.held.count < limits.heldPerWorker
    }

    /// Lines fill the fullest worker first, one without a long task if there is one: each further batch would read the
    /// whole model once more. Jobs of one task go to the emptiest.
    private func pickWorker(for lane: Lane) -> LiveWorker? {
        var best: LiveWorker?
        var bestRank = (Int.max, Int.max)
        for worker in workerList where worker.isOpen && canServe(worker, lane) {
            let rank =
                lane.key.isLines
                ? (worker.singlesHeld > 0 ? 1 : 0, -worker.held.count) : (0, worker.held.count)
            if rank < bestRank {
                best = worker
                bestRank = rank
            }
        }
        return best
    }

    // MARK: Affinity

    /// Takes the task out of its job: the head of the queue, or one within the reordering window whose artifacts the
    /// worker has in memory, as long as the head was not passed over too often.
    private func takeTask(_ candidate: Candidate) -> LiveTask {
        let head = firstTask(of: candidate.job)
        var chosen = (job: candidate.job, place: 0)
        if !candidate.isOldest, let head, head.skips < limits.maximumSkips,
            !isWarm(head, candidate.worker), !candidate.worker.loaded.isEmpty,
            let other = warmTask(for: candidate)
        {
            head.skips += 1
            chosen = other
        }
        let job = chosen.job
        let task =
            chosen.place < job.returned.count
            ? job.returned.remove(at: chosen.place)
            : job.fresh.remove(at: chosen.place - job.returned.count)
        if candidate.lane.key.isLines {
            candidate.queue.tenant.servesBulkNext = !candidate.queue.isBulk
        }
        classDispatches[candidate.resourceClass, default: 0] += 1
        return task
    }

    private func firstTask(of job: LiveJob) -> LiveTask? { job.returned.first ?? job.fresh.first }

    private func isWarm(_ task: LiveTask, _ worker: LiveWorker) -> Bool {
        task.references.digests.allSatisfy { worker.loaded.contains($0) }
    }

    private func warmTask(for candidate: Candidate) -> (job: LiveJob, place: Int)? {
        var reach = limits.reorderWindow
        var seen: ReferenceSet?
        for job in candidate.queue.jobs.prefix(limits.reorderWindow) {
            for place in 0..<min(reach, job.returned.count + job.fresh.count) {
                let task =
                    place < job.returned.count
                    ? job.returned[place] : job.fresh[place - job.returned.count]
                // Neighbors mostly name the same: ask once.
                if task.references === seen { continue }
                seen = task.references
                if isWarm(task, candidate.worker), fitsMemory(job) { return (job, place) }
            }
            reach -= job.returned.count + job.fresh.count
            if reach <= 0 { break }
        }
        return nil
    }

    // MARK: Giving out

    /// Leases the task to the worker, durably: the `TASK` leaves after this step's commit.
    func assign(_ task: LiveTask, to worker: LiveWorker, _ resourceClass: String) {
        let job = task.job
        let lease = newToken()
        if plantedFault != .reusesAttemptNumber || task.attempt == 0 { task.attempt += 1 }
        task.state = .leased
        task.lease = lease
        task.worker = worker
        task.workerName = worker.instance
        task.leasedAtWall = wall
        task.renewedAt = time
        task.counter = 0
        task.counterAt = time
        task.stopDeadline = nil
        task.isPreemptRequested = false
        task.backoffReason = nil
        task.isStored = true
        hold(task, worker, resourceClass)
        worker.sent[resourceClass, default: 0] += 1
        worker.loaded.formUnion(task.references.digests)
        memoryInUse += job.submission.memoryBytes
        if !job.isLines { job.status.attempts = task.attempt }
        tenants[job.submission.tenant]?.counter += task.cost
        startClock(job)
        job.status.counts.leased += 1
        if job.status.startedAt == nil { job.status.startedAt = wall }
        if job.status.numerics == nil { job.status.numerics = worker.hello.numerics }
        markDirty(job)
        store(.putTask(task.record))
        if !job.isLines {
            publish("task.started") {
                $0.job = job.id
                $0.jobSequence = job.sequence
                $0.task = task.index
                $0.attempt = task.attempt
                $0.worker = worker.instance
            }
        }
        let key = AttemptKey(task: task.id, attempt: task.attempt, lease: lease)
        outgoing[worker.instance, default: []].append(makeAssignment(task, key, resourceClass))
        updateState(job)
        requeue(job)
    }

    /// Books a leased task with its worker.
    func hold(_ task: LiveTask, _ worker: LiveWorker, _ resourceClass: String) {
        if (worker.heldCounts[resourceClass] ?? 0) == 0 {
            worker.classMovedAt[resourceClass] = time
        }
        worker.heldCounts[resourceClass, default: 0] += 1
        worker.held[task.id] = task
        if !task.job.isLines { worker.singlesHeld += 1 }
    }

    func makeAssignment(_ task: LiveTask, _ key: AttemptKey, _ resourceClass: String) -> Assignment
    {
        let bindings = task.references.bindings.compactMap { entry in
            artifact(entry.key).map { ArtifactBinding(reference: entry.reference, artifact: $0) }
        }
        return Assignment(
            key: key, kind: task.job.submission.kind, resourceClass: resourceClass,
            generation: task.job.status.generation, submission: task.job.submission,
            artifacts: bindings,
            outcomes: task.job.after.compactMap { entry in
                entry.outcome.map { ToldOutcome(job: entry.job, outcome: $0) }
            }, customID: task.customID, location: task.location)
    }

    func flushOutgoing() {
        guard !outgoing.isEmpty else { return }
        for (instance, assignments) in outgoing {
            // A job that ended later in the same step took its tasks back.
            let valid = assignments.filter { accepts($0.key) }
            if let worker = workersByInstance[instance], !valid.isEmpty {
                act(.dispatch(worker.peer, instance: instance, valid))
            }
        }
        outgoing.removeAll(keepingCapacity: true)
    }

    // MARK: Suspects run alone

    private func serveSuspects() {
        var isWaiting = false
        if waitingSuspects > 0 {
            for lane in lanes.values where !lane.suspects.isEmpty {
                if serveSuspects(of: lane) { isWaiting = true }
            }
        }
        if !isWaiting { for worker in workerList { worker.isReserved = false } }
    }

    /// Gives suspects to empty workers, one each; where there is none, keeps one free of other work until it is empty.
    /// True if some must wait.
    private func serveSuspects(of lane: Lane) -> Bool {
        lane.suspects.removeAll { $0.state != .ready || !$0.isSuspect }
        while let place = lane.suspects.firstIndex(where: { $0.job.isRunnable }) {
            let able = workerList.filter {
                !$0.isDraining && !$0.isAlone && $0.killReason == nil && canServe($0, lane)
            }
            if let empty = able.first(where: { $0.held.isEmpty }),
                let resourceClass = empty.classes[lane.key.kind]
            {
                let task = lane.suspects.remove(at: place)
                waitingSuspects -= 1
                assign(task, to: empty, resourceClass)
                empty.isAlone = true
                empty.isReserved = false
                continue
            }
            let isComing = workerList.contains {
                ($0.isAlone || $0.isReserved) && !$0.isDraining && suits($0, lane)
            }
            if !isComing, let chosen = able.min(by: { $0.held.count < $1.held.count }) {
                chosen.isReserved = true
                for task in chosen.heldInOrder where !task.job.isLines {
                    askToPreempt(task, "its worker is needed for a suspect that must run alone")
                }
            }
            return true
        }
        return false
    }

    // MARK: Preemption

    func askToPreempt(_ task: LiveTask, _ reason: String) {
        guard task.state == .leased, !task.isPreemptRequested, let worker = task.worker,
            let lease = task.lease
        else { return }
        task.isPreemptRequested = true
        let key = AttemptKey(task: task.id, attempt: task.attempt, lease: lease)
        act(.preemptAttempts(worker.peer, [key], reason: reason))
    }

    /// A job of one task that outranks a running one by the stated gap takes its place, when no worker has room.
    private func preemptForPriority() {
        guard let gap = limits.preemptionGap else { return }
        for lane in lanes.values where !lane.key.isLines {
            guard let head = lane.best(reach: 1, fits: fitsMemory),
                pickWorker(for: lane) == nil
            else { continue }
            let running = workerList.lazy
                .filter { self.suits($0, lane) && $0.isOpen }
                .flatMap { worker in
                    let wanted = worker.classes[lane.key.kind]
                    return worker.held.values.filter {
                        !$0.job.isLines && worker.classes[$0.job.submission.kind] == wanted
                    }
                }
            if running.contains(where: \.isPreemptRequested) { continue }
            let weakest = running.min {
                ($0.job.submission.priority, -$0.job.sequence)
                    < ($1.job.submission.priority, -$1.job.sequence)
            }
            if let weakest, weakest.job.submission.priority + gap <= head.queue.priority {
                askToPreempt(weakest, "job \(head.job.id) of priority \(head.queue.priority) waits")
            }
        }
    }
}
