import BrokerCore
import Collections
import JobStore
import LinuxSystem
import WireProtocol
import ZeroMQ

/// A client's PULL socket that accepted results are pushed to, over a PUSH of its own.
final class Sink {
    /// Which jobs a sink gets.
    enum Selection {
        case all
        case label(String)
        case jobs(Set<JobID>)
    }

    let id: String
    let endpoint: String
    let selection: Selection
    let socket: Socket
    /// Lines before "now" that are still to be read from the store, by job: the cursor so far.
    var backlog: [JobID: Int64] = [:]
    /// Jobs with a backlog that got a line since it was last asked for.
    var changed: Set<JobID> = []
    var sequence = 0
    var sent = 0
    var dropped = 0
    /// What the socket had no room for yet.
    var waiting: Deque<[[UInt8]]> = []
    static let maximumWaiting = 2_000

    init(id: String, endpoint: String, selection: Selection, socket: consuming Socket) {
        self.id = id
        self.endpoint = endpoint
        self.selection = selection
        self.socket = socket
    }

    /// Pushes a message, or lets it wait, or drops it: then the sequence shows a gap.
    func push(_ frames: [[UInt8]]) {
        if waiting.isEmpty, (try? socket.send(frames)) == .sent {
            sent += 1
            return
        }
        if waiting.count >= Self.maximumWaiting {
            dropped += 1
            return
        }
        waiting.append(frames)
    }

    func retry() {
        while let frames = waiting.first, (try? socket.send(frames)) == .sent {
            waiting.removeFirst()
            sent += 1
        }
    }
}

struct SinkTable {
    private(set) var all: [Sink] = []
    private var last = 0

    var isEmpty: Bool { all.isEmpty }
    var isWaiting: Bool { all.contains { !$0.waiting.isEmpty } }

    mutating func nextID() -> String {
        last += 1
        return "sink-\(last)"
    }

    mutating func add(_ sink: Sink) { all.append(sink) }
    mutating func remove(_ sink: Sink) { all.removeAll { $0 === sink } }
    subscript(id: String) -> Sink? { all.first { $0.id == id } }
    func retry() { for sink in all { sink.retry() } }
}

extension EventLoop {
    func attach(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(AttachRequest.self)
        guard sinks.all.count < configuration.maximumSinks else {
            throw ErrorObject(
                .limit, .retryable, "\(sinks.all.count) sinks are attached already",
                retryAfterMs: 5_000)
        }
        guard
            header.endpoint.hasPrefix("ipc://") || header.endpoint.hasPrefix("tcp://127.0.0.1:")
                || header.endpoint.hasPrefix("tcp://[::1]:")
        else {
            throw ErrorObject(
                .badHeader, .user, "`endpoint` must be ipc:// or tcp:// on this machine")
        }
        var cursors: [JobID: Int64] = [:]
        for (job, cursor) in header.after ?? [:] {
            guard let id = JobID(text: job), let order = Int64(cursor), order >= 0 else {
                throw ErrorObject(.badHeader, .user, "`after.\(job.prefix(80))` is no cursor")
            }
            cursors[id] = order
        }
        let backlog = cursors
        if header.selector == "all" { return try attach(header.endpoint, .all, backlog, request) }
        query(request) { store, completion in
            store.selectJobs(
                header.selector, limit: EventLoop.maximumSelected, completion: completion)
        } then: { loop, selected in
            do {
                if [.last, .id, .partOfID].contains(selected.match) {
                    try loop.attach(header.endpoint, .jobs(Set(selected.ids)), backlog, request)
                } else if let id = JobID(text: header.selector) {
                    // A job that is yet to be submitted.
                    try loop.attach(header.endpoint, .jobs([id]), backlog, request)
                } else {
                    try loop.attach(header.endpoint, .label(header.selector), backlog, request)
                }
            } catch {
                loop.fail(request, EventLoop.errorObject(of: error))
            }
        }
    }

    private func attach(
        _ endpoint: String, _ selection: Sink.Selection, _ backlog: [JobID: Int64],
        _ request: PendingRequest
    ) throws {
        let id = sinks.nextID()
        do {
            let socket = try Socket(
                context, .push,
                options: .with {
                    $0.immediate = true
                    $0.sendHighWaterMark = 1_000
                    $0.linger = .milliseconds(500)
                })
            try socket.connect(endpoint)
            let sink = Sink(id: id, endpoint: endpoint, selection: selection, socket: socket)
            sinks.add(sink)
            reply(request, AttachReply(sink: id))
            for (job, cursor) in backlog {
                sink.backlog[job] = cursor
                readBacklog(id, job)
            }
        } catch {
            throw ErrorObject(.badHeader, .user, error.description)
        }
    }

    func detach(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(DetachRequest.self)
        guard let sink = sinks[header.sink] else {
            throw ErrorObject(.badState, .user, "there is no sink `\(header.sink.prefix(80))`")
        }
        detach(sink)
        reply(request, DetachReply(sink: sink.id, sent: sink.sent, dropped: sink.dropped))
    }

    func detach(_ sink: Sink) {
        sink.retry()
        sink.dropped += sink.waiting.count
        sink.waiting.removeAll()
        if sink.dropped > 0 { log.warning("\(sink.id) dropped \(sink.dropped) messages") }
        sinks.remove(sink)
    }

    // MARK: Lines

    private func isSelected(_ job: JobID, by sink: Sink) -> Bool {
        switch sink.selection {
        case .all: true
        case .jobs(let ids): ids.contains(job)
        case .label(let label): core?.job(job)?.submission.label == label
        }
    }

    /// An accepted result, for the sinks that want it.
    func pushResult(_ record: ResultRecord) {
        let wanting = sinks.all.filter { isSelected(record.task.job, by: $0) }
        guard !wanting.isEmpty else { return }
        var live: [String] = []
        for sink in wanting {
            if sink.backlog[record.task.job] != nil {
                sink.changed.insert(record.task.job)
            } else {
                live.append(sink.id)
            }
        }
        guard !live.isEmpty else { return }
        let receivers = live
        readLines([record]) { loop, lines in
            for id in receivers {
                guard let sink = loop.sinks[id], let line = lines.first else { continue }
                loop.push(record, line, to: sink)
            }
        }
    }

    private func readLines(
        _ records: [ResultRecord], then next: @escaping @Sendable (EventLoop, [[UInt8]]) -> Void
    ) {
        let home = self.home
        offload(reader) { () -> [[UInt8]] in
            records.map { record in
                guard let location = record.location else { return ResultLines.line(for: record) }
                return
                    (try? SegmentReader.lines(
                        [SegmentClaim(location)], directory: home.run(of: record.task.job.text)))
                    ?? []
            }
        } then: { loop, lines in
            next(loop, lines)
        }
    }

    private func push(_ record: ResultRecord, _ line: [UInt8], to sink: Sink) {
        sink.sequence += 1
        do {
            let header = SinkLineHeader(
                sink: sink.id, sequence: sink.sequence, job: try record.task.job.wire(),
                task: try record.task.wire(), cursor: String(record.order),
                stream: record.isError ? .errors : .results)
            let body = Message.Body("line", line.last == 0x0A ? Array(line.dropLast()) : line)
            sink.push(try Message(.line, header, bodies: [body]).frames())
        } catch {
            sink.dropped += 1
        }
    }

    /// Sends what a sink missed, page by page; then its job's lines come as they are accepted.
    private func readBacklog(_ id: String, _ job: JobID) {
        guard let sink = sinks[id], let after = sink.backlog[job] else { return }
        sink.changed.remove(job)
        store.results(
            ResultQuery(job: job, stream: .all, order: .completion, after: after, limit: 500)
        ) { [inbox] result in
            inbox.post { loop in
                guard case .success(let page) = result else { return }
                loop.takeBacklog(id, job, page)
            }
        }
    }

    private func takeBacklog(_ id: String, _ job: JobID, _ page: ResultPage) {
        guard let sink = sinks[id], sink.backlog[job] != nil else { return }
        if page.results.isEmpty {
            if sink.changed.contains(job) { return readBacklog(id, job) }
            sink.backlog[job] = nil
            if page.isComplete, let state = core?.job(job)?.status.state, state.isFinal {
                pushEnd(job, state, to: sink)
            }
            return
        }
        let records = page.results
        readLines(records) { loop, lines in
            guard let sink = loop.sinks[id] else { return }
            for (record, line) in zip(records, lines) { loop.push(record, line, to: sink) }
            sink.backlog[job] = records.last?.order
            loop.readBacklog(id, job)
        }
    }

    /// A job ended: its sinks are told, after the lines that are still being read.
    func pushEnd(_ job: JobID, _ state: JobState) {
        let wanting = sinks.all.filter { isSelected(job, by: $0) && $0.backlog[job] == nil }
        guard !wanting.isEmpty else { return }
        let ids = wanting.map(\.id)
        readLines([]) { loop, _ in
            for id in ids {
                if let sink = loop.sinks[id] { loop.pushEnd(job, state, to: sink) }
            }
        }
    }

    private func pushEnd(_ job: JobID, _ state: JobState, to sink: Sink) {
        sink.sequence += 1
        do {
            let header = SinkEndHeader(
                sink: sink.id, sequence: sink.sequence, job: try job.wire(), state: try state.wire()
            )
            sink.push(try Message(.end, header).frames())
        } catch {
            sink.dropped += 1
        }
    }
}
