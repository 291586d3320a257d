import BrokerCore
import JSONModel
import LinuxSystem

/// What dispatching keeps of running jobs: their spec as a document, and their open batch file.
/// Can be made anew at any time.
struct JobCaches {
    final class LineFile {
        let file: DataFile
        init(_ file: consuming DataFile) { self.file = file }
    }

    private var specs: [JobID: JSONValue] = [:]
    private var files: [JobID: LineFile] = [:]
    private static let maximumSpecs = 4_096
    private static let maximumFiles = 64

    mutating func spec(of submission: Submission) -> JSONValue {
        if let known = specs[submission.id] { return known }
        if specs.count >= Self.maximumSpecs { specs.removeAll() }
        // It was checked at submit; what comes from the store is what went in.
        let value = (try? JSONValue.parse(submission.spec)) ?? .object(JSONObject())
        specs[submission.id] = value
        return value
    }

    /// One line of a batch file, without a byte order mark.
    mutating func line(
        _ location: LineLocation, of job: JobID, blobPath: String
    ) throws(SystemError) -> [UInt8] {
        let open: LineFile
        if let known = files[job] {
            open = known
        } else {
            if files.count >= Self.maximumFiles { files.removeAll() }
            open = LineFile(try DataFile(path: blobPath, .reading))
            files[job] = open
        }
        let bytes = try open.file.read(at: Int(location.offset), count: Int(location.length))
        guard bytes.count == Int(location.length) else {
            throw SystemError(operation: "read a line of", path: blobPath, code: 5)
        }
        let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
        return location.number == 1 && bytes.starts(with: mark) ? Array(bytes.dropFirst(3)) : bytes
    }

    mutating func forget(_ job: JobID) {
        specs.removeValue(forKey: job)
        files.removeValue(forKey: job)
    }
}

extension EventLoop {
    func spec(of job: JobID) -> JSONValue? {
        core?.job(job).map { jobCaches.spec(of: $0.submission) }
    }
}
