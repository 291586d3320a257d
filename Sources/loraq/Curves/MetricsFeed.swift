import JSONModel
import LoraqClient
import WireProtocol

/// A job's measurements, read from the broker piece by piece as they are written.
struct MetricsFeed {
    let session: Session
    let job: String
    private(set) var course = TrainingCourse()
    /// The lines of the last refresh, as they stand in the file.
    private(set) var fresh: [JSONValue] = []
    private var after = 0
    /// A line of which the end has not been written yet.
    private var rest: [UInt8] = []

    init(session: Session, job: String) {
        self.session = session
        self.job = job
    }

    /// Reads what has been written since; all of it where a resumed run has written its file anew.
    mutating func refresh() throws {
        fresh = []
        if try !readOn() {
            restart()
            // What a run writes while its beginning is read is read the next time.
            _ = try readOn()
        }
    }

    mutating func restart() {
        fresh = []
        course = TrainingCourse()
        after = 0
        rest = []
    }

    /// - Returns: False where what was read cannot follow what is known.
    private mutating func readOn() throws -> Bool {
        while true {
            let header: JSONObject = [
                "job": .string(job), "stream": "metrics", "after": .integer(Int64(after)),
            ]
            let reply = try session.call(
                .logs, header, policy: RequestPolicy(timeout: .seconds(60), waitsForBroker: true))
            let bytes = reply.body("log") ?? []
            let next = reply.header["next"]?.integer ?? after
            // The file is shorter than it was: the broker began anew.
            if next - bytes.count != after { return false }
            after = next
            if bytes.isEmpty { return true }
            guard take(bytes) else { return false }
        }
    }

    private mutating func take(_ bytes: [UInt8]) -> Bool {
        var lines = (rest + bytes).split(separator: 10, omittingEmptySubsequences: false)
        rest = lines.popLast().map(Array.init) ?? []
        for line in lines where !line.isEmpty {
            guard let value = try? JSONValue.parse(Array(line)), course.add(value) else {
                return false
            }
            fresh.append(value)
        }
        return true
    }

    /// Takes in what an event tells, where the worker writes no file.
    mutating func take(progress: JSONValue) {
        if after == 0 { course.add(progress: progress) }
    }
}
