import JSONModel

/// A line of a job's log, as the broker keeps it: milliseconds since 1970, level, worker, message.
struct LogLine: Equatable {
    let atMs: Int
    let level: String
    let worker: String
    let message: String

    /// Nil for a line of another form, such as the first of a log that was cut.
    init?(_ line: String) {
        let parts = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count == 4, let atMs = Int(parts[0]), atMs > 0 else { return nil }
        self.atMs = atMs
        level = String(parts[1])
        worker = String(parts[2])
        message = String(parts[3])
    }

    func text(style: TextStyle) -> String {
        "\(style.dim(LocalTime.clock(atMs)))  \(level)  \(worker)  \(TextTable.oneLine(message))"
    }

    var json: JSONValue {
        [
            "at_ms": .integer(Int64(atMs)), "level": .string(level), "worker": .string(worker),
            "message": .string(message),
        ]
    }
}

/// Writes a log that comes in pieces, line by line.
struct LogPrinter {
    let session: Session
    /// Whether the lines are those of a job; others are written as they are.
    let isOfJob: Bool
    private var rest: [UInt8] = []

    init(_ session: Session, isOfJob: Bool) {
        self.session = session
        self.isOfJob = isOfJob
    }

    mutating func add(_ piece: [UInt8]) throws {
        guard isOfJob || session.json else { return try StandardStreams.write(piece) }
        rest += piece
        guard let end = rest.lastIndex(of: UInt8(ascii: "\n")) else { return }
        let whole = rest[..<end]
        for line in whole.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            try print(String(decoding: line, as: UTF8.self))
        }
        rest.removeSubrange(...end)
    }

    /// Writes a last line that has no end.
    mutating func finish() throws {
        if !rest.isEmpty { try print(String(decoding: rest, as: UTF8.self)) }
        rest = []
    }

    private func print(_ line: String) throws {
        let known = isOfJob ? LogLine(line) : nil
        if session.json {
            return try session.print((known?.json ?? ["message": .string(line)]).text())
        }
        try session.print(known?.text(style: session.style) ?? TextTable.oneLine(line))
    }
}
