extension Core {
    /// Rebuilds the live state. Leased tasks wait for their workers to come back; backoffs begin anew.
    func restore(_ snapshot: Snapshot) {
        for artifact in snapshot.artifacts.sorted(by: { $0.version < $1.version }) {
            restoreArtifact(artifact)
        }
        for record in snapshot.jobs {
            let job = LiveJob(record)
            job.isInserted = true
            job.nextLine = record.status.firstOpenLine
            // Counted again from the task records below.
            job.status.counts.leased = 0
            job.status.counts.backoff = 0
            jobs[job.id] = job
            adopt(job)
            for (reference, key) in job.bindings {
                if let key { boundUses[key, default: 0] += 1 } else { nameUse(reference) }
            }
        }
        for record in snapshot.jobs {
            guard let job = jobs[record.id] else { continue }
            for (position, dependency) in job.after.enumerated() where !dependency.isFulfilled {
                guard let other = jobs[dependency.job] else { continue }
                other.dependents.append((job.id, position))
                job.openDependencies += 1
            }
        }
        for record in snapshot.tasks { restore(record) }
    }

    private func restore(_ record: TaskRecord) {
        guard let job = jobs[record.id.job], record.generation == job.status.generation else {
            return
        }
        // A set that no longer resolves leaves its task without artifacts; the worker then says what it misses.
        let references =
            (try? referenceSet(job, record.references).get())
            ?? ReferenceSet(references: record.references, bindings: [], digests: [])
        let task = LiveTask(
            job: job, index: record.id.index, references: references, cost: record.cost,
            customID: record.customID, location: record.location, attempt: record.attempt)
        task.isStored = true
        task.failures = record.failures
        task.isSuspect = record.isSuspect
        task.workerName = record.worker
        job.tasks[task.index] = task
        switch record.state {
        case .leased:
            task.state = .leased
            task.lease = record.lease
            task.leasedAtWall = record.leasedAt ?? wall
            task.renewedAt = time
            task.counterAt = time
            orphans[task.id] = task
            memoryInUse += job.submission.memoryBytes
            startClock(job)
            job.status.counts.leased += 1
        case .backoff:
            task.state = .backoff
            task.backoffMilliseconds = record.backoffMilliseconds ?? 0
            task.backoffUntil = time + task.backoffMilliseconds.nanosecondsFromMilliseconds
            job.status.counts.backoff += 1
            addTimer(task.backoffUntil, .backoff(task))
        default:
            enlist(task)
        }
    }
}
