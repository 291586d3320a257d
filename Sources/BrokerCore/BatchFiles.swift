extension Core {
    // MARK: Splitting

    func startSplit(_ job: LiveJob, again: Bool) {
        guard case .lines(let blob) = job.submission.shape else { return }
        job.splitLines = 0
        if again {
            store(.clearSplit(jobSequence: job.sequence))
            job.status.counts.failed = 0
            job.status.badLines = 0
            markDirty(job)
        }
        act(
            .split(
                SplitRequest(
                    job: job.id, jobSequence: job.sequence, kind: job.submission.kind, blob: blob,
                    isStrict: job.submission.isStrict)))
    }

    private func splittingJob(_ id: JobID) -> LiveJob? {
        guard let job = jobs[id], job.isLines, !job.status.state.isFinal,
            job.status.counts.total == nil
        else { return nil }
        return job
    }

    func splitPart(
        _ id: JobID, _ blocks: [LineBlock], _ badLines: [BadLine], _ references: [String]
    ) {
        guard let job = splittingJob(id) else { return }
        if !blocks.isEmpty { store(.insertLineBlocks(jobSequence: job.sequence, blocks)) }
        for reference in references where job.bindings[reference] == nil {
            guard job.bindings.count < limits.referencesPerJob else {
                return endJob(
                    job, .failed,
                    limitError("distinct artifact references in one batch", limits.referencesPerJob)
                )
            }
            job.bindings[reference] = .some(nil)
            nameUse(reference)
            store(.bind(jobSequence: job.sequence, reference: reference, nil))
        }
        for line in badLines { failLine(job, line, generation: 0) }
        job.status.badLines += badLines.count
        if !badLines.isEmpty { markDirty(job) }
    }

    /// Ends a line that no worker was given. Generation 0: it stays so whatever is retried.
    private func failLine(_ job: LiveJob, _ line: BadLine, generation: Int) {
        job.status.counts.failed += 1
        job.status.resultCount += 1
        var result = ResultRecord(
            task: TaskID(job: job.id, index: line.index), jobSequence: job.sequence,
            generation: generation, order: job.status.resultCount, state: .failed,
            attempt: 0, finishedAt: wall)
        result.error = line.error
        result.customID = line.customID
        result.lineNumber = line.number
        store(.insertResult(result))
        act(.resultAccepted(result))
    }

    func splitFinished(_ id: JobID, lines: Int) {
        guard let job = splittingJob(id) else { return }
        let bad = job.status.counts.failed
        if job.submission.isStrict, bad > 0 {
            job.status.counts.total = lines
            return endJob(
                job, .failed,
                BrokerError(
                    .invalidSpec, .user,
                    "strict: \(bad) of \(lines) lines cannot be run, so none is",
                    hint: "loraq errors \(job.id)",
                    details: ["bad": .integer(Int64(bad)), "lines": .integer(Int64(lines))]))
        }
        job.status.counts.total = max(lines, bad)
        markDirty(job)
        if lines == 0 {
            return endJob(
                job, .failed,
                BrokerError(.noLineSucceeded, .user, "the batch file holds no lines"))
        }
        settle(job)
    }

    func splitFailed(_ id: JobID, _ error: BrokerError) {
        guard let job = splittingJob(id) else { return }
        endJob(job, .failed, error)
    }

    // MARK: The window

    /// Asks for lines of the batches at the front of those queues that changed.
    func fillWindows() {
        guard !dirtyQueues.isEmpty else { return }
        let queues = dirtyQueues
        dirtyQueues.removeAll(keepingCapacity: true)
        for queue in queues {
            queue.isDirty = false
            var ahead = 0
            for job in queue.jobs.prefix(limits.loadingJobsPerQueue) {
                requestLines(job)
                ahead += job.fresh.count + (job.pendingRequest?.limit ?? 0)
                if ahead >= limits.window { break }
            }
        }
    }

    private func requestLines(_ job: LiveJob) {
        guard case .lines(let blob) = job.submission.shape, !job.isExhausted,
            job.pendingRequest == nil, let total = job.status.counts.total,
            job.fresh.count < limits.linesPerPiece
        else { return }
        let room = min(
            limits.linesPerPiece, limits.window - job.tasks.count, total - job.nextLine)
        guard room > 0 else { return }
        let request = LineRequest(
            job: job.id, jobSequence: job.sequence, blob: blob, generation: job.status.generation,
            scope: job.status.retryScope ?? .all, since: job.status.wholeGeneration,
            from: job.nextLine, limit: room, total: total)
        job.pendingRequest = request
        act(.loadLines(request))
    }

    func linesLoaded(_ request: LineRequest, _ lines: [LoadedLine], _ next: Int) {
        guard let job = jobs[request.job], job.pendingRequest == request else { return }
        job.pendingRequest = nil
        job.nextLine = max(next, request.from)
        job.isExhausted = job.nextLine >= request.total
        var previous = request.from - 1
        for line in lines {
            guard line.index > previous, line.index < job.nextLine, line.index < request.total
            else { continue }
            previous = line.index
            if plantedFault == .forgetsLine, line.index == job.nextLine - 1 { continue }
            guard job.tasks[line.index] == nil, !job.endedWhileLoading.contains(line.index)
            else { continue }
            addLine(job, line)
        }
        job.endedWhileLoading = []
        if next <= request.from {
            return endJob(
                job, .failed,
                BrokerError(
                    .internal, .internal, "no lines came back from line \(request.from) on"))
        }
        markDirty(job)
        settle(job)
    }

    private func addLine(_ job: LiveJob, _ line: LoadedLine) {
        switch referenceSet(job, line.references) {
        case .failure(let error):
            failLine(
                job,
                BadLine(
                    index: line.index, number: line.location.number, customID: line.customID,
                    error: error), generation: job.status.generation)
        case .success(let references):
            let task = LiveTask(
                job: job, index: line.index, references: references, cost: line.cost,
                customID: line.customID, location: line.location, attempt: line.previousAttempts)
            job.tasks[line.index] = task
            job.fresh.append(task)
        }
    }

    func loadFailed(_ request: LineRequest, _ error: BrokerError) {
        guard let job = jobs[request.job], job.pendingRequest == request else { return }
        endJob(job, .failed, error)
    }
}
