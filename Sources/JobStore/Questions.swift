import BrokerCore
import GRDB

/// Which jobs `listJobs` lists; nil: any.
public struct JobFilter: Sendable, Equatable {
    public var state: JobState?
    public var kind: String?
    public var tenant: String?
    public var label: String?

    public init() {}
}

/// A question for accepted results.
public struct ResultQuery: Sendable, Equatable {
    public enum Stream: Sendable { case results, errors, all }
    public enum Order: Sendable { case completion, input }

    public var job: JobID
    public var stream: Stream
    public var order: Order
    /// `next` of the page before; 0: from the beginning.
    public var after: Int64
    public var limit: Int

    public init(job: JobID, stream: Stream, order: Order, after: Int64 = 0, limit: Int) {
        self.job = job
        self.stream = stream
        self.order = order
        self.after = after
        self.limit = limit
    }
}

/// A page of results. In input order it ends before the first line that has not ended, while the job runs.
public struct ResultPage: Sendable, Equatable {
    public var results: [ResultRecord] = []
    public var next: Int64 = 0
    /// Nothing will follow: the job has ended and this page reaches its end.
    public var isComplete = false
}

/// The jobs that a selector means, newest first.
public struct SelectedJobs: Sendable, Equatable {
    public enum Match: Sendable { case none, all, last, id, label, partOfID }
    public var match: Match
    public var ids: [JobID]
}

/// Lines to be run again or for the first time.
public struct PendingLines: Sendable, Equatable {
    public var lines: [PendingLine] = []
    /// Where to go on; the file's line count when there is nothing more.
    public var next = 0
    /// The blocks that these lines lie in.
    public var blocks: [LineBlock] = []
}

public struct PendingLine: Sendable, Equatable {
    public var index: Int
    /// Attempts that earlier generations began.
    public var previousAttempts: Int
}

/// Each answers from what is committed when it runs.
extension DurableJobStore {
    /// Jobs by id, for `Event.jobsFound`: those stored, and those of the rest that were pruned.
    public func findJobs(
        _ ids: [JobID], completion: @escaping Completion<(found: [JobRecord], pruned: [JobID])>
    ) {
        read(completion) { database in
            var found: [JobRecord] = []
            var pruned: [JobID] = []
            let tombstone = try database.cachedStatement(
                sql: "SELECT 1 FROM tombstones WHERE id = ?")
            for id in ids {
                if let job = try RecordReader.jobs(database, "WHERE id = ?", [id.text]).first {
                    found.append(job)
                } else if try Int.fetchOne(tombstone, arguments: [id.text]) != nil {
                    pruned.append(id)
                }
            }
            return (found, pruned)
        }
    }

    /// Newest first. `after` is the `sequence` of the last job of the page before.
    public func listJobs(
        _ filter: JobFilter, after: Int64?, limit: Int,
        completion: @escaping Completion<[JobRecord]>
    ) {
        read(completion) { database in
            var conditions: [String] = []
            var arguments: [(any DatabaseValueConvertible)?] = []
            func require(_ column: String, _ value: String?) {
                guard let value else { return }
                conditions.append("\(column) = ?")
                arguments.append(value)
            }
            require("state", filter.state?.rawValue)
            require("kind", filter.kind)
            require("tenant", filter.tenant)
            require("label", filter.label)
            if let after {
                conditions.append("sequence < ?")
                arguments.append(after)
            }
            let clause =
                conditions.isEmpty ? "" : "WHERE " + conditions.joined(separator: " AND ")
            arguments.append(max(0, limit))
            return try RecordReader.jobs(
                database, "\(clause) ORDER BY sequence DESC LIMIT ?", StatementArguments(arguments))
        }
    }

    /// What a selector means: an id, its unique beginning or end, `last`, `all`, a label. A label goes before a part of
    /// an id. More than one job for a beginning or end: it was not unique.
    public func selectJobs(
        _ selector: String, limit: Int, completion: @escaping Completion<SelectedJobs>
    ) {
        read(completion) { database in
            func ids(_ rest: String, _ arguments: [any DatabaseValueConvertible]) throws -> [JobID]
            {
                try String.fetchAll(
                    database, sql: "SELECT id FROM jobs \(rest) LIMIT \(max(1, limit))",
                    arguments: StatementArguments(arguments)
                ).compactMap { JobID(text: $0) }
            }
            switch selector {
            case "": return SelectedJobs(match: .none, ids: [])
            case "all":
                return SelectedJobs(match: .all, ids: try ids("ORDER BY sequence DESC", []))
            case "last":
                let newest = try ids("WHERE sequence = (SELECT max(sequence) FROM jobs)", [])
                return SelectedJobs(match: .last, ids: newest)
            default: break
            }
            let exact = try ids("WHERE id = ?", [selector])
            if !exact.isEmpty { return SelectedJobs(match: .id, ids: exact) }
            let labelled = try ids("WHERE label = ? ORDER BY sequence DESC", [selector])
            if !labelled.isEmpty { return SelectedJobs(match: .label, ids: labelled) }
            guard selector.utf8.allSatisfy({ isIDByte($0) }) else {
                return SelectedJobs(match: .none, ids: [])
            }
            // Every id is lower case hex and dashes, so "g" ends the range of those that begin so.
            var parts = try ids("WHERE id >= ? AND id < ?", [selector, selector + "g"])
            if parts.isEmpty { parts = try ids("WHERE id LIKE ?", ["%" + selector]) }
            return SelectedJobs(match: parts.isEmpty ? .none : .partOfID, ids: parts)
        }
    }

    /// Results after a cursor, at most `limit`.
    public func results(_ query: ResultQuery, completion: @escaping Completion<ResultPage>) {
        read(completion) { database in
            let job = try Row.fetchOne(
                database,
                sql: "SELECT sequence, finished_at IS NOT NULL, generation FROM jobs WHERE id = ?",
                arguments: [query.job.text])
            guard let job else { return ResultPage(next: query.after, isComplete: true) }
            let sequence: Int64 = job[0]
            return switch query.order {
            case .completion:
                try completionPage(database, query, sequence, ended: job[1], generation: job[2])
            case .input: try inputPage(database, query, sequence, ended: job[1])
            }
        }
    }

    /// Lines of a batch that must still be run, for `Action.loadLines`, and the blocks that they lie in.
    public func pendingLines(
        _ request: LineRequest, completion: @escaping Completion<PendingLines>
    ) {
        read(completion) { database in
            var pending = PendingLines()
            pending.next = request.from
            // At most this many lines are looked at per request, so that none takes long.
            let end = min(request.total, request.from + max(request.limit, 20_000))
            let rows = try Row.fetchCursor(
                database,
                sql: """
                    SELECT line, generation, state, attempt FROM results
                    WHERE job = ? AND line >= ? AND line < ? ORDER BY line, generation
                    """, arguments: [request.jobSequence, request.from, end])
            // Numbers of attempts that ended without a result are not used again either.
            var begun: [Int: Int] = [:]
            let ended = try Row.fetchCursor(
                database,
                sql: """
                    SELECT line, max(attempt) FROM attempts
                    WHERE job = ? AND line >= ? AND line < ? GROUP BY line
                    """, arguments: [request.jobSequence, request.from, end])
            while let row = try ended.next() { begun[row[0]] = row[1] }
            var row = try rows.next()
            var index = request.from
            while index < end, pending.lines.count < request.limit {
                var attempts = begun[index] ?? 0
                var isEnded = false
                while let current = row, current[0] as Int == index {
                    attempts = max(attempts, current[3])
                    let isDone = current[2] as String == "done"
                    let generation: Int = current[1]
                    if generation == 0 || generation == request.generation
                        || (isDone && request.scope == .failed && generation >= request.since)
                    {
                        isEnded = true
                    }
                    row = try rows.next()
                }
                if !isEnded {
                    pending.lines.append(PendingLine(index: index, previousAttempts: attempts))
                }
                index += 1
            }
            pending.next = index
            if let first = pending.lines.first?.index, let last = pending.lines.last?.index {
                pending.blocks = try blocks(database, request.jobSequence, first, last)
            }
            return pending
        }
    }

    /// What is known of a task's ended attempts (`index` nil: of all the job's), oldest first.
    public func attempts(
        job: JobID, index: Int?, limit: Int, completion: @escaping Completion<[AttemptRecord]>
    ) {
        read(completion) { database in
            try Row.fetchAll(
                database,
                sql: """
                    SELECT attempts.* FROM attempts JOIN jobs ON jobs.sequence = attempts.job
                    WHERE jobs.id = ? AND (? IS NULL OR line = ?)
                    ORDER BY line, attempt LIMIT ?
                    """, arguments: [job.text, index, index, limit]
            ).map { try RecordReader.attempt($0, job: job) }
        }
    }

    /// Events after a number, oldest first, of one job or of all, and the oldest number that is kept.
    public func events(
        after: Int64, limit: Int, job: JobID?,
        completion: @escaping Completion<(events: [BrokerEvent], oldest: Int64)>
    ) {
        read(completion) { database in
            let events = try Row.fetchAll(
                database,
                sql: """
                    SELECT * FROM events WHERE number > ? AND (? IS NULL OR job = ?)
                    ORDER BY number LIMIT ?
                    """, arguments: [after, job?.text, job?.text, limit]
            ).map(RecordReader.event)
            let oldest = try Int64.fetchOne(database, sql: "SELECT min(number) FROM events")
            return (events, oldest ?? 0)
        }
    }

    /// Ended jobs that ended before `wall` (milliseconds since 1970), oldest first, for `Event.prune`.
    public func prunableJobs(
        endedBefore wall: Int64, limit: Int, completion: @escaping Completion<[EndedJob]>
    ) {
        read(completion) { database in
            try Row.fetchAll(
                database,
                sql: """
                    SELECT id, state FROM jobs WHERE finished_at IS NOT NULL AND finished_at < ?
                    ORDER BY finished_at LIMIT ?
                    """, arguments: [wall, limit]
            ).compactMap { row -> EndedJob? in
                guard let id = JobID(text: row[0] as String),
                    let state = JobState(rawValue: row[1])
                else {
                    return nil
                }
                return EndedJob(id: id, state: state)
            }
        }
    }

    /// Blobs that no job refers to, stored before `wall`.
    public func unreferencedBlobs(
        storedBefore wall: Int64, limit: Int, completion: @escaping Completion<[Digest]>
    ) {
        read(completion) { database in
            try String.fetchAll(
                database,
                sql: """
                    SELECT digest FROM blobs WHERE stored_at < ?
                    AND NOT EXISTS (SELECT 1 FROM job_inputs WHERE blob = digest)
                    AND digest NOT IN (\(Self.blobsOfArtifacts))
                    LIMIT ?
                    """, arguments: [wall, limit]
            ).compactMap { Digest(text: $0) }
        }
    }

    /// Those of `digests` that no job refers to and that were not stored at `wall` or later, known to the store or not.
    public func stillUnneeded(
        _ digests: some Collection<Digest> & Sendable, storedBefore wall: Int64,
        completion: @escaping Completion<[Digest]>
    ) {
        read(completion) { database in
            let needed = try database.cachedStatement(
                sql: """
                    SELECT EXISTS (SELECT 1 FROM blobs WHERE digest = ?1 AND stored_at >= ?2)
                    OR EXISTS (SELECT 1 FROM job_inputs WHERE blob = ?1)
                    """)
            let kept = try Set(String.fetchAll(database, sql: Self.blobsOfArtifacts))
            return try digests.filter {
                try !kept.contains($0.text)
                    && Bool.fetchOne(needed, arguments: [$0.text, wall]) == false
            }
        }
    }

    /// Blobs that an artifact names under `inputs` of its `meta`, by any name: they stay as long as it does.
    private static let blobsOfArtifacts = """
        SELECT input.value FROM artifacts, json_each(artifacts.meta, '$.inputs') AS input
        WHERE input.type = 'text'
        """

    /// Those of `ids` that are no job's (any more).
    public func unknownJobs(
        among ids: [JobID], completion: @escaping Completion<[JobID]>
    ) {
        read(completion) { database in
            let known = try database.cachedStatement(
                sql: "SELECT EXISTS (SELECT 1 FROM jobs WHERE id = ?)")
            return try ids.filter { try Bool.fetchOne(known, arguments: [$0.text]) == false }
        }
    }

    /// The size of a stored blob; nil: not there.
    public func blobBytes(_ digest: Digest, completion: @escaping Completion<Int64?>) {
        read(completion) { database in
            try Int64.fetchOne(
                database, sql: "SELECT bytes FROM blobs WHERE digest = ?", arguments: [digest.text])
        }
    }
}

private func isIDByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
        UInt8(ascii: "-"):
        true
    default: false
    }
}

private func blocks(_ database: Database, _ job: Int64, _ first: Int, _ last: Int) throws
    -> [LineBlock]
{
    try Row.fetchAll(
        database,
        sql: """
            SELECT first_index, byte_offset, first_number, count FROM line_blocks
            WHERE job = ? AND first_index <= ? AND first_index + count > ? ORDER BY first_index
            """, arguments: [job, last, first]
    ).map { LineBlock(firstIndex: $0[0], offset: $0[1], firstNumber: $0[2], count: $0[3]) }
}

private func filter(_ stream: ResultQuery.Stream) -> String {
    switch stream {
    case .results: "AND r.state = 'done'"
    case .errors: "AND r.state != 'done'"
    case .all: ""
    }
}

/// In completion order the cursor is the last result's place. What a later generation ran again is left out.
private func completionPage(
    _ database: Database, _ query: ResultQuery, _ sequence: Int64, ended: Bool, generation: Int
) throws -> ResultPage {
    let newest =
        generation == 1
        ? ""
        : """
        AND NOT EXISTS (SELECT 1 FROM results later WHERE later.job = r.job AND later.line = r.line
        AND later.generation > r.generation)
        """
    let rows = try Row.fetchAll(
        database,
        sql: """
            SELECT r.* FROM results r WHERE r.job = ? AND r.ord > ? \(filter(query.stream)) \(newest)
            ORDER BY r.ord LIMIT ?
            """, arguments: [sequence, query.after, query.limit])
    var page = ResultPage()
    page.results = try rows.map { try RecordReader.result($0, job: query.job) }
    page.next = page.results.last?.order ?? query.after
    page.isComplete = ended && page.results.count < query.limit
    return page
}

/// In input order the cursor is the count of lines that are behind. Of each line the newest generation counts.
private func inputPage(
    _ database: Database, _ query: ResultQuery, _ sequence: Int64, ended: Bool
) throws -> ResultPage {
    let rows = try Row.fetchCursor(
        database,
        sql: """
            SELECT r.* FROM results r INDEXED BY results_by_line WHERE r.job = ? AND r.line >= ?
            ORDER BY r.line, r.generation DESC
            """, arguments: [sequence, query.after])
    var page = ResultPage()
    page.next = query.after
    var looked = 0
    var previous: Int?
    while let row = try rows.next() {
        let line: Int = row[2]
        if line == previous { continue }
        // While the job runs, a gap is a line that will still come.
        if !ended, Int64(line) != page.next { return page }
        guard page.results.count < query.limit, looked < 50_000 else { return page }
        looked += 1
        previous = line
        page.next = Int64(line) + 1
        let isDone = row[4] as String == "done"
        if query.stream == .all || isDone == (query.stream == .results) {
            page.results.append(try RecordReader.result(row, job: query.job))
        }
    }
    page.isComplete = ended
    return page
}
