extension Core {
    func takeResults(_ results: [AttemptResult]) {
        var acknowledgements: [(peer: PeerID, statuses: [ResultStatus])] = []
        for result in results {
            let task = leasedTask(result.key)
            // The session may be of an earlier broker: the lease alone decides, the present worker is told.
            let peer = workersBySession[result.session]?.peer ?? task?.worker?.peer
            if let task { take(result, task) }
            guard let peer else { continue }
            let status = ResultStatus(
                task: result.key.task, attempt: result.key.attempt, isAccepted: task != nil)
            if let last = acknowledgements.indices.last, acknowledgements[last].peer == peer {
                acknowledgements[last].statuses.append(status)
            } else {
                acknowledgements.append((peer, [status]))
            }
        }
        for entry in acknowledgements { act(.acknowledge(entry.peer, entry.statuses)) }
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
