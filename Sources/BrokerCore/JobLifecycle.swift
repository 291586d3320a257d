extension Core {
    // MARK: State

    /// Brings a job to where its counts, its dependencies and its hold say it is: ended, in a queue, or out of it.
    func settle(_ job: LiveJob) {
        guard !job.status.state.isFinal else { return }
        let counts = job.status.counts
        if let total = counts.total, counts.open == 0, total > 0 || job.isActivated {
            return completeJob(job)
        }
        if mayRun(job), !job.isActivated {
            activate(job)
            guard !job.status.state.isFinal else { return }
        }
        if job.isLines, job.isActivated, job.isExhausted, job.pendingRequest == nil,
            job.tasks.isEmpty, job.status.counts.open > 0
        {
            // Every line was loaded and has ended, yet the counts say otherwise: never wait for nothing.
            return endJob(
                job, .failed,
                BrokerError(
                    .internal, .internal,
                    "\(job.status.counts.open) lines of the batch are in no state; please report this"
                ))
        }
        updateState(job)
        requeue(job)
    }

    private func currentState(_ job: LiveJob) -> JobState {
        if job.status.isHeld { return .held }
        if job.status.counts.total == nil { return .splitting }
        if job.openDependencies > 0 { return .waiting }
        if plantedFault == .illegalTransition, job.status.counts.done > 2 { return .waiting }
        if job.status.counts.leased > 0 { return .running }
        return job.isLines && job.status.counts.ended > 0 && job.status.startedAt != nil
            ? .running : .queued
    }

    func updateState(_ job: LiveJob) {
        let state = currentState(job)
        guard state != job.status.state else { return }
        changeState(job, state)
        publishState(job)
    }

    private func changeState(_ job: LiveJob, _ state: JobState) {
        openCounts[job.status.state, default: 1] -= 1
        job.status.state = state
        if state.isFinal {
            endedCounts[state, default: 0] += 1
        } else {
            openCounts[state, default: 0] += 1
        }
        markDirty(job)
    }

    /// Tells the state that a new job, or a new generation, begins in; then lets it go on.
    func announce(_ job: LiveJob) {
        let state = currentState(job)
        if state != job.status.state { changeState(job, state) }
        publishState(job)
        settle(job)
    }

    func publishState(_ job: LiveJob) {
        if plantedFault == .forgetsEndEvent, job.status.state.isFinal { return }
        publish("job.\(job.status.state.rawValue)") {
            $0.job = job.id
            $0.jobSequence = job.sequence
            $0.code = job.status.error?.code.rawValue
            $0.message = job.status.error?.message
        }
    }

    func setHeld(_ job: LiveJob, _ isHeld: Bool) {
        guard job.status.isHeld != isHeld else { return }
        job.status.isHeld = isHeld
        markDirty(job)
        if isHeld, !job.isLines {
            for task in job.tasks.values where task.state == .leased { askToPreempt(task, "held") }
        }
        settle(job)
    }

    // MARK: Coming to work

    /// Binds what the job names and makes the task of a job of one task. Once per generation (and broker run).
    private func activate(_ job: LiveJob) {
        job.isActivated = true
        for (reference, key) in job.bindings.sorted(by: { $0.key < $1.key }) where key == nil {
            _ = bind(job, reference)
        }
        guard !job.isLines, job.tasks.isEmpty else { return }
        let optional = job.submission.optionalReferences.filter {
            job.bindings[$0]?.map { _ in true } ?? false
        }
        switch referenceSet(job, job.submission.references + optional) {
        case .failure(let error):
            job.status.counts.failed = 1
            endJob(job, .failed, error)
        case .success(let references):
            let task = LiveTask(
                job: job, index: 0, references: references, cost: job.submission.cost,
                customID: nil, location: nil, attempt: job.status.attempts)
            job.tasks[0] = task
            job.fresh.append(task)
        }
    }

    // MARK: Ends

    private func completeJob(_ job: LiveJob) {
        let counts = job.status.counts
        if counts.done > 0 {
            endJob(job, .succeeded, nil)
        } else if job.isLines {
            let message =
                counts.total == 0
                ? "the batch file holds no lines"
                : "none of the batch's \(counts.total ?? 0) lines succeeded"
            endJob(
                job, .failed,
                BrokerError(.noLineSucceeded, .user, message, hint: "loraq errors \(job.id)"))
        } else {
            endJob(job, .failed, job.status.error)
        }
    }

    /// Ends a job in whatever state its tasks are: those that have not ended are cancelled, workers told so.
    func endJob(_ job: LiveJob, _ state: JobState, _ error: BrokerError?) {
        guard !job.status.state.isFinal else { return }
        if plantedFault == .dispatchesCancelled, state == .cancelled {
            return changeState(job, state)
        }
        dequeue(job)
        for index in job.tasks.keys.sorted() {
            if let task = job.tasks[index] {
                abandon(task, reason: state == .cancelled ? "cancelled" : "the job has ended")
            }
        }
        job.tasks = [:]
        job.fresh = []
        job.returned = []
        job.pendingRequest = nil
        job.endedWhileLoading = []
        job.referenceSets = [:]
        job.status.counts.leased = 0
        job.status.counts.backoff = 0
        job.status.counts.cancelled += job.status.counts.open
        job.status.error = error
        job.status.finishedAt = wall
        job.status.isHeld = false
        changeState(job, state)
        unfinishedJobs -= 1
        specBytes -= job.submission.spec.count
        promisedArtifacts -= job.submission.produces.count
        releaseUses(job)
        if let tenant = tenants[job.submission.tenant] {
            tenant.unfinishedJobs -= 1
            if tenant.unfinishedJobs == 0 { tenants[tenant.name] = nil }
        }
        publishState(job)
        act(.jobEnded(job.id, state))
        endedOrder.append(job.id)
        forgetEndedJobs()
        endedNow.append(job)
        propagateEnds()
    }

    /// Lets go of a task whose job ends.
    private func abandon(_ task: LiveTask, reason: String) {
        if task.state == .leased {
            if let lease = task.lease, let worker = task.worker {
                let key = AttemptKey(task: task.id, attempt: task.attempt, lease: lease)
                act(.cancelAttempts(worker.peer, [key], reason: reason))
                let partial = PartialResult(
                    job: task.job, generation: task.job.status.generation, customID: task.customID,
                    lineNumber: task.location?.number)
                worker.revoked[key] = RevokedAttempt(
                    counter: task.counter, at: time, partial: partial)
            }
            recordAttempt(task, outcome: "cancelled")
            detach(task)
        }
        if task.isSuspect, task.state == .ready { waitingSuspects -= 1 }
        task.state = .cancelled
        if task.isStored { store(.deleteTask(task.id, jobSequence: task.job.sequence)) }
    }

    /// Keeps memory bounded: the oldest ended jobs leave it; the store has them.
    func forgetEndedJobs() {
        guard parked.isEmpty else { return }
        while endedOrder.count > limits.endedJobsKept, let id = endedOrder.popFirst() {
            jobs[id] = nil
            greatestForgotten = max(greatestForgotten ?? id, id)
        }
    }
}
