import BrokerCore

/// What the database holds, in memory, with its constraints checked at each commit.
struct ModelStore {
    struct Violation: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }

    struct AttemptName: Hashable {
        let task: TaskID
        let attempt: Int
    }

    struct ResultKey: Hashable {
        let task: TaskID
        let generation: Int
    }

    var jobs: [Int64: JobRecord] = [:]
    var sequences: [JobID: Int64] = [:]
    var tasks: [TaskID: TaskRecord] = [:]
    var results: [ResultKey: ResultRecord] = [:]
    var resultsByJob: [Int64: [ResultRecord]] = [:]
    var attempts: [AttemptRecord] = []
    private var attemptNames: Set<AttemptName> = []
    var artifacts: [ArtifactKey: ArtifactRecord] = [:]
    var lastVersions: [String: Int] = [:]
    var tombstones: Set<JobID> = []
    var events: [BrokerEvent] = []
    var blocks: [Int64: [LineBlock]] = [:]
    var tombstonesSince: Int64 = 0

    /// All or nothing: a violation leaves `self` as it was, as the caller works on a copy.
    mutating func apply(_ mutations: [Mutation]) throws {
        var copy = self
        for mutation in mutations { try copy.apply(mutation) }
        for mutation in mutations {
            if case .updateJob(let sequence, _, _) = mutation { try copy.check(sequence) }
            if case .insertJob(let record) = mutation { try copy.check(record.sequence) }
            if case .putTask(let record) = mutation { try copy.checkLease(record, before: self) }
            if case .insertAttempt(let record) = mutation { try checkBlame(record) }
        }
        self = copy
    }

    private func require(_ condition: Bool, _ what: @autoclosure () -> String) throws {
        if !condition { throw Violation(what()) }
    }

    private mutating func apply(_ mutation: Mutation) throws {
        switch mutation {
        case .insertJob(let record):
            try require(sequences[record.id] == nil, "job \(record.id) inserted twice")
            try require(!tombstones.contains(record.id), "pruned job \(record.id) inserted again")
            jobs[record.sequence] = record
            sequences[record.id] = record.sequence
        case .updateJob(let sequence, let id, let status):
            guard let before = jobs[sequence]?.status else {
                throw Violation("update of unknown job \(id)")
            }
            try require(
                isLegal(before, status),
                "job \(id): \(before.state) → \(status.state) is no legal transition")
            jobs[sequence]?.status = status
        case .fulfillDependency(let sequence, let position, let outcome):
            jobs[sequence]?.submission.after[position].isFulfilled = true
            jobs[sequence]?.submission.after[position].outcome = outcome
        case .reopenDependency(let sequence, let position):
            jobs[sequence]?.submission.after[position].isFulfilled = false
            jobs[sequence]?.submission.after[position].outcome = nil
        case .bind(let sequence, let reference, let key):
            if let old = jobs[sequence]?.bindings[reference], let bound = old {
                try require(bound == key, "\(reference) bound twice")
            }
            jobs[sequence]?.bindings[reference] = .some(key)
        case .pruneJob(let id, _):
            tombstones.insert(id)
            if let sequence = sequences.removeValue(forKey: id) {
                try require(jobs[sequence]?.status.state.isFinal == true, "unfinished job pruned")
                jobs[sequence] = nil
                for record in resultsByJob.removeValue(forKey: sequence) ?? [] {
                    results[ResultKey(task: record.task, generation: record.generation)] = nil
                }
            }
        case .forgetTombstones(let before):
            tombstonesSince = before
            tombstones = tombstones.filter { $0.millisecondsSince1970 >= before }
        case .insertLineBlocks(let sequence, let new): blocks[sequence, default: []] += new
        case .clearSplit(let sequence):
            blocks[sequence] = nil
            for record in resultsByJob.removeValue(forKey: sequence) ?? [] {
                results[ResultKey(task: record.task, generation: record.generation)] = nil
            }
        case .putTask(let record):
            try require(jobs[record.jobSequence] != nil || true, "")
            try require((record.state == .leased) == (record.lease != nil), "lease of \(record.id)")
            try require(
                (record.state == .backoff) == (record.backoffMilliseconds != nil),
                "backoff of \(record.id)")
            try require(!record.state.isFinal, "ended task kept")
            let key = ResultKey(task: record.id, generation: record.generation)
            try require(results[key] == nil, "task \(record.id) given out after its end")
            if let before = tasks[record.id], record.state == .leased, before.lease != record.lease
            {
                try require(
                    record.attempt > before.attempt, "attempt number used twice: \(record.id)")
                try require(before.state != .leased, "\(record.id) leased twice at once")
            }
            tasks[record.id] = record
        case .deleteTask(let id, _): tasks[id] = nil
        case .insertAttempt(let record):
            let name = AttemptName(task: record.task, attempt: record.attempt)
            try require(
                attemptNames.insert(name).inserted,
                "attempt \(record.attempt) of \(record.task) ended twice, or its number was used twice"
            )
            attempts.append(record)
        case .insertResult(let record):
            let key = ResultKey(task: record.task, generation: record.generation)
            try require(
                results[key] == nil,
                "second result of \(record.task) in generation \(record.generation)")
            try require(
                !(resultsByJob[record.jobSequence] ?? []).contains { $0.order == record.order },
                "order \(record.order) of \(record.task) used twice")
            results[key] = record
            resultsByJob[record.jobSequence, default: []].append(record)
        case .insertArtifact(let record):
            try require(artifacts[record.key] == nil, "\(record.reference) registered twice")
            try require(record.version > lastVersions[record.name] ?? 0, "version used twice")
            artifacts[record.key] = record
            lastVersions[record.name] = record.version
        case .deleteArtifact(let key): artifacts[key] = nil
        case .setTag(let name, let tag, let version):
            for key in artifacts.keys where key.name == name {
                artifacts[key]?.tags.removeAll { $0 == tag }
                if key.version == version { artifacts[key]?.tags.append(tag) }
            }
        case .appendEvent(let event):
            try require(
                event.number == (events.last?.number ?? 0) + 1,
                "event \(event.number ?? 0) after \(events.last?.number ?? 0)")
            events.append(event)
        case .keepLines, .dropLines, .putBlob, .deleteBlob, .putProcess, .deleteProcess: break
        }
    }

    /// Who died with others in hand is not blamed as if it had been alone.
    private func checkBlame(_ record: AttemptRecord) throws {
        guard record.outcome == "crash", record.companions == 0 else { return }
        let held = tasks.values.count { $0.state == .leased && $0.worker == record.worker }
        try require(held <= 1, "\(record.task) pays alone for a death with \(held) in hand")
    }

    /// A task that was given out in this commit was one to be given out.
    private func checkLease(_ record: TaskRecord, before: ModelStore) throws {
        guard record.state == .leased, before.tasks[record.id]?.lease != record.lease,
            let job = jobs[record.jobSequence]
        else { return }
        try require(!job.status.isHeld, "held job \(job.id) given out")
        try require(
            before.jobs[record.jobSequence]?.status.state.isFinal != true
                || job.status.generation > before.jobs[record.jobSequence]?.status.generation ?? 0,
            "ended job \(job.id) given out")
        try require(
            job.submission.after.allSatisfy(\.isFulfilled),
            "job \(job.id) given out before those that it comes after")
    }

    private func isLegal(_ before: JobStatus, _ after: JobStatus) -> Bool {
        if before.state == after.state { return true }
        if before.state.isFinal { return after.generation == before.generation + 1 }
        return Self.mayFollow(before.state, after.state)
    }

    /// Whether an unfinished job may go from one state to the other: the picture in docs/states.md.
    static func mayFollow(_ before: JobState, _ after: JobState) -> Bool {
        if after.isFinal { return true }
        switch (before, after) {
        case (_, .held), (.held, _): return true
        case (.splitting, .waiting), (.splitting, .queued), (.splitting, .running): return true
        case (.waiting, .queued), (.waiting, .running): return true
        case (.queued, .running), (.running, .queued): return true
        default: return false
        }
    }

    /// The CHECK constraints of the schema, and counts against rows.
    private func check(_ sequence: Int64) throws {
        guard let job = jobs[sequence] else { return }
        let status = job.status
        let counts = status.counts
        let name = "job \(job.id) (\(status.state))"
        try require((status.finishedAt != nil) == status.state.isFinal, "\(name): finished_at")
        try require(status.state != .running || status.startedAt != nil, "\(name): started_at")
        try require(status.state != .splitting || counts.total == nil, "\(name): total")
        if let total = counts.total {
            try require(
                counts.ended + counts.leased + counts.backoff <= total, "\(name): \(counts)")
            try require(
                !status.state.isFinal || counts.ended == total, "\(name): open tasks at the end")
        }
        let own = tasks.values.filter { $0.jobSequence == sequence }
        try require(
            counts.leased == own.count { $0.state == .leased }, "\(name): leased \(counts.leased)")
        try require(
            counts.backoff == own.count { $0.state == .backoff },
            "\(name): backoff \(counts.backoff)")
        let rows = (resultsByJob[sequence] ?? []).filter { $0.generation == status.generation }
        try require(
            rows.count { $0.state == .done } <= counts.done
                && rows.count { $0.state == .dead } == counts.dead,
            "\(name): done \(counts.done), rows \(rows.count)")
    }

    // MARK: Questions

    var snapshot: Snapshot {
        var snapshot = Snapshot()
        snapshot.jobs = jobs.values.filter { !$0.status.state.isFinal }
            .sorted { $0.sequence < $1.sequence }
        let open = Set(snapshot.jobs.map(\.sequence))
        snapshot.tasks = tasks.values.filter { open.contains($0.jobSequence) }
            .sorted { ($0.jobSequence, $0.id.index) < ($1.jobSequence, $1.id.index) }
        snapshot.artifacts = artifacts.values.sorted {
            ($0.name, $0.version) < ($1.name, $1.version)
        }
        snapshot.artifactVersions = lastVersions
        let ended = jobs.values.filter { $0.status.state.isFinal }
        for job in ended { snapshot.endedJobs[job.status.state, default: 0] += 1 }
        snapshot.greatestEndedJob = (ended.map(\.id) + tombstones).max()
        snapshot.tombstonesSince = tombstonesSince
        snapshot.nextJobSequence = (jobs.keys.max() ?? 0) + 1
        snapshot.nextEventNumber = (events.last?.number ?? 0) + 1
        return snapshot
    }

    func job(_ id: JobID) -> JobRecord? { sequences[id].flatMap { jobs[$0] } }

    /// As `DurableJobStore.pendingLines`.
    func pendingLines(_ request: LineRequest) -> (lines: [(index: Int, attempts: Int)], next: Int) {
        var lines: [(index: Int, attempts: Int)] = []
        var index = request.from
        let rows = Dictionary(grouping: resultsByJob[request.jobSequence] ?? []) { $0.task.index }
        let begun = Dictionary(grouping: attempts.filter { $0.task.job == request.job }) {
            $0.task.index
        }
        while index < request.total, lines.count < request.limit {
            let own = rows[index] ?? []
            let isEnded = own.contains {
                $0.generation == 0 || $0.generation == request.generation
                    || (request.scope == .failed && $0.state == .done
                        && $0.generation >= request.since)
            }
            if !isEnded {
                let numbers = own.map(\.attempt) + (begun[index] ?? []).map(\.attempt)
                lines.append((index, numbers.max() ?? 0))
            }
            index += 1
        }
        return (lines, index)
    }
}
