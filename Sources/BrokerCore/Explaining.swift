extension Core {
    /// The one thing that this job waits for, or how it ended. Nil if it is not in memory.
    public func explain(_ id: JobID, at moment: Moment) -> Explanation? {
        guard let job = jobs[id] else { return nil }
        var answer = Explanation(
            job: id, state: job.status.state, code: "", message: "", details: [:])
        func set(_ code: String, _ message: String, _ details: [String: DetailValue] = [:]) {
            answer.code = code
            answer.message = message
            answer.details = details
        }
        let counts = job.status.counts
        if job.status.state.isFinal {
            explainEnd(job, set)
        } else if job.status.isHeld {
            set("HELD", "it is held; loraq release \(id) lets it go on")
        } else if counts.total == nil {
            set("SPLITTING", "its batch file is being checked and split into lines")
        } else if job.openDependencies > 0 {
            explainDependency(job, set)
        } else if counts.leased > 0 {
            set(
                "RUNNING", "\(counts.leased) of its tasks are with a worker",
                ["leased": .integer(Int64(counts.leased)), "workers": .list(holders(of: job))])
        } else if isBrokerDraining {
            set("DRAINING", "the broker is draining and gives out nothing more")
        } else if job.hasReady || job.pendingRequest != nil {
            explainQueue(job, at: moment, set)
        } else if let suspect = job.tasks.values.first(where: { $0.isSuspect && $0.state == .ready }
        ) {
            set(
                "WAITS_TO_RUN_ALONE",
                "task \(suspect.id) was in hand when a worker died, and runs alone as soon as a worker is empty"
            )
        } else if counts.backoff > 0 || job.queue == nil {
            explainBackoff(job, at: moment, set)
        } else {
            explainQueue(job, at: moment, set)
        }
        return answer
    }

    typealias ReasonSetter = (String, String, [String: DetailValue]) -> Void

    private func explainEnd(_ job: LiveJob, _ set: ReasonSetter) {
        let state = job.status.state.rawValue
        if let error = job.status.error {
            set(error.code.rawValue, error.message, error.details)
        } else {
            set(state.uppercased(), "it has ended: \(state)", [:])
        }
    }

    private func holders(of job: LiveJob) -> [String] {
        Set(job.tasks.values.filter { $0.state == .leased }.compactMap(\.workerName)).sorted()
    }

    private func explainDependency(_ job: LiveJob, _ set: ReasonSetter) {
        let open = job.after.filter { !$0.isFulfilled }
        guard let first = open.first else { return }
        let state = jobs[first.job]?.status.state.rawValue ?? "unknown"
        let more = open.count > 1 ? ", and \(open.count - 1) more" : ""
        set(
            "DEPENDENCY", "it waits for job \(first.job) (\(state))\(more)",
            [
                "job": .text(first.job.text), "state": .text(state),
                "jobs": .list(open.map(\.job.text)),
            ])
    }

    private func explainBackoff(_ job: LiveJob, at moment: Moment, _ set: ReasonSetter) {
        let waiting = job.tasks.values.filter { $0.state == .backoff }
        guard
            let next = waiting.min(by: { ($0.backoffUntil, $0.index) < ($1.backoffUntil, $1.index) }
            )
        else {
            return set("LOADING", "its next lines are being read", [:])
        }
        let wait = max(0, (next.backoffUntil + skipped - moment.monotonic) / 1_000_000)
        set(
            "BACKOFF",
            "\(waiting.count) of its tasks wait before the next try, the first for \(wait) ms more: \(next.backoffReason ?? "after a failure")",
            [
                "task": .text(next.id.text), "wait_ms": .integer(wait),
                "until_ms": .integer(moment.wall + wait), "attempt": .integer(Int64(next.attempt)),
            ])
    }

    private func explainQueue(_ job: LiveJob, at moment: Moment, _ set: ReasonSetter) {
        guard let queue = job.queue else { return explainBackoff(job, at: moment, set) }
        let lane = queue.lane
        guard mayHaveNumerics(lane.key) else {
            let error = numericsUnavailable(job)
            return set(error.code.rawValue, error.message, error.details)
        }
        let able = workerList.filter { suits($0, lane) }
        if able.isEmpty {
            return explainNoWorker(job, set)
        }
        if !fitsMemory(job) {
            let need = job.submission.memoryBytes
            let free = max(0, (limits.memoryBudget ?? 0) - memoryTaken)
            return set(
                "MEMORY", "it needs about \(need) bytes of memory; \(free) are free",
                ["need": .integer(Int64(need)), "free": .integer(Int64(free))])
        }
        if !job.hasReady, job.pendingRequest != nil {
            return set("LOADING", "its next lines are being read", [:])
        }
        let ahead = ahead(of: job, in: queue, able)
        var details: [String: DetailValue] = [
            "ahead": .integer(Int64(ahead.higher + ahead.before)),
            "ahead_by_priority": .integer(Int64(ahead.higher)),
            "ahead_by_age": .integer(Int64(ahead.before)),
            "workers": .list(able.map(\.instance)),
        ]
        if let first = ahead.first {
            details["behind"] = .text(first.id.text)
            var parts: [String] = []
            if ahead.higher > 0 { parts.append("\(ahead.higher) of higher priority") }
            if ahead.before > 0 { parts.append("\(ahead.before) before it in its own queue") }
            return set(
                "QUEUED_BEHIND",
                "jobs ahead: \(parts.joined(separator: ", ")); the first is \(first.id)", details)
        }
        if able.contains(where: { $0.isReserved || $0.isAlone }), !able.contains(where: \.isOpen) {
            return set(
                "WORKER_RESERVED", "its workers are kept for tasks that must run alone", details)
        }
        let holders = holders(of: lane, able)
        details["running"] = .list(holders.prefix(8).map(\.id.text))
        let what = holders.first.map { first in
            holders.count == 1
                ? ": job \(first.id) has it"
                : ": job \(first.id) and \(holders.count - 1) more have it"
        }
        set(
            "NO_CREDIT",
            "it is the next; \(able.count) worker\(able.count == 1 ? " does" : "s do") this kind, and none has room now\(what ?? "")",
            details)
    }

    /// Jobs that are served before this one: those of higher priority that want the same room, and those before it in its
    /// own queue. Other tenants of its priority share with it and are not ahead.
    private func ahead(of job: LiveJob, in queue: ReadyQueue, _ able: [LiveWorker]) -> (
        higher: Int, before: Int, first: LiveJob?
    ) {
        var higher = 0
        var first: (priority: Int, job: LiveJob)?
        for lane in lanes.values where sharesRoom(lane, queue.lane, able) {
            for level in lane.levels where level.priority > queue.priority {
                for other in level.queues.values {
                    higher += other.jobs.count
                    guard let head = other.jobs.first else { continue }
                    if let found = first,
                        (found.priority, -found.job.sequence) >= (level.priority, -head.sequence)
                    {
                        continue
                    }
                    first = (level.priority, head)
                }
            }
        }
        let before = queue.position(job.sequence)
        return (higher, before, first?.job ?? (before > 0 ? queue.jobs[0] : nil))
    }

    /// Whether some worker would take tasks of both lanes on the same credit.
    private func sharesRoom(_ lane: Lane, _ other: Lane, _ able: [LiveWorker]) -> Bool {
        able.contains { worker in
            suits(worker, lane)
                && worker.classes[lane.key.kind] == worker.classes[other.key.kind]
        }
    }

    /// The jobs that have the room that this lane wants, oldest first.
    private func holders(of lane: Lane, _ able: [LiveWorker]) -> [LiveJob] {
        var found: [JobID: LiveJob] = [:]
        for worker in able {
            let wanted = worker.classes[lane.key.kind]
            for task in worker.held.values
            where worker.classes[task.job.submission.kind] == wanted {
                found[task.job.id] = task.job
            }
        }
        return found.values.sorted { $0.sequence < $1.sequence }
    }

    private func explainNoWorker(_ job: LiveJob, _ set: ReasonSetter) {
        let kind = job.submission.kind
        let configured = plugins.values.filter { plugin in
            plugin.kinds.contains { $0.name == kind } && serves(plugin.name, job.submission.worker)
        }.sorted { $0.name < $1.name }
        let names = configured.map(\.name)
        if configured.contains(where: { $0.instances > 0 }) {
            set(
                "WORKER_NOT_READY", "no worker of \(names.joined(separator: ", ")) is ready yet",
                ["plugins": .list(names)])
        } else if configured.isEmpty {
            let which = job.submission.worker.map { "of plugin \($0) " } ?? ""
            let asked = job.submission.worker == nil ? onRequest(kind: kind) : []
            let others =
                asked.isEmpty ? "" : "; \(asked.joined(separator: ", ")) does those that name it"
            set(
                "NO_WORKER_CONFIGURED",
                "no configured worker \(which)does jobs of kind \(kind)\(others)", [:])
        } else {
            set(
                "NO_INSTANCES",
                "\(names.joined(separator: ", ")) is scaled to 0; loraq workers scale NAME N starts some",
                ["plugins": .list(names)])
        }
    }
}
