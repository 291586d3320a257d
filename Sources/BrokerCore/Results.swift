extension Core {
    func takeResults(_ results: [AttemptResult]) {
        var acknowledgements: [(peer: PeerID, statuses: [ResultStatus])] = []
        for result in results {
            let task = leasedTask(result.key)
            // The session may be of an earlier broker: the lease alone decides, the present worker is told.
            let peer = workersBySession[result.session]?.peer ?? task?.worker?.peer
            if let task { take(result, task) }
            if plantedFault == .acceptsTwice, let task, task.state == .done {
                finishTask(task, .done, location: result.location)
            }
            let isKept = task != nil || takePartial(result)
            guard let peer else { continue }
            let status = ResultStatus(
                task: result.key.task, attempt: result.key.attempt, isAccepted: isKept)
            if let last = acknowledgements.indices.last, acknowledgements[last].peer == peer {
                acknowledgements[last].statuses.append(status)
            } else {
                acknowledgements.append((peer, [status]))
            }
        }
        for entry in acknowledgements { act(.acknowledge(entry.peer, entry.statuses)) }
    }

    // MARK: What a cancelled task had produced

    private func partialOwner(_ key: AttemptKey) -> (worker: LiveWorker, partial: PartialResult)? {
        for worker in workerList {
            guard let partial = worker.revoked[key]?.partial else { continue }
            let job = partial.job
            guard jobs[job.id] === job, job.status.state == .cancelled,
                job.status.generation == partial.generation
            else { return nil }
            return (worker, partial)
        }
        return nil
    }

    /// Whether what this attempt of a cancelled task had produced would be kept: only then is its body worth appending.
    public func acceptsPartial(_ key: AttemptKey) -> Bool { partialOwner(key) != nil }

    /// Whether a worker has still to give up a task of this cancelled job, and may send what it has of it.
    public func awaitsPartials(of id: JobID) -> Bool {
        guard jobs[id]?.status.state == .cancelled else { return false }
        return workerList.contains { worker in
            worker.revoked.contains { $0.key.task.job == id && $0.value.partial != nil }
        }
    }

    /// Keeps what a task had produced before it was cancelled. Its state stays; it is told to no sink.
    private func takePartial(_ result: AttemptResult) -> Bool {
        guard case .cancelled = result.outcome, let (worker, partial) = partialOwner(result.key)
        else { return false }
        worker.revoked[result.key]?.partial = nil
        guard let location = result.location else { return false }
        let job = partial.job
        job.status.resultCount += 1
        for (name, value) in result.usage { job.status.usage[name, default: 0] += value }
        var record = ResultRecord(
            task: result.key.task, jobSequence: job.sequence, generation: partial.generation,
            order: job.status.resultCount, state: .cancelled, attempt: result.key.attempt,
            finishedAt: wall)
        record.worker = worker.instance
        record.location = location
        record.error = BrokerError(
            ErrorCode(rawValue: "CANCELLED"), .user, "cancelled; this is what there was by then")
        record.customID = partial.customID
        record.lineNumber = partial.lineNumber
        store(.insertResult(record))
        markDirty(job)
        return true
    }

    private func take(_ result: AttemptResult, _ task: LiveTask) {
        let job = task.job
        switch result.outcome {
        case .ok:
            if let actual = result.cost {
                tenants[job.submission.tenant]?.counter += max(0, actual) - task.cost
            }
            for (name, value) in result.usage { job.status.usage[name, default: 0] += value }
            if !job.isLines {
                job.status.metrics = result.metrics
                recordAttempt(task, outcome: "ok")
            }
            for artifact in result.artifacts { register(artifact, by: job) }
            detach(task)
            finishTask(task, .done, location: result.location)
        case .error(let error) where error.errorClass == .retryable:
            if task.failures.retryable + 1 >= limits.retryable.budget {
                recordAttempt(task, outcome: "error", error: error)
                detach(task)
                finishTask(task, .failed, location: result.location, error: error)
            } else {
                giveBack(task, .retryable, isCounted: true, error: error)
            }
        case .error(let error):
            if !job.isLines { recordAttempt(task, outcome: "error", error: error) }
            for (name, value) in result.usage { job.status.usage[name, default: 0] += value }
            detach(task)
            finishTask(task, .failed, location: result.location, error: error)
        case .preempted, .cancelled:
            if task.stopDeadline != nil {
                giveBack(task, .timeout, isCounted: true, error: hung(task))
            } else {
                let error = BrokerError(.badState, .retryable, "given back by its worker")
                giveBack(task, .preempted, isCounted: true, error: error)
            }
        }
    }
}
