extension Core {
    // MARK: The clock of a job at work

    func startClock(_ job: LiveJob) {
        guard job.status.counts.leased == 0 else { return }
        job.workingSince = time
        job.workStoredAt = time
        if let cap = capNanoseconds(job) {
            addTimer(time + max(0, cap - job.status.workedNanoseconds), .cap(job))
        }
    }

    private func stopClock(_ job: LiveJob) {
        guard job.status.counts.leased == 0, let since = job.workingSince else { return }
        job.status.workedNanoseconds += time - since
        job.workingSince = nil
    }

    func capNanoseconds(_ job: LiveJob) -> Int64? {
        job.submission.maximumSeconds.map { Int64($0 * 1e9) }
    }

    // MARK: Leaving a worker

    /// Takes a leased task off its worker. Its state is the caller's to set.
    func detach(_ task: LiveTask) {
        let job = task.job
        if let worker = task.worker {
            worker.held[task.id] = nil
            if !job.isLines { worker.singlesHeld -= 1 }
            if let resourceClass = worker.classes[job.submission.kind] {
                worker.heldCounts[resourceClass, default: 1] -= 1
                worker.classMovedAt[resourceClass] = time
            }
            if worker.held.isEmpty { worker.isAlone = false }
        }
        orphans[task.id] = nil
        memoryInUse -= job.submission.memoryBytes
        task.worker = nil
        task.lease = nil
        task.stopDeadline = nil
        job.status.counts.leased -= 1
        stopClock(job)
        markDirty(job)
        needsDispatch = true
    }

    func recordAttempt(
        _ task: LiveTask, outcome: String, error: BrokerError? = nil, exit: ProcessExit? = nil,
        companions: Int = 0
    ) {
        var record = AttemptRecord(
            task: task.id, jobSequence: task.job.sequence, attempt: task.attempt,
            generation: task.job.status.generation, worker: task.workerName ?? "",
            pid: exit?.pid ?? task.worker?.hello.pid, leasedAt: task.leasedAtWall, endedAt: wall,
            outcome: outcome)
        record.error = error
        record.exit = exit
        if let log = exit?.lastLog, log.utf8.count > limits.evidenceBytes {
            record.exit?.lastLog = String(
                decoding: log.utf8.suffix(limits.evidenceBytes), as: UTF8.self)
        }
        record.companions = companions
        store(.insertAttempt(record))
    }

    // MARK: An attempt that gave nothing

    /// Puts a leased task back after a failure, or gives it up when that class of failure has used its budget.
    ///
    /// - Parameter isCounted: False where the task is not to blame: it goes back at once and at no cost.
    func giveBack(
        _ task: LiveTask, _ failure: FailureClass, isCounted: Bool, error: BrokerError,
        exit: ProcessExit? = nil, companions: Int = 0
    ) {
        recordAttempt(
            task, outcome: failure.rawValue, error: error, exit: exit, companions: companions)
        detach(task)
        guard isCounted, let policy = policy(failure) else { return makeReady(task) }
        let count = task.failures.add(failure)
        if count >= policy.budget, plantedFault != .neverSetsAside || failure != .crash {
            let state: TaskState = failure == .crash ? .dead : .failed
            return finishTask(task, state, error: gaveUp(error, failure, count))
        }
        guard policy.baseMilliseconds > 0 else { return makeReady(task) }
        let doubled = policy.baseMilliseconds << min(count - 1, 20)
        let wait = min(doubled, policy.maximumMilliseconds)
        // Jitter: between half and all of it, so that what failed together does not come back together.
        let jittered = wait / 2 + Int(random.next() % UInt64(wait / 2 + 1))
        backOff(task, milliseconds: jittered, reason: error.message)
        publish("task.retry") {
            $0.job = task.job.id
            $0.jobSequence = task.job.sequence
            $0.task = task.index
            $0.attempt = task.attempt
            $0.worker = task.workerName
            $0.code = error.code.rawValue
            $0.message = error.message
        }
    }

    private func policy(_ failure: FailureClass) -> RetryPolicy? {
        switch failure {
        case .user: RetryPolicy(budget: 1, baseMilliseconds: 0, maximumMilliseconds: 0)
        case .retryable: limits.retryable
        case .crash: limits.crash
        case .lost: limits.lost
        case .timeout: limits.timeout
        case .preempted: limits.preempted
        }
    }

    private func gaveUp(_ error: BrokerError, _ failure: FailureClass, _ count: Int) -> BrokerError
    {
        var error = error
        if count > 1 { error.message += " (\(count) times; given up)" }
        error.details["failure"] = .text(failure.rawValue)
        error.details["times"] = .integer(Int64(count))
        if failure == .crash {
            error.hint = error.hint ?? "loraq logs shows the last lines; retry runs it again"
        }
        return error
    }

    func backOff(_ task: LiveTask, milliseconds: Int, reason: String) {
        task.state = .backoff
        task.backoffMilliseconds = milliseconds
        task.backoffUntil = time + milliseconds.nanosecondsFromMilliseconds
        task.backoffReason = reason
        task.job.status.counts.backoff += 1
        markDirty(task.job)
        addTimer(task.backoffUntil, .backoff(task))
        store(.putTask(task.record))
        settle(task.job)
    }

    /// Back in line: before the lines that were never given out, or, a suspect, to wait for a worker of its own.
    func makeReady(_ task: LiveTask) {
        task.state = .ready
        task.backoffReason = nil
        store(.putTask(task.record))
        enlist(task)
        settle(task.job)
    }

    func enlist(_ task: LiveTask) {
        if task.isSuspect {
            lane(of: task.job).suspects.append(task)
            waitingSuspects += 1
            needsDispatch = true
        } else {
            task.job.returned.append(task)
        }
    }

    // MARK: An end

    /// The task's one end in this generation.
    func finishTask(
        _ task: LiveTask, _ state: TaskState, location: ResultLocation? = nil,
        error: BrokerError? = nil
    ) {
        let job = task.job
        task.state = state
        job.tasks[task.index] = nil
        if job.pendingRequest != nil { job.endedWhileLoading.insert(task.index) }
        switch state {
        case .done: job.status.counts.done += 1
        case .dead: job.status.counts.dead += 1
        case .cancelled: job.status.counts.cancelled += 1
        default: job.status.counts.failed += 1
        }
        if !job.isLines, state != .done { job.status.error = error }
        job.status.resultCount += 1
        var result = ResultRecord(
            task: task.id, jobSequence: job.sequence, generation: job.status.generation,
            order: job.status.resultCount, state: state, attempt: task.attempt, finishedAt: wall)
        result.worker = task.workerName
        result.location = location
        result.error = error
        result.customID = task.customID
        result.lineNumber = task.location?.number
        if task.isStored { store(.deleteTask(task.id, jobSequence: job.sequence)) }
        store(.insertResult(result))
        markDirty(job)
        act(.resultAccepted(result))
        if state != .done {
            publish(state == .dead ? "task.dead" : "task.failed") {
                $0.job = job.id
                $0.jobSequence = job.sequence
                $0.task = task.index
                $0.attempt = task.attempt
                $0.worker = task.workerName
                $0.code = error?.code.rawValue
                $0.message = error?.message
            }
        }
        settle(job)
    }

    // MARK: Timers

    func runTimers() {
        while let timer = timers.min, timer.deadline <= time {
            _ = timers.popMin()
            switch timer.purpose {
            case .backoff(let task):
                guard task.state == .backoff, task.backoffUntil <= time,
                    plantedFault != .neverEndsBackoff
                else { continue }
                task.job.status.counts.backoff -= 1
                markDirty(task.job)
                makeReady(task)
            case .cap(let job): checkCap(job)
            }
        }
    }

    private func checkCap(_ job: LiveJob) {
        guard !job.status.state.isFinal, job.workingSince != nil, let cap = capNanoseconds(job)
        else { return }
        let left = cap - job.workedNanoseconds(at: time)
        if left > 0 { return addTimer(time + left, .cap(job)) }
        endJob(
            job, .failed,
            BrokerError(
                .timeout, .user,
                "the job was at work for the \(job.submission.maximumSeconds ?? 0) seconds that it asked for (max_seconds)",
                hint: "submit it with a greater max_seconds"))
    }
}

extension FailureCounts {
    /// Counts one more and gives the count of that class.
    mutating func add(_ failure: FailureClass) -> Int {
        switch failure {
        case .user: return 1
        case .retryable:
            retryable += 1
            return retryable
        case .crash:
            crash += 1
            return crash
        case .lost:
            lost += 1
            return lost
        case .timeout:
            timeout += 1
            return timeout
        case .preempted:
            preempted += 1
            return preempted
        }
    }
}
