/// What an ended job means for one that comes after it.
enum DependencyVerdict {
    case fulfilled
    case ended(JobState, BrokerError)
}

/// What all entries of a job's `after` mean together, as far as they have ended.
enum DependenciesVerdict {
    case open
    case ended(JobState, BrokerError)
}

extension Core {
    /// Looks at every entry that is not fulfilled: fulfills it, waits for it, or says how the job ends.
    func connectDependencies(of job: LiveJob, _ known: FoundJobs) -> DependenciesVerdict {
        for (position, dependency) in job.after.enumerated() where !dependency.isFulfilled {
            if let other = jobs[dependency.job], !other.status.state.isFinal {
                other.dependents.append((job.id, position))
                job.openDependencies += 1
                continue
            }
            guard let other = jobs[dependency.job]?.record ?? known.jobs[dependency.job] else {
                return .ended(
                    .dependencyFailed,
                    BrokerError(
                        .dependencyFailed, .user,
                        "job \(dependency.job), which this one comes after, has been pruned",
                        details: ["job": .text(dependency.job.text)]))
            }
            switch judge(dependency, other.status) {
            case .fulfilled: fulfill(job, position, other.status)
            case .ended(let state, let error): return .ended(state, error)
            }
        }
        return .open
    }

    private func fulfill(_ job: LiveJob, _ position: Int, _ other: JobStatus) {
        job.after[position].isFulfilled = true
        job.after[position].outcome = job.after[position].told.map {
            DependencyOutcome(other, told: $0)
        }
        if job.isInserted {
            store(
                .fulfillDependency(
                    jobSequence: job.sequence, position: position,
                    job.after[position].outcome))
        }
    }

    /// A job that runs again is told anew how those before it ended, as far as they are still known.
    func reopenTold(of job: LiveJob, _ known: FoundJobs) {
        for (position, dependency) in job.after.enumerated()
        where dependency.isFulfilled && dependency.told != nil {
            guard jobs[dependency.job] != nil || known.jobs[dependency.job] != nil else { continue }
            job.after[position].isFulfilled = false
            job.after[position].outcome = nil
            store(.reopenDependency(jobSequence: job.sequence, position: position))
        }
    }

    func judge(_ dependency: Dependency, _ other: JobStatus) -> DependencyVerdict {
        let name = dependency.job.text
        if dependency.mode == .success, other.state != .succeeded {
            // What waits for a gate that stayed shut is skipped too: nothing went wrong.
            let state: JobState = other.state == .skipped ? .skipped : .dependencyFailed
            // The first failure of a chain is named throughout; its words are not repeated.
            let isFirst = other.state != .dependencyFailed && other.state != .skipped
            let cause = isFirst ? other.error.map { ": \($0.message)" } ?? "" : ""
            let root = isFirst ? nil : other.error?.details["root"] ?? other.error?.details["job"]
            var details: [String: DetailValue] = [
                "job": .text(name), "state": .text(other.state.rawValue),
            ]
            details["root"] = root
            return .ended(
                state,
                BrokerError(
                    .dependencyFailed, .user,
                    "job \(name), which this one comes after, ended as \(other.state.rawValue)\(cause)",
                    hint: state == .skipped ? nil : "retry that job, then this one",
                    details: details))
        }
        guard let condition = dependency.condition else { return .fulfilled }
        guard let value = other.metrics[condition.metric] else {
            return .ended(
                .dependencyFailed,
                BrokerError(
                    .dependencyFailed, .user,
                    "the result of job \(name) has no metric \"\(condition.metric)\"",
                    details: [
                        "job": .text(name), "metric": .text(condition.metric),
                        "metrics": .list(other.metrics.keys.sorted()),
                    ]))
        }
        if condition.comparison.holds(value, condition.value) { return .fulfilled }
        let text = "\(condition.metric) \(condition.comparison.rawValue) \(condition.value)"
        return .ended(
            .skipped,
            BrokerError(
                ErrorCode(rawValue: "CONDITION_FALSE"), .user,
                "\(text) does not hold: job \(name) gave \(value)",
                details: [
                    "job": .text(name), "metric": .text(condition.metric), "value": .number(value),
                ]))
    }

    /// Tells those that come after the jobs that just ended; those may end in turn.
    func propagateEnds() {
        guard !isPropagating else { return }
        isPropagating = true
        defer { isPropagating = false }
        while let ended = endedNow.popFirst() {
            let dependents = plantedFault == .neverWakesDependents ? [] : ended.dependents
            ended.dependents = []
            for (id, position) in dependents {
                guard let job = jobs[id], !job.status.state.isFinal, job.openDependencies > 0,
                    !job.after[position].isFulfilled
                else { continue }
                switch judge(job.after[position], ended.status) {
                case .fulfilled:
                    job.openDependencies -= 1
                    fulfill(job, position, ended.status)
                    settle(job)
                case .ended(let state, let error): endJob(job, state, error)
                }
            }
        }
    }

    /// Whether one of these jobs, or one that they come after, produces what the reference names. Looks at unfinished
    /// jobs only, since what ended jobs produced exists, and at a bounded number of them.
    func isProduced(_ reference: String, by ids: [JobID]) -> Bool {
        guard let name = ArtifactReference(text: reference)?.name else { return false }
        var open = ids
        var seen = Set(ids)
        while let id = open.popLast(), seen.count <= 10_000 {
            guard let job = jobs[id], !job.status.state.isFinal else { continue }
            if job.submission.produces.contains(where: { $0.name == name }) { return true }
            for dependency in job.after where seen.insert(dependency.job).inserted {
                open.append(dependency.job)
            }
        }
        return false
    }
}
