import GRDB
import GRDBSQLite

extension DurableJobStore {
    /// Pages copied between two commits.
    private static let pagesPerStep: Int32 = 1_000

    /// Copies the database as it is at some moment before `completion` to a new file at `path`, while commits go on.
    ///
    /// The writing connection itself is the source (https://www.sqlite.org/backup.html): SQLite carries its later changes over
    /// into the copy, so the copy need not begin anew, and between two steps nothing is locked, so the WAL is cut back as ever.
    /// In the copy no worker's process is known: those that run belong to this broker.
    public func copy(to path: String, completion: @escaping Completion<Void>) {
        let work = StoreCopy(path: path)
        nextStep(of: work, completion)
    }

    private func nextStep(of work: StoreCopy, _ completion: @escaping Completion<Void>) {
        let isTaken = onWriterThread { connection in
            switch work.step(from: connection, pages: Self.pagesPerStep) {
            case nil: self.nextStep(of: work, completion)
            case .some(let result): completion(result)
            }
        }
        if !isTaken { completion(.failure(StoreError(.closed, "the store is closed"))) }
    }
}

/// A copy under way. `@unchecked Sendable` is sound: it is used by the store's writing thread only.
private final class StoreCopy: @unchecked Sendable {
    private let path: String
    private var target: OpaquePointer?
    private var handle: OpaquePointer?

    init(path: String) { self.path = path }

    /// Nil: there is more to do.
    func step(from queue: DatabaseQueue, pages: Int32) -> Result<Void, StoreError>? {
        do {
            let code = try queue.inDatabase { database -> Int32 in
                if handle == nil { try begin(database.sqliteConnection) }
                return sqlite3_backup_step(handle, pages)
            }
            switch code {
            case SQLITE_OK, SQLITE_BUSY, SQLITE_LOCKED: return nil
            case SQLITE_DONE: try finish()
            default: throw failure(code)
            }
            return .success(())
        } catch {
            close()
            return .failure(
                error as? StoreError ?? StoreError(.readFailed, "copy to \(path): \(error)"))
        }
    }

    private func begin(_ source: OpaquePointer?) throws {
        let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_EXRESCODE
        let code = sqlite3_open_v2(path, &target, flags, nil)
        guard code == SQLITE_OK else { throw failure(code) }
        handle = sqlite3_backup_init(target, "main", source, "main")
        guard handle != nil else { throw failure(sqlite3_extended_errcode(target)) }
    }

    private func finish() throws {
        var code = sqlite3_backup_finish(handle)
        handle = nil
        guard code == SQLITE_OK else { throw failure(code) }
        code = sqlite3_exec(
            target, "PRAGMA synchronous = FULL; DELETE FROM processes", nil, nil, nil)
        guard code == SQLITE_OK else { throw failure(code) }
        close()
    }

    private func failure(_ code: Int32) -> StoreError {
        StoreError(
            .readFailed, "copy to \(path): \(String(cString: sqlite3_errstr(code)))",
            sqliteCode: code)
    }

    private func close() {
        if handle != nil { sqlite3_backup_finish(handle) }
        handle = nil
        sqlite3_close_v2(target)
        target = nil
    }
}
