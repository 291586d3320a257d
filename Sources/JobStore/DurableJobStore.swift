import BrokerCore
import Foundation
import GRDB
import LinuxSystem

/// The broker's database: one writing connection on its own thread, and one that only reads on another.
///
/// One connection writes and checkpoints, since SQLite's WAL-reset bug needs two of those; the reader is opened read-only.
/// Completions run on the store's threads: hand the value over to your own loop and return at once.
public final class DurableJobStore: Sendable {
    public typealias Completion<Value> = @Sendable (Result<Value, StoreError>) -> Void

    /// Grows by one with each `init`.
    public let epoch: Int64
    public let path: String
    private let writerThread: StoreThread
    private let readerThread: StoreThread
    private let writer: WritingConnection
    private let reader: ReadingConnection

    /// Opens or makes the database, brings its schema up to date, and checks that commits are synced.
    ///
    /// - Throws: `.cannotOpen`, `.newerSchema`, `.unsafeSetting`.
    public init(path: String, eventHistory: Int = 100_000) throws(StoreError) {
        self.path = path
        writer = try WritingConnection(path: path, eventHistory: eventHistory)
        reader = try ReadingConnection(path: path)
        epoch = writer.epoch
        writerThread = try StoreThread(name: "store-write")
        readerThread = try StoreThread(name: "store-read")
    }

    /// Applies the mutations in one transaction, after all batches given before. `completion` gets `commit` back once they
    /// are on disk, or the error once nothing of them is. After an error every later batch is refused with `.needsReload`
    /// until `reload` has been called.
    public func apply(
        _ mutations: [Mutation], commit: UInt64,
        completion: @escaping @Sendable (UInt64, StoreError?) -> Void
    ) {
        let writer = writer
        let isTaken = writerThread.enqueue { completion(commit, writer.apply(mutations)) }
        if !isTaken { completion(commit, StoreError(.closed, "the store is closed")) }
    }

    /// What a new core starts from; makes the store take commits again. Blocks until commits given before are done.
    public func reload() throws(StoreError) -> Snapshot {
        let writer = writer
        return try onWriter { writer.reload() }
    }

    /// Finishes the commits given so far, then closes. Blocks.
    public func close() {
        readerThread.close()
        writerThread.close()
        reader.close()
        writer.close()
    }

    /// Makes the next commit fail half way, as a full disk would. For tests.
    func failNextCommit() {
        let writer = writer
        writerThread.enqueue { writer.failsNextCommit = true }
    }

    /// Runs `body` on the writing thread, after what was given before; false once the store is closed.
    func onWriterThread(_ body: @escaping @Sendable (DatabaseQueue) -> Void) -> Bool {
        let writer = writer
        return writerThread.enqueue { body(writer.queue) }
    }

    private func onWriter<Value>(
        _ body: @escaping @Sendable () -> Result<Value, StoreError>
    ) throws(StoreError) -> Value {
        let handover = Handover<Result<Value, StoreError>>()
        guard writerThread.enqueue({ handover.give(body()) }), let result = handover.take() else {
            throw StoreError(.closed, "the store is closed")
        }
        return try result.get()
    }

    /// Runs a question on the reading thread.
    func read<Value>(
        _ completion: @escaping Completion<Value>,
        _ body: @escaping @Sendable (Database) throws -> Value
    ) {
        let reader = reader
        let isTaken = readerThread.enqueue { completion(reader.read(body)) }
        if !isTaken { completion(.failure(StoreError(.closed, "the store is closed"))) }
    }

    /// Processes that the broker before had started. Blocks.
    public func processes() throws(StoreError) -> [ProcessRecord] {
        let writer = writer
        return try onWriter {
            writer.read { database in
                try Row.fetchAll(database, sql: "SELECT * FROM processes ORDER BY instance").map {
                    ProcessRecord(
                        instance: $0[0], plugin: $0[1], pid: $0[2],
                        startTicks: UInt64(bitPattern: $0[3] as Int64), logPath: $0[4],
                        startedAt: $0[5])
                }
            }
        }
    }

    /// Result lines whose files may lack them, by number. Blocks.
    public func keptLines() throws(StoreError) -> [KeptLines] {
        let writer = writer
        return try onWriter {
            writer.read { database in
                try Row.fetchAll(database, sql: "SELECT * FROM kept_lines ORDER BY number")
                    .compactMap {
                        guard let job = JobID(text: $0[1] as String) else { return nil }
                        return KeptLines(
                            number: $0[0], job: job, segment: $0[2], offset: $0[3],
                            bytes: Array($0[4] as Data))
                    }
            }
        }
    }

    /// `PRAGMA` values that hold the promises, for tests and `loraq doctor`. Blocks.
    public func safetySettings() throws(StoreError) -> [String: String] {
        let writer = writer
        return try onWriter {
            writer.read { database in
                var settings: [String: String] = [:]
                for name in ["synchronous", "journal_mode", "foreign_keys", "user_version"] {
                    settings[name] = try String.fetchOne(database, sql: "PRAGMA \(name)")
                }
                return settings
            }
        }
    }
}

/// `@unchecked Sendable` is sound: used in `init` by the opening thread and then by the store's writing thread only.
private final class WritingConnection: @unchecked Sendable {
    let epoch: Int64
    let queue: DatabaseQueue
    private var mutationWriter: MutationWriter?
    private var failure: StoreError?
    var failsNextCommit = false

    init(path: String, eventHistory: Int) throws(StoreError) {
        do {
            var configuration = Configuration()
            configuration.label = "loraq-write"
            configuration.journalMode = .wal
            configuration.foreignKeysEnabled = true
            configuration.busyMode = .timeout(10)
            let opened = try DatabaseQueue(path: path, configuration: configuration)
            queue = opened
            (epoch, mutationWriter) = try opened.inDatabase { database in
                try Schema.migrate(database)
                try WritingConnection.makeSafe(database)
                try database.execute(
                    sql: """
                        INSERT INTO meta VALUES ('epoch', 1)
                        ON CONFLICT (name) DO UPDATE SET value = value + 1
                        """)
                let epoch = try Int64.fetchOne(
                    database, sql: "SELECT value FROM meta WHERE name = 'epoch'")
                return (
                    epoch ?? 1, try MutationWriter(database, eventHistory: eventHistory)
                )
            }
        } catch {
            throw storeError(error, .cannotOpen, path)
        }
    }

    /// Every commit is on disk before it counts: https://www.sqlite.org/pragma.html#pragma_synchronous. GRDB's WAL set-up
    /// leaves NORMAL, under which a power loss may take back the last commits; so FULL is set after it, and read back.
    private static func makeSafe(_ database: Database) throws {
        try database.execute(sql: "PRAGMA synchronous = FULL")
        try database.execute(sql: "PRAGMA cache_size = -65536")
        try database.execute(sql: "PRAGMA wal_autocheckpoint = 4000")
        try database.execute(sql: "PRAGMA journal_size_limit = 67108864")
        let synchronous = try Int.fetchOne(database, sql: "PRAGMA synchronous")
        let journal = try String.fetchOne(database, sql: "PRAGMA journal_mode")
        let foreignKeys = try Int.fetchOne(database, sql: "PRAGMA foreign_keys")
        guard synchronous == 2, journal == "wal", foreignKeys == 1 else {
            throw StoreError(
                .unsafeSetting,
                "synchronous is \(synchronous ?? -1) (2 is FULL), journal_mode \(journal ?? "?"), foreign_keys \(foreignKeys ?? -1)"
            )
        }
    }

    func apply(_ mutations: [Mutation]) -> StoreError? {
        if let failure {
            return StoreError(.needsReload, "an earlier commit failed: \(failure.message)")
        }
        guard let mutationWriter else { return StoreError(.closed, "the store is closed") }
        guard !mutations.isEmpty || failsNextCommit else { return nil }
        do {
            try queue.inDatabase { database in
                try database.inTransaction(.immediate) {
                    try mutationWriter.apply(mutations)
                    if failsNextCommit {
                        failsNextCommit = false
                        throw StoreError(.commitFailed, "told to fail")
                    }
                    Failpoint.transactionFilled.reach()
                    return .commit
                }
            }
            Failpoint.transactionCommitted.reach()
            return nil
        } catch {
            let error = storeError(error, .commitFailed, "commit")
            failure = error
            return error
        }
    }

    func reload() -> Result<Snapshot, StoreError> {
        let result = read(RecordReader.snapshot)
        if case .success = result { failure = nil }
        return result
    }

    func read<Value>(_ body: (Database) throws -> Value) -> Result<Value, StoreError> {
        do {
            return .success(try queue.inDatabase(body))
        } catch {
            return .failure(storeError(error, .readFailed, "read"))
        }
    }

    func close() {
        mutationWriter = nil
        try? queue.close()
    }
}

/// `@unchecked Sendable` is sound: used by the store's reading thread only, and by `close` after that has ended.
private final class ReadingConnection: @unchecked Sendable {
    private let queue: DatabaseQueue

    init(path: String) throws(StoreError) {
        do {
            var configuration = Configuration()
            configuration.label = "loraq-read"
            configuration.readonly = true
            configuration.busyMode = .timeout(10)
            queue = try DatabaseQueue(path: path, configuration: configuration)
        } catch {
            throw storeError(error, .cannotOpen, path)
        }
    }

    func read<Value>(_ body: (Database) throws -> Value) -> Result<Value, StoreError> {
        do {
            return .success(try queue.read(body))
        } catch {
            return .failure(storeError(error, .readFailed, "read"))
        }
    }

    func close() { try? queue.close() }
}

private func storeError(_ error: any Error, _ code: StoreError.Code, _ what: String) -> StoreError {
    if let error = error as? StoreError { return error }
    if let error = error as? DatabaseError {
        return StoreError(
            code, "\(what): \(error.description)", sqliteCode: error.extendedResultCode.rawValue)
    }
    return StoreError(code, "\(what): \(error)")
}
