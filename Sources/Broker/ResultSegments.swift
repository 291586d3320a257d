import LinuxSystem

/// Where a result line lies: `runs/<job>/results-<segment>.jsonl`, from `offset`, its LF included.
struct SegmentClaim: Sendable, Equatable {
    var segment: Int
    var offset: Int
    var length: Int
}

/// One line to be written where it was promised to lie.
struct SegmentAppend: Sendable {
    var job: String
    var claim: SegmentClaim
    var bytes: [UInt8]
}

enum ResultSegment {
    static func path(_ directory: String, _ segment: Int) -> String {
        let digits = String(segment)
        let padding = String(repeating: "0", count: max(0, 3 - digits.count))
        return "\(directory)/results-\(padding)\(digits).jsonl"
    }

    /// The number in a segment's file name; nil for other files.
    static func number(ofFile name: String) -> Int? {
        guard name.hasPrefix("results-"), name.hasSuffix(".jsonl") else { return nil }
        return Int(name.dropFirst(8).dropLast(6))
    }
}

/// Gives result lines their places. Lives in the event loop; nothing is written here.
///
/// After a start, and after a failed commit, a job goes on in a new segment: what an old segment
/// holds beyond its committed lines is never read, so it does no harm.
struct SegmentAllocator {
    private struct Position {
        var segment: Int
        var length: Int
    }

    private let home: BrokerHome
    private let maximumSegmentBytes: Int
    private var positions: [String: Position] = [:]

    init(home: BrokerHome, maximumSegmentBytes: Int = 256 << 20) {
        self.home = home
        self.maximumSegmentBytes = maximumSegmentBytes
    }

    mutating func claim(job: String, length: Int) -> SegmentClaim {
        var position = positions[job] ?? Position(segment: firstUnused(job), length: 0)
        if position.length > 0, position.length + length > maximumSegmentBytes {
            position = Position(segment: position.segment + 1, length: 0)
        }
        let claim = SegmentClaim(
            segment: position.segment, offset: position.length, length: length)
        position.length += length
        positions[job] = position
        return claim
    }

    /// The job ended.
    mutating func forget(job: String) { positions.removeValue(forKey: job) }

    /// A commit failed: nobody knows what was written.
    mutating func forgetAll() { positions.removeAll() }

    private func firstUnused(_ job: String) -> Int {
        let names = (try? FilePath.entries(of: home.run(of: job))) ?? []
        return (names.compactMap(ResultSegment.number(ofFile:)).max() ?? -1) + 1
    }
}

/// Writes result lines and makes them durable. Lives in the commit thread.
struct SegmentFiles {
    /// Holds a file open; noncopyable things cannot be in a dictionary.
    private final class Open {
        let file: DataFile
        init(_ file: consuming DataFile) { self.file = file }
    }

    private let home: BrokerHome
    private var open: [String: Open] = [:]
    private static let maximumOpen = 64

    init(home: BrokerHome) { self.home = home }

    /// Lines that follow one another, as one.
    static func joined(_ appends: [SegmentAppend]) -> [SegmentAppend] {
        var runs: [SegmentAppend] = []
        for append in appends {
            if let last = runs.last, last.job == append.job,
                last.claim.segment == append.claim.segment,
                last.claim.offset + last.bytes.count == append.claim.offset,
                last.bytes.count < 1 << 20
            {
                runs[runs.count - 1].bytes.append(contentsOf: append.bytes)
            } else {
                runs.append(append)
            }
        }
        return runs
    }

    /// Writes all lines.
    ///
    /// - Parameter syncing: Also syncs each file they went to, with its folders; otherwise somebody else holds the lines until
    ///   that is done.
    mutating func write(_ runs: [SegmentAppend], syncing: Bool = true) throws(SystemError) {
        guard !runs.isEmpty else { return }
        var touched: [String: Open] = [:]
        for run in runs {
            let path = ResultSegment.path(home.run(of: run.job), run.claim.segment)
            let file: Open
            if let known = touched[path] {
                file = known
            } else {
                file = try self.file(path, job: run.job)
                touched[path] = file
            }
            try file.file.write(run.bytes, at: run.claim.offset)
        }
        Failpoint.linesWritten.reach()
        guard syncing else { return }
        for file in touched.values { try file.file.sync() }
        // A file may be new, or may have been made without a sync before.
        for job in Set(runs.map(\.job)) { try DurableFile.syncDirectory(home.run(of: job)) }
        try DurableFile.syncDirectory(home.runs)
        Failpoint.linesSynced.reach()
    }

    private mutating func file(_ path: String, job: String) throws(SystemError) -> Open {
        if let known = open[path] { return known }
        if open.count >= Self.maximumOpen { open.removeAll() }
        if !FilePath.exists(path) { try DurableFile.createDirectories(home.run(of: job)) }
        let file = Open(try DataFile(path: path, .writing))
        open[path] = file
        return file
    }

    /// Closes the job's files.
    mutating func close(job: String) {
        let prefix = home.run(of: job) + "/"
        for path in open.keys.filter({ $0.hasPrefix(prefix) }) { open.removeValue(forKey: path) }
    }
}

/// Reads committed lines back. Used on the I/O thread.
enum SegmentReader {
    /// The lines at these places, one after the other.
    ///
    /// - Throws: When a segment is shorter than what was committed (somebody changed it).
    static func lines(
        _ claims: [SegmentClaim], directory: String
    ) throws(SystemError) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(claims.reduce(0) { $0 + $1.length })
        var index = 0
        while index < claims.count {
            let segment = claims[index].segment
            let file = try DataFile(path: ResultSegment.path(directory, segment), .reading)
            while index < claims.count, claims[index].segment == segment {
                let offset = claims[index].offset
                var length = claims[index].length
                index += 1
                while index < claims.count, claims[index].segment == segment,
                    claims[index].offset == offset + length
                {
                    length += claims[index].length
                    index += 1
                }
                let bytes = try file.read(at: offset, count: length)
                guard bytes.count == length else {
                    throw SystemError(
                        operation: "read committed lines of", path: file.path, code: 5)
                }
                output.append(contentsOf: bytes)
            }
        }
        return output
    }
}
