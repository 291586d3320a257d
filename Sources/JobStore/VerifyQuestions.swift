import BrokerCore
import GRDB

/// What the store knows of a stretch of a job's lines: all that `VERIFY` compares with the files.
public struct LineLedger: Sendable {
    public var job: JobRecord
    /// In order, all that reach into the stretch, and the one after it.
    public var blocks: [LineBlock] = []
    /// All generations' results of its lines, by line and then generation.
    public var results: [ResultRecord] = []
}

extension DurableJobStore {
    /// The ledger of the lines from `from` on, at most `limit`; nil if there is no such job.
    public func lineLedger(
        of id: JobID, from: Int, limit: Int, completion: @escaping Completion<LineLedger?>
    ) {
        read(completion) { database in
            guard let job = try RecordReader.jobs(database, "WHERE id = ?", [id.text]).first else {
                return nil
            }
            var ledger = LineLedger(job: job)
            ledger.blocks = try Row.fetchAll(
                database,
                sql: """
                    SELECT first_index, byte_offset, first_number, count FROM line_blocks
                    WHERE job = ? AND first_index <= ? AND first_index + count > ?
                    ORDER BY first_index
                    """, arguments: [job.sequence, from + limit, from]
            ).map { LineBlock(firstIndex: $0[0], offset: $0[1], firstNumber: $0[2], count: $0[3]) }
            ledger.results = try Row.fetchAll(
                database,
                sql: """
                    SELECT * FROM results INDEXED BY results_by_line
                    WHERE job = ? AND line >= ? AND line < ? ORDER BY line, generation
                    """, arguments: [job.sequence, from, from + limit]
            ).map { try RecordReader.result($0, job: id) }
            return ledger
        }
    }
}
