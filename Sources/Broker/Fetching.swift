import BrokerCore
import JSONModel
import JobStore
import LinuxSystem
import WireProtocol

extension SegmentClaim {
    init(_ location: ResultLocation) {
        self.init(
            segment: Int(location.segment), offset: Int(location.offset),
            length: Int(location.length) + 1)
    }

    var location: ResultLocation {
        ResultLocation(
            segment: Int32(clamping: segment), offset: Int64(offset),
            length: Int32(clamping: length - 1))
    }
}

extension EventLoop {
    func fetch(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(FetchRequest.self)
        let after = try Self.number(header.after, "after") ?? 0
        let limit = min(max(1, header.limit ?? 1_000), 10_000)
        guard reader.backlog < configuration.maximumBacklog else {
            throw ErrorObject(
                .limit, .retryable, "too many readers wait for the disk", retryAfterMs: 200)
        }
        resolveOne(header.job, request) { loop, id in
            let query = ResultQuery(
                job: id, stream: header.stream.core, order: header.order.core, after: after,
                limit: limit)
            loop.records([id], request) { loop, _ in loop.fetch(query, request) }
        }
    }

    private func fetch(_ question: ResultQuery, _ request: PendingRequest) {
        let directory = home.run(of: question.job.text)
        query(request) { store, completion in
            store.results(question, completion: completion)
        } then: { loop, page in
            loop.offload(loop.reader) {
                Result { () throws(SystemError) in
                    try ResultLines.read(page, question, directory: directory)
                }
            } then: { loop, result in
                switch result {
                case .failure(let error):
                    loop.log.error("FETCH: \(error)")
                    loop.fail(request, BlobStore.wireError(error))
                case .success(let lines):
                    // What the store told is on disk: no commit need be waited for.
                    loop.replyNow(
                        request,
                        FetchReply(
                            count: lines.count, next: String(lines.next),
                            complete: lines.isComplete
                                && loop.core?.awaitsPartials(of: question.job) != true),
                        bodies: [Message.Body("lines", lines.bytes)])
                }
            }
        }
    }
}

extension ResultStream {
    fileprivate var core: ResultQuery.Stream {
        switch self {
        case .results: .results
        case .errors: .errors
        case .all: .all
        }
    }
}

extension FetchRequest.Order {
    fileprivate var core: ResultQuery.Order { self == .input ? .input : .completion }
}

/// Whole lines for a `FETCH`, as many as fit one body.
struct ResultLines: Sendable {
    var bytes: [UInt8] = []
    var count = 0
    var next: Int64 = 0
    var isComplete = false

    /// Reads a page's lines from the segments; lines that only the broker knows of are written here.
    static func read(
        _ page: ResultPage, _ query: ResultQuery, directory: String
    ) throws(SystemError) -> ResultLines {
        var lines = ResultLines(next: query.after)
        var claims: [SegmentClaim] = []
        var size = 0
        for record in page.results {
            let own = record.location == nil ? Self.line(for: record) : nil
            let length = own?.count ?? record.location.map { Int($0.length) + 1 } ?? 0
            if size + length > WireLimits.bodyBytes, lines.count > 0 {
                lines.bytes += try SegmentReader.lines(claims, directory: directory)
                return lines
            }
            size += length
            if let own {
                lines.bytes += try SegmentReader.lines(claims, directory: directory)
                claims = []
                lines.bytes += own
            } else if let location = record.location {
                claims.append(SegmentClaim(location))
            }
            lines.count += 1
            lines.next = Self.cursor(after: record, query.order)
        }
        lines.bytes += try SegmentReader.lines(claims, directory: directory)
        lines.next = max(lines.next, page.next)
        lines.isComplete = page.isComplete
        return lines
    }

    /// The cursor that means: what comes after this line.
    static func cursor(after record: ResultRecord, _ order: ResultQuery.Order) -> Int64 {
        order == .completion ? record.order : Int64(record.task.index) + 1
    }

    /// The error line of a task that the broker itself ended, in the form of OpenAI's error lines.
    static func line(for record: ResultRecord) -> [UInt8] {
        let failure = OutputLine.Failure(
            code: Wire.ErrorCode(
                record.error?.code.rawValue ?? record.state.rawValue.uppercased()),
            message: record.error?.message ?? "the task was \(record.state.rawValue)",
            line: record.lineNumber.map(Int.init))
        guard let task = try? record.task.wire(),
            let line = try? OutputLine(task: task, customID: record.customID, error: failure)
                .serialized()
        else { return [] }
        return line + [0x0A]
    }
}
