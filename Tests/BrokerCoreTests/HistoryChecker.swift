import BrokerCore

/// What must be true of a history, whatever went wrong in it.
struct HistoryChecker {
    let simulation: Simulation

    init(_ simulation: Simulation) { self.simulation = simulation }

    private func require(_ condition: Bool, _ what: @autoclosure () -> String) throws {
        if !condition { throw Simulation.Failure(description: what()) }
    }

    func check() throws {
        let store = simulation.store
        for id in simulation.acknowledged {
            try require(store.job(id) != nil, "acknowledged job \(id) is lost")
        }
        for job in store.jobs.values {
            try require(job.status.state.isFinal, "job \(job.id) never ended")
            try check(job, store)
        }
        try checkEvents(store)
        if let core = simulation.settledCore {
            let counts = Dictionary(grouping: store.jobs.values, by: \.status.state)
                .mapValues(\.count)
            try require(
                core.jobCounts == counts, "PING tells \(core.jobCounts), there are \(counts)")
        }
        try require(store.tasks.isEmpty, "tasks left over: \(store.tasks.keys)")
        try checkAcceptances(store)
    }

    private func check(_ job: JobRecord, _ store: ModelStore) throws {
        let status = job.status
        let rows = store.resultsByJob[job.sequence] ?? []
        let name = "job \(job.sequence) (\(status.state), generation \(status.generation))"
        // Each order once, without gaps: what FETCH walks over.
        try require(
            rows.map(\.order).sorted() == (0..<rows.count).map { Int64($0 + 1) }
                || job.submission.shape.isLines && status.generation >= 1
                    && Set(rows.map(\.order)).count == rows.count,
            "\(name): orders")
        let newest = Dictionary(grouping: rows, by: \.task.index).mapValues { rows in
            rows.max { $0.generation < $1.generation }
        }
        if status.state == .succeeded || status.state == .failed, let total = status.counts.total,
            status.counts.cancelled == 0
        {
            try require(
                newest.count == total, "\(name): \(newest.count) of \(total) tasks have a result")
        }
        if status.retryScope != .all {
            let done = newest.values.count { $0?.state == .done }
            try require(
                done >= status.counts.done, "\(name): done \(status.counts.done), rows \(done)")
        }
        try require(
            status.error?.errorClass != .internal,
            "\(name): the broker blames itself: \(status.error?.message ?? "")")
        for task in Set(rows.map(\.task)) {
            let attempts = store.attempts.filter { $0.task == task }
            try require(
                attempts.count { $0.outcome == "crash" && $0.companions == 0 }
                    <= simulation.limits.crash.budget * status.generation,
                "\(name): task \(task.index) went on killing workers")
            let done = rows.filter { $0.task == task && $0.state == .done }.map(\.generation)
            try require(
                done.count <= 1 || simulation.retriedWhole.contains(job.id),
                "\(name): task \(task.index) ran again after it had succeeded")
        }
        for row in rows where row.state == .dead {
            let crashes = store.attempts.filter {
                $0.task == row.task && $0.outcome == "crash" && $0.companions == 0
                    && $0.generation == row.generation
            }
            try require(
                crashes.count >= simulation.limits.crash.budget,
                "\(name): task \(row.task.index) is dead after \(crashes.count) crashes alone")
            try require(
                crashes.allSatisfy { $0.exit?.lastLog.isEmpty == false }, "\(name): no evidence")
        }
        if job.submission.label == "poison", status.state == .succeeded,
            (status.counts.total ?? 0) > 1
        {
            try require(
                newest[1].flatMap { $0?.state } != .done, "\(name): the poisonous line came through"
            )
        }
    }

    /// What a client hears: every state that is told may follow the one told before, and who waits for an end hears of it.
    private func checkEvents(_ store: ModelStore) throws {
        var last: [JobID: JobState] = [:]
        for event in store.events {
            guard let id = event.job, event.type.hasPrefix("job."),
                let state = JobState(rawValue: String(event.type.dropFirst(4)))
            else { continue }
            if let before = last[id] {
                // A final state is left by a retry only, which begins anew.
                let isLegal =
                    before.isFinal
                    ? state != .running || store.job(id)?.status.generation ?? 2 > 1
                    : ModelStore.mayFollow(before, state)
                try require(isLegal, "job \(id): told \(state) after \(before)")
            }
            last[id] = state
        }
        for job in store.jobs.values {
            try require(
                last[job.id] == job.status.state,
                "job \(job.id) is \(job.status.state), and clients were told \(last[job.id].map(\.rawValue) ?? "nothing")"
            )
        }
    }

    /// What a worker was told is accepted must be in the store, and no task accepted twice in a generation.
    private func checkAcceptances(_ store: ModelStore) throws {
        for key in simulation.acceptedResults {
            guard let sequence = store.sequences[key.task.job] else { continue }
            let rows = (store.resultsByJob[sequence] ?? []).filter { $0.task == key.task }
            try require(
                rows.contains { $0.attempt == key.attempt && $0.state == .done },
                "accepted result of \(key.task), attempt \(key.attempt), is not in the store")
        }
    }
}
