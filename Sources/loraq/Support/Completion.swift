import JSONModel
import LoraqClient
import WireProtocol

/// One request line as a job of its own: submitted, followed, its answer read back.
struct Completion {
    struct Answer {
        let line: JSONValue
        let text: String
        let wasStreamed: Bool
    }

    let session: Session
    let timeout: Double?
    /// The plugin that is to answer.
    var worker: String?

    /// - Throws: `ToolError` with the line's own error when the request failed.
    func run(_ body: JSONObject, isChat: Bool, streams: Bool) throws -> Answer {
        let request: JSONValue = .object([
            "custom_id": "generate", "method": "POST",
            "url": isChat ? "/v1/chat/completions" : "/v1/completions", "body": .object(body),
        ])
        var job = JobRequest(kind: "infer", spec: .object(JSONObject()))
        job.worker = worker
        job.label = isChat ? "chat" : "completion"
        job.inputs = [.body(name: "lines", bytes: request.serialized() + [UInt8(ascii: "\n")])]
        let printer = ChunkPrinter { try? StandardStreams.print($0, terminator: "") }
        let wantsChunks = streams && !session.json
        var options = WaitOptions()
        options.timeout = timeout
        options.quiet = true
        var waiter = JobWaiter(session: session, options: options)
        waiter.events = try session.client.subscribe(to: ["job/\(job.id)"])
        if wantsChunks { waiter.onEvent = printer.take }
        let accepted = try session.client.submit(job)
        let ended: JobSnapshot
        do {
            ended = try waiter.wait(for: [accepted.job])[0]
        } catch let error as ToolError where error.status == .interrupted {
            // Nobody waits for this answer any more.
            _ = try? session.call(.cancel, ["jobs": [.string(accepted.job)]])
            throw ToolError(.interrupted, "interrupted")
        }
        let line = try resultLine(of: ended)
        let text = Completion.text(in: line) ?? ""
        if wantsChunks { printer.finish(with: Terminal.safe(text)) }
        return Answer(line: line, text: text, wasStreamed: wantsChunks)
    }

    private func resultLine(of job: JobSnapshot) throws -> JSONValue {
        var stream = ResultStream(
            client: session.client, job: job.id, stream: .all,
            policy: RequestPolicy(waitsForBroker: true))
        let bytes = try stream.next().lines
        guard !bytes.isEmpty else {
            if let error = job.error { throw ToolError(error) }
            throw ToolError(
                .failure, "the job ended as \(job.state) without an answer",
                hint: job.reason?.message ?? "loraq status \(job.id)")
        }
        let line: JSONValue
        do {
            line = try JSONValue.parse(bytes)
        } catch {
            throw ToolError(.failure, "the answer is not JSON: \(error)")
        }
        if Completion.text(in: line) == nil {
            throw ToolError(ErrorLine.error(of: line), hint: "job \(job.id)")
        }
        return line
    }

    /// The text of the first choice, of a chat or a plain completion.
    static func text(in line: JSONValue) -> String? {
        guard let choice = line["response"]?["body"]?["choices"]?.array?.first else { return nil }
        if let text = choice["text"]?.string { return text }
        guard let message = choice["message"] else { return nil }
        return message["content"]?.string ?? message["tool_calls"].map { $0.text() } ?? ""
    }
}
