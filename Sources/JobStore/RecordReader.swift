import BrokerCore
import GRDB
import JSONModel

/// Turns rows back into records. What cannot be read is an error that names the row: never a default in its place.
enum RecordReader {
    static let jobColumns =
        """
        sequence, id, kind, spec, digest, lines_blob, priority, tenant, label, maximum_seconds, strict, cost,
        memory_bytes, created_at, \(statusColumns.joined(separator: ", ")), worker
        """

    /// Jobs of a query over `jobs`, with all that hangs on them.
    static func jobs(
        _ database: Database, _ condition: String, _ arguments: StatementArguments = []
    ) throws -> [JobRecord] {
        var records: [JobRecord] = []
        let rows = try Row.fetchCursor(
            database, sql: "SELECT \(jobColumns) FROM jobs \(condition)", arguments: arguments)
        while let row = try rows.next() { records.append(try job(row)) }
        try fillChildren(database, &records)
        return records
    }

    private static func broken(_ what: String, _ row: Row) -> StoreError {
        StoreError(
            .readFailed, "the database holds \(what) that cannot be read: \(row.description)")
    }

    private static func job(_ row: Row) throws -> JobRecord {
        guard let id = JobID(text: row[1] as String), let digest = Digest(text: row[4] as String),
            let state = JobState(rawValue: row[14])
        else { throw broken("a job", row) }
        var shape = JobShape.single
        if let text = row[5] as String? {
            guard let blob = Digest(text: text) else { throw broken("a job", row) }
            shape = .lines(blob: blob)
        }
        var submission = Submission(
            id: id, kind: row[2], spec: Array((row[3] as String).utf8), digest: digest,
            shape: shape)
        submission.priority = row[6]
        submission.tenant = row[7]
        submission.label = row[8]
        submission.maximumSeconds = row[9]
        submission.isStrict = row[10]
        submission.cost = row[11]
        submission.memoryBytes = row[12]
        var counts = JobCounts(total: row[16])
        counts.leased = row[17]
        counts.backoff = row[18]
        counts.done = row[19]
        counts.failed = row[20]
        counts.cancelled = row[21]
        counts.dead = row[22]
        var status = JobStatus(state: state, counts: counts, allowsAnyNumerics: row[30])
        status.isHeld = row[15]
        status.startedAt = row[23]
        status.finishedAt = row[24]
        status.generation = row[25]
        status.retryScope = (row[26] as String?).flatMap(RetryScope.init)
        status.firstOpenLine = row[27]
        status.resultCount = row[28]
        status.numerics = row[29]
        status.attempts = row[31]
        status.workedNanoseconds = row[32]
        status.error = try brokerError(row[33])
        status.usage = try numbers(row[34])
        status.metrics = try numbers(row[35])
        status.badLines = row[36]
        status.wholeGeneration = row[37]
        submission.worker = row[38]
        submission.allowsAnyNumerics = status.allowsAnyNumerics
        return JobRecord(
            submission: submission, sequence: row[0], createdAt: row[13], status: status)
    }

    private static func fillChildren(_ database: Database, _ records: inout [JobRecord]) throws {
        guard let first = records.map(\.sequence).min(), let last = records.map(\.sequence).max()
        else { return }
        var places: [Int64: Int] = [:]
        for (place, record) in records.enumerated() { places[record.sequence] = place }
        // Few: one question each. Many: one walk over the range that they span.
        let isFew = records.count <= 64
        func each(_ table: String, _ order: String, _ take: (Row, Int) throws -> Void) throws {
            if isFew {
                let statement = try database.cachedStatement(
                    sql: "SELECT * FROM \(table) WHERE job = ? ORDER BY \(order)")
                for record in records {
                    guard let place = places[record.sequence] else { continue }
                    let rows = try Row.fetchCursor(statement, arguments: [record.sequence])
                    while let row = try rows.next() { try take(row, place) }
                }
            } else {
                let rows = try Row.fetchCursor(
                    database,
                    sql: "SELECT * FROM \(table) WHERE job BETWEEN ? AND ? ORDER BY job, \(order)",
                    arguments: [first, last])
                while let row = try rows.next() {
                    if let place = places[row[0]] { try take(row, place) }
                }
            }
        }
        try each("job_inputs", "position") { row, place in
            guard let blob = Digest(text: row[3] as String) else { throw broken("an input", row) }
            records[place].submission.inputs.append(
                JobInput(name: row[2], blob: blob, bytes: row[4]))
        }
        try each("dependencies", "position") { row, place in
            records[place].submission.after.append(try dependency(row))
        }
        try each("products", "position") { row, place in
            records[place].submission.produces.append(
                ProducedArtifact(type: row[2], name: row[3]))
        }
        try each("bindings", "spec_position IS NULL, spec_position") { row, place in
            let reference: String = row[1]
            var key: ArtifactKey?
            if let name = row[3] as String?, let version = row[4] as Int? {
                key = ArtifactKey(name: name, version: version)
            }
            records[place].bindings[reference] = .some(key)
            if (row[2] as Int?) != nil {
                records[place].submission.references.append(reference)
            } else if !records[place].submission.shape.isLines {
                records[place].submission.optionalReferences.append(reference)
            }
        }
    }

    private static func dependency(_ row: Row) throws -> Dependency {
        guard let other = JobID(text: row[2] as String), let mode = DependencyMode(rawValue: row[3])
        else { throw broken("a dependency", row) }
        var condition: DependencyCondition?
        if let metric = row[4] as String? {
            guard let comparison = ComparisonOperator(rawValue: row[5]),
                let value = row[6] as Double?
            else { throw broken("a condition", row) }
            condition = DependencyCondition(metric: metric, comparison: comparison, value: value)
        }
        var dependency = Dependency(job: other, mode: mode, condition: condition)
        dependency.isFulfilled = row[7]
        dependency.told = try toldMetrics(row[8])
        if let text = row[9] as String? {
            guard let state = JobState(rawValue: text) else { throw broken("an outcome", row) }
            dependency.outcome = DependencyOutcome(
                state: state, metrics: try numbers(row[10]), error: try brokerError(row[11]))
        }
        return dependency
    }

    /// A row of `tasks.*`, then the job's id.
    static func task(_ row: Row) throws -> TaskRecord {
        guard let job = JobID(text: row[17] as String), let state = TaskState(rawValue: row[3])
        else { throw broken("a task", row) }
        let references = (row[16] as String?)?.split(separator: "\n").map(String.init) ?? []
        var record = TaskRecord(
            id: TaskID(job: job, index: row[1]), jobSequence: row[0], generation: row[2],
            state: state, attempt: row[4], cost: row[12], references: references)
        if let text = row[5] as String? {
            guard let lease = Token(text: text) else { throw broken("a lease", row) }
            record.lease = lease
        }
        record.worker = row[6]
        record.leasedAt = row[7]
        record.backoffMilliseconds = row[8]
        record.failures = try failureCounts(row[9])
        record.isSuspect = row[10]
        record.customID = row[11]
        if let offset = row[13] as Int64?, let length = row[14] as Int32?,
            let number = row[15] as Int64?
        {
            record.location = LineLocation(offset: offset, length: length, number: number)
        }
        return record
    }

    /// A row of `results.*`.
    static func result(_ row: Row, job: JobID) throws -> ResultRecord {
        guard let state = TaskState(rawValue: row[4]) else { throw broken("a result", row) }
        var record = ResultRecord(
            task: TaskID(job: job, index: row[2]), jobSequence: row[0], generation: row[3],
            order: row[1], state: state, attempt: row[5], finishedAt: row[13])
        record.worker = row[6]
        if let segment = row[7] as Int32?, let offset = row[8] as Int64?,
            let length = row[9] as Int32?
        {
            record.location = ResultLocation(segment: segment, offset: offset, length: length)
        }
        record.error = try brokerError(row[10])
        record.customID = row[11]
        record.lineNumber = row[12]
        return record
    }

    /// A row of `attempts.*`.
    static func attempt(_ row: Row, job: JobID) throws -> AttemptRecord {
        var record = AttemptRecord(
            task: TaskID(job: job, index: row[1]), jobSequence: row[0], attempt: row[2],
            generation: row[3], worker: row[4], pid: row[5], leasedAt: row[6], endedAt: row[7],
            outcome: row[8])
        record.error = try brokerError(row[9])
        record.companions = row[10]
        if let log = row[14] as String? {
            var status = ProcessExit.Status.unknown
            if let code = row[11] as Int32? { status = .exited(code) }
            if let signal = row[12] as Int32? { status = .signaled(signal) }
            record.exit = ProcessExit(
                instance: record.worker, pid: record.pid ?? 0, status: status, peakBytes: row[13],
                lastLog: log)
        }
        return record
    }

    /// A row of `artifacts.*`.
    static func artifact(_ row: Row) throws -> ArtifactRecord {
        guard let digest = Digest(text: row[3] as String) else { throw broken("an artifact", row) }
        var record = ArtifactRecord(
            type: row[2], name: row[0], version: row[1], digest: digest, bytes: row[4],
            path: row[5], meta: Array((row[6] as String).utf8), createdAt: row[7])
        record.job = (row[8] as String?).flatMap { JobID(text: $0) }
        record.parentVersion = row[9]
        return record
    }

    /// A row of `events.*`.
    static func event(_ row: Row) -> BrokerEvent {
        var event = BrokerEvent(type: row[1], at: row[2])
        event.number = row[0]
        event.job = (row[3] as String?).flatMap { JobID(text: $0) }
        event.task = row[4]
        event.attempt = row[5]
        event.worker = row[6]
        event.artifact = row[7]
        event.code = row[8]
        event.message = row[9]
        return event
    }

    static func snapshot(_ database: Database) throws -> Snapshot {
        var snapshot = Snapshot()
        let final = "('succeeded', 'failed', 'cancelled', 'skipped', 'dependency_failed')"
        let open = "('splitting', 'waiting', 'queued', 'running', 'held')"
        snapshot.jobs = try jobs(database, "WHERE state IN \(open) ORDER BY sequence")
        let tasks = try Row.fetchCursor(
            database,
            sql:
                "SELECT tasks.*, jobs.id FROM tasks JOIN jobs ON jobs.sequence = tasks.job ORDER BY job, line"
        )
        while let row = try tasks.next() { snapshot.tasks.append(try task(row)) }
        let artifacts = try Row.fetchCursor(
            database, sql: "SELECT * FROM artifacts ORDER BY name, version")
        var places: [ArtifactKey: Int] = [:]
        while let row = try artifacts.next() {
            let record = try artifact(row)
            places[record.key] = snapshot.artifacts.count
            snapshot.artifacts.append(record)
        }
        for row in try Row.fetchAll(database, sql: "SELECT * FROM artifact_tags ORDER BY name, tag")
        {
            if let place = places[ArtifactKey(name: row[0], version: row[2])] {
                snapshot.artifacts[place].tags.append(row[1])
            }
        }
        for row in try Row.fetchAll(database, sql: "SELECT * FROM artifact_names") {
            snapshot.artifactVersions[row[0]] = row[1]
        }
        let counts = try Row.fetchAll(
            database,
            sql: "SELECT state, count(*) FROM jobs WHERE state IN \(final) GROUP BY state")
        for row in counts {
            if let state = JobState(rawValue: row[0]) { snapshot.endedJobs[state] = row[1] }
        }
        let greatest = [
            try String.fetchOne(
                database,
                sql: "SELECT id FROM jobs WHERE finished_at IS NOT NULL ORDER BY id DESC LIMIT 1"),
            try String.fetchOne(database, sql: "SELECT max(id) FROM tombstones"),
        ]
        snapshot.greatestEndedJob = greatest.compactMap { $0.flatMap { JobID(text: $0) } }.max()
        snapshot.tombstonesSince =
            try Int64.fetchOne(
                database, sql: "SELECT value FROM meta WHERE name = 'tombstones_since'")
            ?? 0
        // Pruned jobs had lower sequences, but the newest may be pruned too.
        let last = try Int64.fetchOne(database, sql: "SELECT max(sequence) FROM jobs") ?? 0
        let kept =
            try Int64.fetchOne(database, sql: "SELECT value FROM meta WHERE name = 'last_sequence'")
            ?? 0
        snapshot.nextJobSequence = max(last, kept) + 1
        let number = try Int64.fetchOne(database, sql: "SELECT max(number) FROM events") ?? 0
        snapshot.nextEventNumber = number + 1
        return snapshot
    }
}
