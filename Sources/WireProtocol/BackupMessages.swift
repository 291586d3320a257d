/// `BACKUP`: copies the broker's whole state into a folder while it runs. Sent again with the same id it tells how far that is.
public struct BackupRequest: Codable, Sendable, Equatable {
    /// Of this backup, chosen by the client.
    public var backup: WireName
    /// An absolute path on the broker's machine, of a folder that is empty or does not exist.
    public var path: String

    public init(backup: WireName, path: String) {
        self.backup = backup
        self.path = path
    }
}

public struct BackupReply: Codable, Sendable, Equatable {
    public var path: String
    /// The copy is whole and on the disk.
    public var complete: Bool
    /// Copied up to here.
    public var files: Int
    public var bytes: Int

    public init(path: String, complete: Bool, files: Int, bytes: Int) {
        self.path = path
        self.complete = complete
        self.files = files
        self.bytes = bytes
    }
}
