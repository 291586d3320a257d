import ArgumentParser
import Foundation
import JSONModel
import LinuxSystem
import LoraqClient

struct Compare: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a job's lines on two plugins and report where tokens or scores part.",
        discussion: """
            Takes the lines of an `infer` job, makes them greedy with log probabilities (temperature 0, one choice), runs them \
            as two jobs, one on the plugin that the job ran on and one on --worker, and compares them token by token. A line \
            parts at its first differing token; it is a tie when both take either token for about equally likely (within \
            --tolerance). Exit code 5 if lines part other than at a tie, scores differ by more, or only one side answers.
            """)

    @Argument(help: ArgumentHelp("A job of kind infer.", valueName: "job")) var job = "last"
    @Option(help: ArgumentHelp("The plugin to compare with, such as `peft`.", valueName: "plugin"))
    var worker: String
    @Option(help: ArgumentHelp("Only the first lines of the job.", valueName: "number"))
    var lines: Int?
    @Option(help: "How far log probabilities of the same token may lie apart (nats).")
    var tolerance = 0.05
    @Option(
        help: ArgumentHelp(
            "Give up waiting after this long (the jobs go on; exit code 4).", valueName: "seconds"))
    var timeout: Double?
    @Flag(name: .shortAndLong, help: "No progress.") var quiet = false
    @OptionGroup var common: CommonOptions

    mutating func validate() throws {
        if let lines, lines < 1 { throw ValidationError("--lines must be at least 1") }
        guard tolerance >= 0, tolerance.isFinite else {
            throw ValidationError("--tolerance must be a number from 0")
        }
        if let timeout, !(timeout > 0 && timeout < 1e9) {
            throw ValidationError("--timeout must be above 0 seconds")
        }
    }

    func run(_ session: Session) throws {
        try NameCheck.check(worker, what: "--worker")
        let submitted = try session.call(.input, ["job": .string(job)]).header
        let id = submitted["job"]?.string ?? job
        guard submitted["kind"]?.string == "infer" else {
            throw ToolError.usage(
                "job \(id) is of kind \(submitted["kind"]?.string ?? "?"); only `infer` is compared"
            )
        }
        let own = submitted["worker"]?.string
        guard own != worker else {
            throw ToolError.usage(
                "job \(id) ran on \(worker) itself", hint: "name a job that ran elsewhere")
        }
        let file = try ComparedLines(session: session, job: id, limit: lines)
        let jobs = try submit(file, spec: submitted["spec"] ?? .object([:]), own: own, session)
        let ended = try wait(for: jobs, session)
        if let failed = ended.first(where: { $0.total == nil }) {
            throw ToolError(
                .failure, "job \(failed.id) ended as \(failed.state) without being split",
                hint: "loraq status \(failed.id)")
        }
        var report = ComparisonReport(
            job: id, names: [own ?? "native", worker], jobs: jobs, tolerance: tolerance)
        try ComparedStreams(session: session, jobs: jobs).forEachPair { report.add($0, $1) }
        if session.json {
            try session.print(json: report.json)
        } else {
            try session.print(report.text(session.style), terminator: "")
        }
        if !report.agrees { throw ExitCode(ExitStatus.someLinesFailed.rawValue) }
    }

    private func submit(
        _ file: ComparedLines, spec: JSONValue, own: String?, _ session: Session
    ) throws -> [String] {
        var waiting = WaitOptions()
        waiting.quiet = quiet
        let input = try Submitting(session: session, waiting: waiting).input(
            "lines", file: file.path)
        return try [own, worker].map { plugin in
            var request = JobRequest(kind: "infer", spec: spec)
            request.worker = plugin
            request.label = "compare"
            request.inputs = [input]
            return try session.client.submit(request).job
        }
    }

    private func wait(for jobs: [String], _ session: Session) throws -> [JobSnapshot] {
        var options = WaitOptions()
        options.timeout = timeout
        options.quiet = quiet
        return try JobWaiter(session: session, options: options).wait(for: jobs)
    }
}

/// The lines of a job, made comparable, on disk; gone with the process.
final class ComparedLines {
    let path: String

    init(session: Session, job: String, limit: Int?) throws {
        path =
            FileManager.default.temporaryDirectory.path
            + "/loraq-compare-\(UUID().uuidString).jsonl"
        let file = try OutputFile(path, replaces: false)
        do {
            var rest: [UInt8] = []
            var offset = 0
            var count = 0
            func take(_ line: ArraySlice<UInt8>) throws {
                guard !line.allSatisfy({ $0 == 32 || (9...13).contains($0) }) else { return }
                guard count < limit ?? .max else { return }
                count += 1
                try file.write(Self.comparable(Array(line)) + [10])
            }
            while count < limit ?? .max {
                let reply = try session.call(
                    .input,
                    [
                        "job": .string(job), "name": "lines", "offset": .integer(Int64(offset)),
                    ])
                guard let piece = reply.body("piece"), !piece.isEmpty else { break }
                offset += piece.count
                rest += piece
                var start = 0
                while let end = rest[start...].firstIndex(of: 10) {
                    try take(rest[start..<end])
                    start = end + 1
                }
                rest.removeFirst(start)
            }
            if !rest.isEmpty { try take(rest[...]) }
            try file.commit()
        } catch {
            file.abandon()
            throw error
        }
    }

    deinit { unlink(path) }

    /// The line with temperature 0, one choice and log probabilities; as it was if it is no request.
    static func comparable(_ line: [UInt8]) -> [UInt8] {
        guard var object = (try? JSONValue.parse(line))?.object, var body = object["body"]?.object
        else { return line }
        body["temperature"] = 0
        body["n"] = .none
        if object["url"]?.string == "/v1/chat/completions" {
            body["logprobs"] = true
            body["top_logprobs"] = .integer(Int64(max(5, body["top_logprobs"]?.integer ?? 0)))
        } else {
            body["logprobs"] = .integer(Int64(max(5, body["logprobs"]?.integer ?? 0)))
        }
        object["body"] = .object(body)
        return JSONValue.object(object).serialized()
    }
}

/// The output lines of two jobs of the same input, in its order; a page of each in memory.
struct ComparedStreams {
    let session: Session
    let jobs: [String]

    func forEachPair(_ take: (JSONValue, JSONValue) throws -> Void) throws {
        var readers = jobs.map {
            LineReader(
                stream: ResultStream(
                    client: session.client, job: $0, stream: .all, order: .input,
                    policy: RequestPolicy(waitsForBroker: true)))
        }
        while let first = try readers[0].next(), let second = try readers[1].next() {
            try take(first, second)
        }
    }

    private struct LineReader {
        var stream: ResultStream
        var lines: [JSONValue] = []
        var isOver = false

        mutating func next() throws -> JSONValue? {
            while lines.isEmpty, !isOver {
                let page = try stream.next()
                lines = try page.lines.split(separator: 10).reversed().map {
                    try JSONValue.parse(Array($0))
                }
                isOver = page.isLast || page.count == 0
            }
            return lines.popLast()
        }
    }
}
