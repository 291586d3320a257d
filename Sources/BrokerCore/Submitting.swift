/// A request that waits for the store to say which jobs it knows.
enum ParkedRequest {
    case submit([Submission], RequestID)
    case change(JobChange, [JobID], RequestID)
    case retry(JobID, RetryScope, anyNumerics: Bool, RequestID)

    var id: RequestID {
        switch self {
        case .submit(_, let id), .change(_, _, let id), .retry(_, _, _, let id): id
        }
    }
}

/// `CANCEL`, `HOLD`, `RELEASE`.
enum JobChange {
    case cancel(String?)
    case hold
    case release
}

/// What a look-up in the store gave.
struct FoundJobs {
    var jobs: [JobID: JobRecord] = [:]
    var pruned: Set<JobID> = []
}

extension Core {
    /// Ids that only the store can know: not in memory, and not younger than all that was forgotten.
    private func unknown(_ ids: some Sequence<JobID>) -> [JobID] {
        guard let greatest = greatestForgotten else { return [] }
        var seen: Set<JobID> = []
        return ids.filter { $0 <= greatest && jobs[$0] == nil && seen.insert($0).inserted }
    }

    private func park(_ request: ParkedRequest, lookingFor ids: [JobID]) {
        guard parked.count < limits.parkedRequests else {
            let error = limitError(
                "requests that wait for the store", limits.parkedRequests, hint: "try again")
            return reply(request.id, .failed(error))
        }
        parked[nextLookup] = request
        act(.lookUpJobs(lookup: nextLookup, ids))
        nextLookup += 1
    }

    func unpark(_ lookup: Int64, found: [JobRecord], pruned: [JobID]) {
        guard let request = parked.removeValue(forKey: lookup) else { return }
        var known = FoundJobs()
        for record in found { known.jobs[record.id] = record }
        known.pruned = Set(pruned)
        switch request {
        case .submit(let submissions, let id): admit(submissions, known, id)
        case .change(let change, let ids, let id): apply(change, to: ids, known, id)
        case .retry(let job, let scope, let anyNumerics, let id):
            retry(job, scope, anyNumerics: anyNumerics, known, id)
        }
        forgetEndedJobs()
    }

    // MARK: SUBMIT

    func submit(_ submissions: [Submission], _ request: RequestID) {
        guard submissions.count <= limits.submissionsPerMessage else {
            let error = limitError(
                "\(submissions.count) jobs in one message", limits.submissionsPerMessage)
            return reply(request, .failed(error))
        }
        let missing = unknown(submissions.lazy.flatMap { [$0.id] + $0.after.map(\.job) })
        if missing.isEmpty {
            admit(submissions, FoundJobs(), request)
        } else {
            park(.submit(submissions, request), lookingFor: missing)
        }
    }

    private func admit(_ submissions: [Submission], _ known: FoundJobs, _ request: RequestID) {
        let answers = submissions.map { submission in
            if let first = jobs[submission.id]?.record ?? known.jobs[submission.id] {
                return answerAgain(submission, first)
            }
            do throws(BrokerError) {
                let job = try admit(submission, known)
                return SubmitAnswer(job: submission.id, state: job.status.state)
            } catch {
                return SubmitAnswer(job: submission.id, state: .failed, error: error)
            }
        }
        reply(request, .submitted(answers))
    }

    private func answerAgain(_ submission: Submission, _ first: JobRecord) -> SubmitAnswer {
        var answer = SubmitAnswer(job: submission.id, state: first.status.state)
        if first.submission.digest == submission.digest {
            answer.isDuplicate = true
        } else {
            answer.error = BrokerError(
                .conflict, .user,
                "job \(submission.id) exists with another kind, spec or inputs",
                hint: "choose a new id for another job")
        }
        return answer
    }

    private func admit(_ submission: Submission, _ known: FoundJobs) throws(BrokerError) -> LiveJob
    {
        if known.pruned.contains(submission.id)
            || submission.id.millisecondsSince1970 < tombstonesSince
        {
            throw BrokerError(
                .gone, .user,
                "job \(submission.id) is from a time whose jobs have been pruned; it is not run again",
                hint: "submit it under a new id if it must run again")
        }
        if isBrokerDraining {
            throw BrokerError(
                .draining, .retryable, "the broker is draining and takes no new jobs",
                retryAfterMilliseconds: 10_000)
        }
        try checkLimits(submission)
        try checkWorker(submission)
        guard isKnown(kind: submission.kind) else {
            let kinds = Set(plugins.values.flatMap { $0.kinds.map(\.name) }).sorted()
            throw BrokerError(
                .unknownKind, .user, "no worker plugin takes jobs of kind \"\(submission.kind)\"",
                hint: kinds.isEmpty
                    ? "no plugin is configured: see loraq doctor"
                    : "known kinds: \(kinds.joined(separator: ", "))",
                details: ["kinds": .list(kinds)])
        }
        try checkUnasked(submission)
        try checkArtifactWords(submission)
        for dependency in submission.after
        where jobs[dependency.job] == nil && known.jobs[dependency.job] == nil {
            throw BrokerError(
                .unknownJob, .user, "after: there is no job \(dependency.job)",
                hint: known.pruned.contains(dependency.job)
                    ? "it has been pruned" : "submit it first")
        }
        for reference in submission.references + submission.optionalReferences
        where resolve(reference) == nil
            && !isProduced(reference, by: submission.after.map(\.job))
        {
            throw unknownArtifact(reference, after: !submission.after.isEmpty)
        }
        return create(submission, known)
    }

    /// A job that names a plugin needs that plugin, and its kind there.
    private func checkWorker(_ submission: Submission) throws(BrokerError) {
        guard let name = submission.worker else { return }
        let kinds =
            plugins[name]?.kinds.map(\.name)
            ?? workerList.first { $0.hello.plugin == name }.map { Array($0.classes.keys) }
        guard let kinds else {
            let known = plugins.keys.sorted().joined(separator: ", ")
            throw BrokerError(
                .invalidSpec, .user, "worker: no plugin \"\(name)\" is configured",
                hint: known.isEmpty ? "see loraq doctor" : "there are: \(known)")
        }
        guard kinds.contains(submission.kind) else {
            throw BrokerError(
                .unknownKind, .user,
                "the plugin \"\(name)\" takes no jobs of kind \"\(submission.kind)\"",
                hint: "its kinds: \(kinds.sorted().joined(separator: ", "))")
        }
    }

    /// A job that names no plugin needs one that takes its kind unasked: else it would wait for ever.
    private func checkUnasked(_ submission: Submission) throws(BrokerError) {
        let kind = submission.kind
        let isServed =
            plugins.values.contains { plugin in
                serves(plugin.name, nil) && plugin.kinds.contains { $0.name == kind }
            } || workerList.contains { $0.classes[kind] != nil && serves($0.hello.plugin, nil) }
        guard submission.worker == nil, !isServed else { return }
        let names = onRequest(kind: kind).joined(separator: ", ")
        throw BrokerError(
            .unknownKind, .user, "no worker plugin takes jobs of kind \"\(kind)\" unasked",
            hint: "\(names) takes those that name it: --worker PLUGIN")
    }

    /// The plugins that take jobs of a kind only where they are named, in order of their names.
    func onRequest(kind: String) -> [String] {
        plugins.values.filter { plugin in
            plugin.isOnRequest && plugin.kinds.contains { $0.name == kind }
        }.map(\.name).sorted()
    }

    private func isKnown(kind: String) -> Bool {
        plugins.values.contains { $0.kinds.contains { $0.name == kind } }
            || workerList.contains { $0.classes[kind] != nil }
    }

    private func checkLimits(_ submission: Submission) throws(BrokerError) {
        func check(_ value: Int, _ limit: Int, _ what: String) throws(BrokerError) {
            if value > limit { throw limitError("\(value) \(what)", limit) }
        }
        try check(submission.spec.count, limits.specBytes, "bytes of spec")
        try check(submission.inputs.count, limits.inputsPerJob, "inputs")
        try check(submission.after.count, limits.dependenciesPerJob, "entries in after")
        let told = submission.after.filter { $0.told != nil }
        try check(told.count, limits.toldPerJob, "entries in after with tell")
        for entry in told {
            try check(entry.told?.count ?? 0, limits.toldMetrics, "metrics in tell")
        }
        try check(
            submission.references.count + submission.optionalReferences.count,
            limits.referencesPerJob, "artifact references")
        try check(submission.kind.utf8.count, limits.nameBytes, "bytes of kind")
        try check(submission.tenant.utf8.count, limits.nameBytes, "bytes of tenant")
        try check(submission.label?.utf8.count ?? 0, limits.nameBytes, "bytes of label")
        guard limits.priorityRange.contains(submission.priority) else {
            throw BrokerError(
                .invalidSpec, .user,
                "priority \(submission.priority) is outside \(limits.priorityRange)")
        }
        if let seconds = submission.maximumSeconds, !(seconds > 0 && seconds < 1e9) {
            throw BrokerError(.invalidSpec, .user, "max_seconds must be a positive number")
        }
        if submission.after.contains(where: { $0.job == submission.id }) {
            throw BrokerError(.invalidSpec, .user, "after: a job cannot come after itself")
        }
        if let budget = limits.memoryBudget, submission.memoryBytes > budget {
            throw BrokerError(
                .limit, .user,
                "the job needs about \(submission.memoryBytes) bytes of memory; \(budget) may be used",
                details: [
                    "need": .integer(Int64(submission.memoryBytes)),
                    "budget": .integer(Int64(budget)),
                ])
        }
        let waiting = "wait for jobs to end"
        if unfinishedJobs >= limits.unfinishedJobs {
            throw limitError("unfinished jobs", limits.unfinishedJobs, hint: waiting)
        }
        if specBytes + submission.spec.count > limits.specBytesTotal {
            throw limitError(
                "bytes of specs of unfinished jobs", limits.specBytesTotal, hint: waiting)
        }
        if tenants[submission.tenant] == nil, tenants.count >= limits.tenants {
            throw limitError("tenants with unfinished jobs", limits.tenants, hint: waiting)
        }
        // Checked before the work and not after it: a finished fine-tune is never thrown away.
        let made = submission.produces.count
        if made > 0, artifactCount + promisedArtifacts + made > limits.artifacts {
            throw limitError(
                "models and adapters, with those that unfinished jobs will make", limits.artifacts,
                hint: "remove some: loraq adapters remove")
        }
    }

    private func checkArtifactWords(_ submission: Submission) throws(BrokerError) {
        for reference in submission.references + submission.optionalReferences
        where ArtifactReference(text: reference) == nil {
            throw BrokerError(
                .invalidSpec, .user, "\"\(reference)\" is not an artifact reference",
                hint: "write M, M:A, M@2, M:A@3 or M:A#tag")
        }
        for produced in submission.produces {
            guard let name = ArtifactReference(text: produced.name), name.selector == .newest else {
                throw BrokerError(
                    .invalidSpec, .user, "\"\(produced.name)\" is not an artifact name",
                    hint:
                        "a letter or digit, then up to 63 letters, digits, dots, dashes, underscores"
                )
            }
        }
    }

    func limitError(_ what: String, _ limit: Int, hint: String? = nil) -> BrokerError {
        BrokerError(
            .limit, hint == nil ? .user : .retryable, "\(what): at most \(limit)", hint: hint,
            retryAfterMilliseconds: hint == nil ? nil : 5_000,
            details: ["limit": .integer(Int64(limit))])
    }

    private func create(_ submission: Submission, _ known: FoundJobs) -> LiveJob {
        let isLines = submission.shape.isLines
        let status = JobStatus(
            state: isLines ? .splitting : .queued, counts: JobCounts(total: isLines ? nil : 1),
            allowsAnyNumerics: submission.allowsAnyNumerics)
        let job = LiveJob(
            JobRecord(
                submission: submission, sequence: nextJobSequence, createdAt: wall, status: status))
        nextJobSequence += 1
        jobs[job.id] = job
        newJobs.append(job)
        for reference in submission.references + submission.optionalReferences
        where job.bindings[reference] == nil {
            job.bindings[reference] = .some(nil)
            nameUse(reference)
        }
        adopt(job)
        let verdict = connectDependencies(of: job, known)
        switch verdict {
        case .ended(let state, let error): endJob(job, state, error)
        case .open:
            if isLines {
                startSplit(job, again: false)
            }
            announce(job)
        }
        return job
    }

    /// Counts a job in as unfinished.
    func adopt(_ job: LiveJob) {
        unfinishedJobs += 1
        specBytes += job.submission.spec.count
        promisedArtifacts += job.submission.produces.count
        openCounts[job.status.state, default: 0] += 1
        let name = job.submission.tenant
        let tenant = tenants[name] ?? Tenant(name: name)
        tenants[name] = tenant
        tenant.unfinishedJobs += 1
    }

    // MARK: CANCEL, HOLD, RELEASE

    func perform(_ change: JobChange, on ids: [JobID], _ request: RequestID) {
        guard ids.count <= limits.selectorsPerMessage else {
            let error = limitError("\(ids.count) jobs in one message", limits.selectorsPerMessage)
            return reply(request, .failed(error))
        }
        let missing = unknown(ids)
        if missing.isEmpty {
            apply(change, to: ids, FoundJobs(), request)
        } else {
            park(.change(change, ids, request), lookingFor: missing)
        }
    }

    private func apply(
        _ change: JobChange, to ids: [JobID], _ known: FoundJobs, _ request: RequestID
    ) {
        let answers = ids.map { id in
            guard let job = jobs[id] else {
                guard let record = known.jobs[id] else {
                    return JobAnswer(job: id, state: nil, error: unknownJob(id, known))
                }
                return answer(change, id, record.status.state)
            }
            guard !job.status.state.isFinal else { return answer(change, id, job.status.state) }
            switch change {
            case .cancel(let reason):
                endJob(
                    job, .cancelled,
                    reason.map { BrokerError(ErrorCode(rawValue: "CANCELLED"), .user, $0) })
            case .hold: setHeld(job, true)
            case .release: setHeld(job, false)
            }
            return JobAnswer(job: id, state: job.status.state, error: nil)
        }
        reply(request, .jobs(answers))
    }

    /// A job that has ended: cancelling it again is no error, holding it is.
    private func answer(_ change: JobChange, _ id: JobID, _ state: JobState) -> JobAnswer {
        if case .cancel = change { return JobAnswer(job: id, state: state, error: nil) }
        return JobAnswer(
            job: id, state: state,
            error: BrokerError(.badState, .user, "job \(id) has ended: \(state.rawValue)"))
    }

    func unknownJob(_ id: JobID, _ known: FoundJobs) -> BrokerError {
        known.pruned.contains(id)
            ? BrokerError(.gone, .user, "job \(id) has been pruned")
            : BrokerError(
                .unknownJob, .user, "there is no job \(id)", hint: "loraq jobs lists them")
    }

    // MARK: RETRY

    func retry(
        _ id: JobID, _ scope: RetryScope, anyNumerics: Bool, _ request: RequestID
    ) {
        let after = jobs[id].map { $0.after.filter(\.isOpenOrTold).map(\.job) } ?? []
        let missing = unknown([id] + after)
        if missing.isEmpty {
            retry(id, scope, anyNumerics: anyNumerics, FoundJobs(), request)
        } else {
            park(.retry(id, scope, anyNumerics: anyNumerics, request), lookingFor: missing)
        }
    }

    private func retry(
        _ id: JobID, _ scope: RetryScope, anyNumerics: Bool, _ known: FoundJobs,
        _ request: RequestID
    ) {
        let job: LiveJob
        if let live = jobs[id] {
            job = live
        } else if let record = known.jobs[id] {
            job = LiveJob(record)
            job.isInserted = true
        } else {
            return reply(request, .failed(unknownJob(id, known)))
        }
        let open = job.after.filter(\.isOpenOrTold).map(\.job)
        let missing = unknown(open).filter {
            known.jobs[$0] == nil && !known.pruned.contains($0)
        }
        guard missing.isEmpty else {
            return park(
                .retry(id, scope, anyNumerics: anyNumerics, request),
                lookingFor: unknown([id]) + missing)
        }
        if let error = refusal(toRetry: job, scope, anyNumerics: anyNumerics) {
            return reply(request, .failed(error))
        }
        jobs[id] = job
        restart(job, scope, anyNumerics: anyNumerics, known)
        reply(request, .retried(id, state: job.status.state, tasks: job.status.counts.open))
    }

    private func refusal(toRetry job: LiveJob, _ scope: RetryScope, anyNumerics: Bool)
        -> BrokerError?
    {
        let counts = job.status.counts
        guard job.status.state.isFinal else {
            return BrokerError(
                .badState, .user, "job \(job.id) has not ended: \(job.status.state.rawValue)",
                hint: "cancel it first, or wait for its end")
        }
        let runnable = (counts.total ?? 1) - job.status.badLines
        if runnable <= 0 {
            return BrokerError(
                .badState, .user, "no line of job \(job.id) can be run: there is nothing to retry",
                hint:
                    "correct the file, or add the model or adapter that it names, and submit it as a new job"
            )
        }
        if scope == .failed, counts.total != nil, counts.done >= runnable {
            let refused = job.status.badLines
            guard refused == 0 else {
                return BrokerError(
                    .badState, .user,
                    "every line of job \(job.id) that was taken succeeded; \(refused) were refused when it was read, "
                        + "and no retry takes them in",
                    hint:
                        "`loraq errors \(job.id)` lists them: submit them as a new job once what was wrong or missing "
                        + "is mended")
            }
            return BrokerError(
                .badState, .user,
                "every task of job \(job.id) succeeded: there is nothing to retry",
                hint: "--all runs everything again")
        }
        if isBrokerDraining {
            return BrokerError(
                .draining, .retryable, "the broker is draining", retryAfterMilliseconds: 10_000)
        }
        if unfinishedJobs >= limits.unfinishedJobs {
            return limitError(
                "unfinished jobs", limits.unfinishedJobs, hint: "wait for jobs to end")
        }
        return nil
    }

    /// Opens a new generation of an ended job.
    private func restart(
        _ job: LiveJob, _ scope: RetryScope, anyNumerics: Bool, _ known: FoundJobs
    ) {
        endedCounts[job.status.state, default: 1] -= 1
        if let place = endedOrder.lastIndex(of: job.id) { endedOrder.remove(at: place) }
        let wasSplit = job.status.counts.total != nil
        job.status.generation += 1
        job.status.retryScope = scope
        if scope == .all { job.status.wholeGeneration = job.status.generation }
        var counts = JobCounts(total: job.status.counts.total)
        counts.done = scope == .failed ? job.status.counts.done : 0
        if plantedFault == .retriesDone { job.status.retryScope = .all }
        counts.failed = wasSplit ? job.status.badLines : 0
        job.status.counts = counts
        job.status.finishedAt = nil
        job.status.error = nil
        job.status.metrics = [:]
        job.status.workedNanoseconds = 0
        job.status.isHeld = false
        if anyNumerics {
            job.status.allowsAnyNumerics = true
            job.status.numerics = nil
        }
        job.status.state = job.isLines && !wasSplit ? .splitting : .queued
        job.nextLine = 0
        job.isExhausted = false
        job.isActivated = false
        job.pendingRequest = nil
        job.referenceSets = [:]
        job.openDependencies = 0
        adopt(job)
        for (reference, key) in job.bindings {
            if let key { boundUses[key, default: 0] += 1 } else { nameUse(reference) }
        }
        markDirty(job)
        reopenTold(of: job, known)
        switch connectDependencies(of: job, known) {
        case .ended(let state, let error): endJob(job, state, error)
        case .open:
            if job.isLines, !wasSplit { startSplit(job, again: true) }
            announce(job)
        }
    }

    // MARK: Pruning

    func prune(_ pruned: [EndedJob], tombstonesBefore horizon: Int64) {
        // Somebody waits to hear of jobs that these might be: the runtime asks again later.
        guard parked.isEmpty else { return }
        if horizon > tombstonesSince {
            tombstonesSince = horizon
            store(.forgetTombstones(before: horizon))
        }
        if prunedLately.count > 10_000 { prunedLately.removeAll() }
        for entry in pruned where !prunedLately.contains(entry.id) {
            let id = entry.id
            if let job = jobs[id] {
                guard job.status.state.isFinal else { continue }
                endedCounts[job.status.state, default: 1] -= 1
                jobs[id] = nil
                if let place = endedOrder.firstIndex(of: id) { endedOrder.remove(at: place) }
            } else {
                endedCounts[entry.state, default: 1] -= 1
            }
            prunedLately.insert(id)
            greatestForgotten = max(greatestForgotten ?? id, id)
            store(.pruneJob(id, at: wall))
        }
    }
}
