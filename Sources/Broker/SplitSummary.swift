import BrokerCore
import JSONModel
import LinuxSystem
import WireProtocol

/// What splitting a batch file found, kept beside the job's results for `STATUS`.
struct SplitSummary: Sendable, Equatable {
    /// Lines that are not blank.
    var lines: Int
    /// Those of them that are not run.
    var bad: Int

    static func path(_ directory: String) -> String { "\(directory)/split.json" }

    func write(to directory: String) throws(SystemError) {
        try DurableFile.createDirectories(directory)
        let object: JSONValue = .object(
            JSONObject([("lines", .integer(Int64(lines))), ("bad", .integer(Int64(bad)))]))
        try DurableFile.write(object.serialized(), to: Self.path(directory))
    }

    init(lines: Int, bad: Int) {
        self.lines = lines
        self.bad = bad
    }

    /// Nil where there is none, or none that can be read.
    init?(of directory: String) {
        guard let bytes = try? FilePath.read(Self.path(directory), limit: 4_096),
            let value = try? JSONValue.parse(bytes), let lines = value["lines"]?.integer,
            let bad = value["bad"]?.integer
        else { return nil }
        self.lines = lines
        self.bad = bad
    }
}

extension EventLoop {
    /// `lines` of a job object; nil for jobs of one task.
    func lineCounts(of record: JobRecord) -> LineCounts? {
        guard record.submission.shape.isLines else { return nil }
        if let split = splits[record.id] {
            return LineCounts(read: split.linesRead, bad: split.badLines, complete: false)
        }
        guard record.status.counts.total != nil else {
            return LineCounts(read: 0, bad: 0, complete: false)
        }
        let summary =
            splitSummaries[record.id] ?? SplitSummary(of: home.run(of: record.id.text))
        if splitSummaries.count > 10_000 { splitSummaries.removeAll() }
        splitSummaries[record.id] = summary
        return summary.map { LineCounts(read: $0.lines, bad: $0.bad, complete: true) }
    }
}
