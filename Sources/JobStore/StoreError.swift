/// What went wrong in the store, with SQLite's own code and words.
public struct StoreError: Error, Sendable, CustomStringConvertible {
    public enum Code: String, Sendable {
        /// The file cannot be opened or is not loraq's.
        case cannotOpen
        /// Written by a newer loraq.
        case newerSchema
        /// A safety setting did not take hold.
        case unsafeSetting
        /// A commit failed; nothing of it was applied.
        case commitFailed
        /// An earlier commit failed; nothing is taken until `reload`.
        case needsReload
        case readFailed
        case closed
    }

    public var code: Code
    public var message: String
    /// SQLite's extended result code, 0 where it had no part.
    public var sqliteCode: Int32

    public init(_ code: Code, _ message: String, sqliteCode: Int32 = 0) {
        self.code = code
        self.message = message
        self.sqliteCode = sqliteCode
    }

    public var description: String {
        sqliteCode == 0
            ? "\(code.rawValue): \(message)" : "\(code.rawValue) (\(sqliteCode)): \(message)"
    }
}
