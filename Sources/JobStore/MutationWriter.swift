import BrokerCore
import Foundation
import GRDB

/// Turns mutations into rows. Lives on the writing thread, inside its transactions.
final class MutationWriter {
    private var insertJobRow: PreparedWrite
    private var updateJobRow: PreparedWrite
    private var insertInput: PreparedWrite
    private var insertDependency: PreparedWrite
    private var fulfillDependency: PreparedWrite
    private var insertProduct: PreparedWrite
    private var putBinding: PreparedWrite
    private var insertTombstone: PreparedWrite
    private var deleteJob: PreparedWrite
    private var putBlock: PreparedWrite
    private var putTask: PreparedWrite
    private var deleteTask: PreparedWrite
    private var putAttempt: PreparedWrite
    private var insertResult: PreparedWrite
    private var insertEvent: PreparedWrite
    private var trimEvents: PreparedWrite
    private let database: Database
    private let eventHistory: Int64
    private var nextTrim: Int64 = 0

    init(_ database: Database, eventHistory: Int) throws {
        self.database = database
        self.eventHistory = Int64(eventHistory)
        func prepare(_ sql: String) throws -> PreparedWrite { try PreparedWrite(database, sql) }
        func marks(_ count: Int) -> String {
            Array(repeating: "?", count: count).joined(separator: ",")
        }
        insertJobRow = try prepare(
            """
            INSERT INTO jobs (sequence, id, kind, spec, digest, lines_blob, priority, tenant, label, maximum_seconds,
            strict, cost, memory_bytes, worker, created_at, \(statusColumns.joined(separator: ", ")))
            VALUES (\(marks(15 + statusColumns.count)))
            """)
        updateJobRow = try prepare(
            "UPDATE jobs SET \(statusColumns.map { "\($0) = ?" }.joined(separator: ", ")) WHERE sequence = ?"
        )
        insertInput = try prepare("INSERT INTO job_inputs VALUES (\(marks(5)))")
        insertDependency = try prepare("INSERT INTO dependencies VALUES (\(marks(12)))")
        fulfillDependency = try prepare(
            """
            UPDATE dependencies SET fulfilled = 1, outcome_state = ?, outcome_metrics = ?, outcome_error = ?
            WHERE job = ? AND position = ?
            """)
        insertProduct = try prepare("INSERT INTO products VALUES (\(marks(4)))")
        putBinding = try prepare(
            """
            INSERT INTO bindings VALUES (\(marks(5)))
            ON CONFLICT (job, reference) DO UPDATE SET name = excluded.name, version = excluded.version
            """)
        insertTombstone = try prepare(
            "INSERT OR REPLACE INTO tombstones SELECT id, ? FROM jobs WHERE id = ?")
        deleteJob = try prepare("DELETE FROM jobs WHERE id = ?")
        putBlock = try prepare("INSERT OR REPLACE INTO line_blocks VALUES (\(marks(5)))")
        putTask = try prepare("INSERT OR REPLACE INTO tasks VALUES (\(marks(17)))")
        deleteTask = try prepare("DELETE FROM tasks WHERE job = ? AND line = ?")
        putAttempt = try prepare("INSERT OR REPLACE INTO attempts VALUES (\(marks(15)))")
        insertResult = try prepare("INSERT INTO results VALUES (\(marks(14)))")
        insertEvent = try prepare("INSERT INTO events VALUES (\(marks(10)))")
        trimEvents = try prepare("DELETE FROM events WHERE number <= ?")
    }

    /// Applies all, in order; of several updates of one job only the last, in its place.
    func apply(_ mutations: [Mutation]) throws {
        var lastUpdate: [Int64: Int] = [:]
        for (place, mutation) in mutations.enumerated() {
            if case .updateJob(let sequence, _, _) = mutation { lastUpdate[sequence] = place }
        }
        for (place, mutation) in mutations.enumerated() {
            if case .updateJob(let sequence, _, _) = mutation, lastUpdate[sequence] != place {
                continue
            }
            try apply(mutation)
        }
    }

    private func apply(_ mutation: Mutation) throws {
        switch mutation {
        case .insertJob(let record): try insert(record)
        case .updateJob(let sequence, _, let status):
            bind(status, to: &updateJobRow)
            updateJobRow.bind(sequence)
            try updateJobRow.run()
        case .reopenDependency(let job, let position):
            try execute(
                """
                UPDATE dependencies SET fulfilled = 0, outcome_state = NULL, outcome_metrics = NULL, outcome_error = NULL
                WHERE job = ? AND position = ?
                """, [job, position])
        case .fulfillDependency(let job, let position, let outcome):
            bind(outcome, to: &fulfillDependency)
            fulfillDependency.bind(job)
            fulfillDependency.bind(position)
            try fulfillDependency.run()
        case .bind(let job, let reference, let key): try bind(job, reference, nil, key)
        case .pruneJob(let id, let wall):
            // The newest job may go: its sequence is not to be used again.
            try execute(
                """
                INSERT INTO meta SELECT 'last_sequence', max(sequence) FROM jobs WHERE true
                ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)
                """, [])
            insertTombstone.bind(wall)
            insertTombstone.bind(id.text)
            try insertTombstone.run()
            deleteJob.bind(id.text)
            try deleteJob.run()
        case .forgetTombstones(let before):
            let bound = JobID(high: UInt64(max(0, before)) << 16, low: 0).text
            try execute("DELETE FROM tombstones WHERE id < ?", [bound])
            try execute("INSERT OR REPLACE INTO meta VALUES ('tombstones_since', ?)", [before])
        case .insertLineBlocks(let job, let blocks): try insert(blocks, job)
        case .clearSplit(let job):
            try execute("DELETE FROM line_blocks WHERE job = ?", [job])
            try execute("DELETE FROM results WHERE job = ?", [job])
        case .putTask(let record): try put(record)
        case .deleteTask(let id, let job):
            deleteTask.bind(job)
            deleteTask.bind(id.index)
            try deleteTask.run()
        case .insertAttempt(let record): try put(record)
        case .insertResult(let record): try insert(record)
        case .insertArtifact(let record): try insert(record)
        case .deleteArtifact(let key):
            try execute(
                "DELETE FROM artifacts WHERE name = ? AND version = ?", [key.name, key.version])
        case .setTag(let name, let tag, let version?):
            try execute(
                "INSERT OR REPLACE INTO artifact_tags VALUES (?, ?, ?)", [name, tag, version])
        case .setTag(let name, let tag, nil):
            try execute("DELETE FROM artifact_tags WHERE name = ? AND tag = ?", [name, tag])
        case .appendEvent(let event): try insert(event)
        case .keepLines(let kept):
            try execute(
                "INSERT INTO kept_lines VALUES (?, ?, ?, ?, ?)",
                [kept.number, kept.job.text, kept.segment, kept.offset, Data(kept.bytes)])
        case .dropLines(let last):
            try execute("DELETE FROM kept_lines WHERE number <= ?", [last])
        case .putBlob(let digest, let bytes, let wall):
            try execute(
                "INSERT OR REPLACE INTO blobs VALUES (?, ?, ?)", [digest.text, bytes, wall])
        case .deleteBlob(let digest):
            try execute("DELETE FROM blobs WHERE digest = ?", [digest.text])
        case .putProcess(let record):
            try execute(
                "INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?, ?, ?)",
                [
                    record.instance, record.plugin, record.pid,
                    Int64(bitPattern: record.startTicks),
                    record.logPath, record.startedAt,
                ])
        case .deleteProcess(let instance):
            try execute("DELETE FROM processes WHERE instance = ?", [instance])
        }
    }

    /// For what happens seldom.
    private func execute(_ sql: String, _ arguments: StatementArguments) throws {
        try database.cachedStatement(sql: sql).execute(arguments: arguments)
    }

    // MARK: Jobs

    private func insert(_ record: JobRecord) throws {
        let submission = record.submission
        insertJobRow.bind(record.sequence)
        insertJobRow.bind(record.id.text)
        insertJobRow.bind(submission.kind)
        insertJobRow.bind(text: submission.spec)
        insertJobRow.bind(submission.digest.text)
        if case .lines(let blob) = submission.shape {
            insertJobRow.bind(blob.text)
        } else {
            insertJobRow.bind(nil as String?)
        }
        insertJobRow.bind(submission.priority)
        insertJobRow.bind(submission.tenant)
        insertJobRow.bind(submission.label)
        insertJobRow.bind(submission.maximumSeconds)
        insertJobRow.bind(submission.isStrict)
        insertJobRow.bind(submission.cost)
        insertJobRow.bind(submission.memoryBytes)
        insertJobRow.bind(submission.worker)
        insertJobRow.bind(record.createdAt)
        bind(record.status, to: &insertJobRow)
        try insertJobRow.run()
        for (position, input) in submission.inputs.enumerated() {
            insertInput.bind(record.sequence)
            insertInput.bind(position)
            insertInput.bind(input.name)
            insertInput.bind(input.blob.text)
            insertInput.bind(input.bytes)
            try insertInput.run()
        }
        for (position, dependency) in submission.after.enumerated() {
            insertDependency.bind(record.sequence)
            insertDependency.bind(position)
            insertDependency.bind(dependency.job.text)
            insertDependency.bind(dependency.mode.rawValue)
            insertDependency.bind(dependency.condition?.metric)
            insertDependency.bind(dependency.condition?.comparison.rawValue)
            insertDependency.bind(dependency.condition?.value)
            insertDependency.bind(dependency.isFulfilled)
            insertDependency.bind(toldText(dependency.told))
            bind(dependency.outcome, to: &insertDependency)
            try insertDependency.run()
        }
        for (position, produced) in submission.produces.enumerated() {
            insertProduct.bind(record.sequence)
            insertProduct.bind(position)
            insertProduct.bind(produced.type)
            insertProduct.bind(produced.name)
            try insertProduct.run()
        }
        for (reference, key) in record.bindings {
            let position = submission.references.firstIndex(of: reference)
            try bind(record.sequence, reference, position, key)
        }
    }

    private func bind(_ outcome: DependencyOutcome?, to statement: inout PreparedWrite) {
        statement.bind(outcome?.state.rawValue)
        statement.bind(numbersText(outcome?.metrics ?? [:]))
        statement.bind(errorText(outcome?.error))
    }

    private func bind(_ status: JobStatus, to statement: inout PreparedWrite) {
        statement.bind(status.state.rawValue)
        statement.bind(status.isHeld)
        statement.bind(status.counts.total)
        statement.bind(status.counts.leased)
        statement.bind(status.counts.backoff)
        statement.bind(status.counts.done)
        statement.bind(status.counts.failed)
        statement.bind(status.counts.cancelled)
        statement.bind(status.counts.dead)
        statement.bind(status.startedAt)
        statement.bind(status.finishedAt)
        statement.bind(status.generation)
        statement.bind(status.retryScope?.rawValue)
        statement.bind(status.firstOpenLine)
        statement.bind(status.resultCount)
        statement.bind(status.numerics)
        statement.bind(status.allowsAnyNumerics)
        statement.bind(status.attempts)
        statement.bind(status.workedNanoseconds)
        statement.bind(errorText(status.error))
        statement.bind(numbersText(status.usage))
        statement.bind(numbersText(status.metrics))
        statement.bind(status.badLines)
        statement.bind(status.wholeGeneration)
    }

    private func bind(
        _ job: Int64, _ reference: String, _ position: Int?, _ key: ArtifactKey?
    ) throws {
        putBinding.bind(job)
        putBinding.bind(reference)
        putBinding.bind(position)
        putBinding.bind(key?.name)
        putBinding.bind(key?.version)
        try putBinding.run()
    }

    private func insert(_ blocks: [LineBlock], _ job: Int64) throws {
        for block in blocks {
            putBlock.bind(job)
            putBlock.bind(block.firstIndex)
            putBlock.bind(block.offset)
            putBlock.bind(block.firstNumber)
            putBlock.bind(block.count)
            try putBlock.run()
        }
    }

    // MARK: Tasks

    private func put(_ record: TaskRecord) throws {
        putTask.bind(record.jobSequence)
        putTask.bind(record.id.index)
        putTask.bind(record.generation)
        putTask.bind(record.state.rawValue)
        putTask.bind(record.attempt)
        putTask.bind(record.lease?.text)
        putTask.bind(record.worker)
        putTask.bind(record.leasedAt)
        putTask.bind(record.backoffMilliseconds)
        putTask.bind(failuresText(record.failures))
        putTask.bind(record.isSuspect)
        putTask.bind(record.customID)
        putTask.bind(record.cost)
        putTask.bind(record.location?.offset)
        putTask.bind(record.location?.length)
        putTask.bind(record.location?.number)
        putTask.bind(record.references.isEmpty ? nil : record.references.joined(separator: "\n"))
        try putTask.run()
    }

    private func put(_ record: AttemptRecord) throws {
        putAttempt.bind(record.jobSequence)
        putAttempt.bind(record.task.index)
        putAttempt.bind(record.attempt)
        putAttempt.bind(record.generation)
        putAttempt.bind(record.worker)
        putAttempt.bind(record.pid)
        putAttempt.bind(record.leasedAt)
        putAttempt.bind(record.endedAt)
        putAttempt.bind(record.outcome)
        putAttempt.bind(errorText(record.error))
        putAttempt.bind(record.companions)
        switch record.exit?.status {
        case .exited(let code):
            putAttempt.bind(code)
            putAttempt.bind(nil as Int32?)
        case .signaled(let signal):
            putAttempt.bind(nil as Int32?)
            putAttempt.bind(signal)
        case .unknown, nil:
            putAttempt.bind(nil as Int32?)
            putAttempt.bind(nil as Int32?)
        }
        putAttempt.bind(record.exit?.peakBytes)
        putAttempt.bind(record.exit?.lastLog)
        try putAttempt.run()
    }

    private func insert(_ record: ResultRecord) throws {
        insertResult.bind(record.jobSequence)
        insertResult.bind(record.order)
        insertResult.bind(record.task.index)
        insertResult.bind(record.generation)
        insertResult.bind(record.state.rawValue)
        insertResult.bind(record.attempt)
        insertResult.bind(record.worker)
        insertResult.bind(record.location?.segment)
        insertResult.bind(record.location?.offset)
        insertResult.bind(record.location?.length)
        insertResult.bind(errorText(record.error))
        insertResult.bind(record.customID)
        insertResult.bind(record.lineNumber)
        insertResult.bind(record.finishedAt)
        try insertResult.run()
    }

    // MARK: Artifacts, events

    private func insert(_ record: ArtifactRecord) throws {
        try execute(
            "INSERT INTO artifacts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                record.name, record.version, record.type, record.digest.text, record.bytes,
                record.path, String(decoding: record.meta, as: UTF8.self), record.createdAt,
                record.job?.text, record.parentVersion,
            ])
        try execute(
            """
            INSERT INTO artifact_names VALUES (?, ?)
            ON CONFLICT (name) DO UPDATE SET last_version = max(last_version, excluded.last_version)
            """, [record.name, record.version])
        for tag in record.tags {
            try execute(
                "INSERT OR REPLACE INTO artifact_tags VALUES (?, ?, ?)",
                [record.name, tag, record.version])
        }
    }

    private func insert(_ event: BrokerEvent) throws {
        let number = event.number ?? 0
        insertEvent.bind(number)
        insertEvent.bind(event.type)
        insertEvent.bind(event.at)
        insertEvent.bind(event.job?.text)
        insertEvent.bind(event.task)
        insertEvent.bind(event.attempt)
        insertEvent.bind(event.worker)
        insertEvent.bind(event.artifact)
        insertEvent.bind(event.code)
        insertEvent.bind(event.message)
        try insertEvent.run()
        // A thousand at a time: a bounded history at next to no cost.
        guard number >= nextTrim else { return }
        nextTrim = number + max(1, eventHistory / 100)
        trimEvents.bind(number - eventHistory)
        try trimEvents.run()
    }
}

/// The columns of `jobs` that change, in the order in which they are bound and read.
let statusColumns = [
    "state", "held", "total", "leased", "backoff", "done", "failed", "cancelled", "dead",
    "started_at", "finished_at", "generation", "retry_scope", "first_open_line", "result_count",
    "numerics", "any_numerics", "attempts", "worked_ns", "error", "usage", "metrics", "bad_lines",
    "whole_generation",
]
