extension Core {
    private func laneKey(of job: LiveJob) -> LaneKey {
        LaneKey(
            kind: job.submission.kind, isLines: job.isLines,
            numerics: job.status.allowsAnyNumerics ? nil : job.status.numerics,
            worker: job.submission.worker)
    }

    /// Nothing but a free worker is missing.
    func mayRun(_ job: LiveJob) -> Bool {
        switch plantedFault {
        case .runsHeldJob?: !job.status.state.isFinal && job.openDependencies == 0 && job.isSplit
        case .ignoresDependencies?: !job.status.state.isFinal && !job.status.isHeld && job.isSplit
        default: job.isRunnable
        }
    }

    func lane(of job: LiveJob) -> Lane {
        let key = laneKey(of: job)
        if let lane = lanes[key] { return lane }
        let lane = Lane(key: key)
        lanes[key] = lane
        return lane
    }

    /// Puts the job where it belongs: into its lane's queue while it has work to give out or to load, else nowhere.
    func requeue(_ job: LiveJob) {
        let hasWork = job.hasReady || (job.isLines && !job.isExhausted)
        guard mayRun(job), hasWork else { return dequeue(job) }
        if let queue = job.queue {
            if queue.lane.key == laneKey(of: job) {
                touch(queue)
                return
            }
            dequeue(job)
        }
        let lane = lane(of: job)
        let key = QueueKey(
            tenant: job.submission.tenant,
            isBulk: job.isLines && (job.status.counts.total ?? 0) > limits.bulkLines)
        let queue = queue(in: lane, priority: job.submission.priority, key)
        queue.jobs.insert(job, at: queue.position(job.sequence))
        job.queue = queue
        if queue.tenant.queuedJobs == 0 {
            // Idleness saves nothing up.
            let least = tenants.values.lazy.filter { $0.queuedJobs > 0 }.map(\.counter).min()
            queue.tenant.counter = max(queue.tenant.counter, least ?? 0)
        }
        queue.tenant.queuedJobs += 1
        touch(queue)
    }

    private func touch(_ queue: ReadyQueue) {
        needsDispatch = true
        guard queue.lane.key.isLines, !queue.isDirty else { return }
        queue.isDirty = true
        dirtyQueues.append(queue)
    }

    func dequeue(_ job: LiveJob) {
        guard let queue = job.queue else { return }
        let position = queue.position(job.sequence)
        if position < queue.jobs.count, queue.jobs[position] === job {
            queue.jobs.remove(at: position)
        }
        job.queue = nil
        queue.tenant.queuedJobs -= 1
        if queue.jobs.isEmpty {
            let lane = queue.lane
            if let place = lane.levels.firstIndex(where: { $0.priority == queue.priority }) {
                let key = QueueKey(tenant: queue.tenant.name, isBulk: queue.isBulk)
                lane.levels[place].queues[key] = nil
                if lane.levels[place].queues.isEmpty { lane.levels.remove(at: place) }
            }
        } else {
            touch(queue)
        }
    }

    private func queue(in lane: Lane, priority: Int, _ key: QueueKey) -> ReadyQueue {
        let place = lane.levels.firstIndex { $0.priority <= priority } ?? lane.levels.count
        if place == lane.levels.count || lane.levels[place].priority != priority {
            lane.levels.insert(Level(priority: priority), at: place)
        }
        let level = lane.levels[place]
        if let queue = level.queues[key] { return queue }
        let tenant = tenants[key.tenant] ?? Tenant(name: key.tenant)
        tenants[key.tenant] = tenant
        let queue = ReadyQueue(lane: lane, priority: priority, tenant: tenant, isBulk: key.isBulk)
        level.queues[key] = queue
        return queue
    }
}

extension ReadyQueue {
    /// The job whose task would be given out next: the oldest, of batches the oldest with a line in memory.
    func candidate(within reach: Int) -> LiveJob? {
        lane.key.isLines ? jobs.prefix(reach).first { $0.hasReady } : jobs.first
    }
}

extension Lane {
    /// The queue to serve next: highest priority, then as `ReadyQueue.precedes` has it.
    func best(reach: Int, fits: (LiveJob) -> Bool) -> (queue: ReadyQueue, job: LiveJob)? {
        for level in levels {
            var best: (queue: ReadyQueue, job: LiveJob)?
            for queue in level.queues.values {
                guard let job = queue.candidate(within: reach), fits(job) else { continue }
                if let other = best, other.queue.precedes(other.job, queue, job) { continue }
                best = (queue, job)
            }
            if let best { return best }
        }
        return nil
    }

    /// The queue with the oldest job, whatever its priority.
    func oldest(reach: Int, fits: (LiveJob) -> Bool) -> (queue: ReadyQueue, job: LiveJob)? {
        var best: (queue: ReadyQueue, job: LiveJob)?
        for queue in levels.lazy.flatMap(\.queues.values) {
            guard let job = queue.candidate(within: reach), fits(job) else { continue }
            if let other = best, other.job.sequence < job.sequence { continue }
            best = (queue, job)
        }
        return best
    }
}
