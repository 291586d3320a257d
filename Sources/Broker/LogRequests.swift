import BrokerCore
import Glibc
import LinuxSystem
import WireProtocol

/// What workers say of their tasks by `LOG`: `runs/<job>/attempt-<n>.log`, bounded.
struct JobLogs {
    static let maximumBytes = 16 << 20
    /// The present attempt of jobs of one task.
    private var attempts: [JobID: Int] = [:]
    private var sizes: [String: Int] = [:]

    mutating func began(_ key: AttemptKey) {
        if attempts.count > 10_000 { attempts.removeAll() }
        attempts[key.task.job] = key.attempt
    }

    mutating func ended(_ job: JobID) { attempts.removeValue(forKey: job) }

    static func path(_ directory: String, attempt: Int) -> String {
        "\(directory)/attempt-\(attempt).log"
    }

    /// Where a line is to be written; nil when the file is full.
    mutating func target(of job: JobID, adding bytes: Int, home: BrokerHome) -> String? {
        let path = Self.path(home.run(of: job.text), attempt: attempts[job] ?? 1)
        if sizes.count > 1_000 { sizes.removeAll() }
        let size = sizes[path] ?? (try? FilePath.size(of: path)) ?? 0
        guard size + bytes <= Self.maximumBytes else { return nil }
        sizes[path] = size + bytes
        return path
    }

    /// The measurements that a job's worker may write into its folder, a JSON object a line; what they say is theirs.
    static func metrics(_ workdir: String) -> String { "\(workdir)/metrics.jsonl" }

    /// The newest attempt that has a log.
    static func newestAttempt(_ directory: String) -> Int? {
        let names = (try? FilePath.entries(of: directory)) ?? []
        return names.compactMap { name -> Int? in
            guard name.hasPrefix("attempt-"), name.hasSuffix(".log") else { return nil }
            return Int(name.dropFirst(8).dropLast(4))
        }.max()
    }
}

extension EventLoop {
    func logs(_ message: Message, _ request: PendingRequest) throws {
        let header = try message.decode(LogsRequest.self)
        let after = max(0, header.after ?? 0)
        let limit = min(max(1, header.limit ?? 256 << 10), WireLimits.bodyBytes)
        switch (header.job, header.worker) {
        case (nil, let worker?):
            guard let name = WireName(text: worker),
                supervisor.slots[worker] != nil || FilePath.exists(home.workerLog(name.text))
            else {
                throw ErrorObject(
                    .unknownWorker, .user, "there is no worker `\(worker.prefix(80))`")
            }
            let isRunning = supervisor.slots[worker]?.process != nil
            sendLog(home.workerLog(name.text), after, limit, isOpen: isRunning, request)
        case (let job?, nil):
            resolveOne(job, request) { loop, id in
                loop.records([id], request) { loop, records in
                    if header.stream == .metrics {
                        let isOpen = records.first.map { !$0.status.state.isFinal } ?? false
                        return loop.sendLog(
                            JobLogs.metrics(loop.home.work(of: id.text)), after, limit,
                            isOpen: isOpen, request)
                    }
                    let directory = loop.home.run(of: id.text)
                    let attempt = header.attempt ?? JobLogs.newestAttempt(directory) ?? 1
                    let isOpen = records.first.map { !$0.status.state.isFinal } ?? false
                    loop.sendLog(
                        JobLogs.path(directory, attempt: attempt), after, limit, isOpen: isOpen,
                        request)
                }
            }
        default:
            throw ErrorObject(.badHeader, .user, "give one of `job` and `worker`")
        }
    }

    private func sendLog(
        _ path: String, _ after: Int, _ limit: Int, isOpen: Bool, _ request: PendingRequest
    ) {
        offload(reader) { () -> (bytes: [UInt8], size: Int) in
            guard let file = try? DataFile(path: path, .reading), let size = try? file.size()
            else { return ([], 0) }
            // A log that was cut since is read from its new beginning.
            let first = after > size ? 0 : after
            let bytes = (try? file.read(at: first, count: min(limit, size - first))) ?? []
            return (bytes, size)
        } then: { loop, piece in
            let first = after > piece.size ? 0 : after
            let next = first + piece.bytes.count
            loop.replyNow(
                request, LogsReply(next: next, complete: !isOpen && next >= piece.size),
                bodies: [Message.Body("log", piece.bytes)])
        }
    }

    /// Keeps a worker's `LOG` with its job, and publishes it.
    func takeLog(_ header: LogHeader) {
        guard let instance = sessions[header.session] else { return }
        if let task = header.task {
            let id = TaskID(task)
            let line =
                "\(moment.wall) \(header.level.rawValue) \(instance) \(header.message)"
                .replacing("\n", with: " ") + "\n"
            let bytes = Array(line.utf8)
            if core?.job(id.job) != nil,
                let path = jobLogs.target(of: id.job, adding: bytes.count, home: home)
            {
                disk.add { LogFile.append(bytes, to: path) }
            }
        }
        publish(
            EventObject(
                event: Int(lastEvent), type: "log", atMs: Int(moment.wall), job: header.task?.job,
                task: header.task, worker: instance,
                fields: .init([
                    ("level", .string(header.level.rawValue)), ("message", .string(header.message)),
                ])))
    }
}

enum LogFile {
    /// Adds to a log; a log that cannot be written is no reason to stop.
    static func append(_ bytes: [UInt8], to path: String) {
        mkdir(FilePath.parent(of: path), 0o700)
        let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return }
        defer { Glibc.close(descriptor) }
        _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    }
}
