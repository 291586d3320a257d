import ArgumentParser
import Foundation
import JSONModel
import LoraqClient
import WireProtocol

/// How answers are chosen; the names and defaults are OpenAI's.
struct SamplingOptions: ParsableArguments {
    @Option(help: "The most tokens to answer with.") var maxTokens: Int?
    @Option(help: "0 takes the likeliest token each time.") var temperature: Double?
    @Option(help: "Sample from the likeliest tokens that together have this probability.")
    var topP: Double?
    @Option(help: "Sample from so many likeliest tokens.") var topK: Int?
    @Option(help: "Leave out tokens less likely than this share of the likeliest.")
    var minP: Double?
    @Option(help: "Above 1: repeat less.") var repetitionPenalty: Double?
    @Option(parsing: .unconditional, help: "From -2 to 2.") var presencePenalty: Double?
    @Option(parsing: .unconditional, help: "From -2 to 2.") var frequencyPenalty: Double?
    @Option(help: "The same seed, the same answer.") var seed: Int?
    @Option(parsing: .unconditionalSingleValue, help: "Stop before this text (repeatable).")
    var stop: [String] = []

    func apply(to body: inout JSONObject) {
        body["max_tokens"] = maxTokens.map { .integer(Int64($0)) }
        body["temperature"] = temperature.map { .number($0) }
        body["top_p"] = topP.map { .number($0) }
        body["top_k"] = topK.map { .integer(Int64($0)) }
        body["min_p"] = minP.map { .number($0) }
        body["repetition_penalty"] = repetitionPenalty.map { .number($0) }
        body["presence_penalty"] = presencePenalty.map { .number($0) }
        body["frequency_penalty"] = frequencyPenalty.map { .number($0) }
        body["seed"] = seed.map { .integer(Int64($0)) }
        if !stop.isEmpty { body["stop"] = .array(stop.map { .string($0) }) }
    }
}

struct Generate: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Answer one prompt, with or without an adapter.",
        discussion: """
            The prompt goes through the model's chat template; --raw continues the text as it stands.
            """)

    @Argument(help: "M, M:A or M:A@3.") var model: String
    @Argument(help: "The prompt (`-`: standard input).") var prompt: String
    @Flag(help: "No chat template: continue the text.") var raw = false
    @Option(parsing: .unconditional, help: "A system message before the prompt.") var system:
        String?
    @OptionGroup var sampling: SamplingOptions
    @Option(help: ArgumentHelp("Give up after this long (exit code 4).", valueName: "seconds"))
    var timeout: Double?
    @OptionGroup var common: CommonOptions

    mutating func validate() throws {
        if raw, system != nil { throw ValidationError("--system has no place with --raw") }
        if let timeout, !(timeout > 0 && timeout < 1e9) {
            throw ValidationError("--timeout must be above 0 seconds")
        }
    }

    func run(_ session: Session) throws {
        try NameCheck.checkReference(model, what: "the model")
        let text = prompt == "-" ? try Generate.standardInput() : prompt
        var body: JSONObject = ["model": .string(model)]
        if raw {
            body["prompt"] = .string(text)
        } else {
            var messages: [JSONValue] = []
            if let system { messages.append(["role": "system", "content": .string(system)]) }
            messages.append(["role": "user", "content": .string(text)])
            body["messages"] = .array(messages)
        }
        sampling.apply(to: &body)
        let completion = Completion(session: session, timeout: timeout)
        let answer = try completion.run(
            body, isChat: !raw, streams: session.terminal.outputIsTerminal)
        if session.json { return try session.print(json: answer.line) }
        if !answer.wasStreamed { try session.print(answer.text) }
    }

    private static func standardInput() throws -> String {
        let limit = 3 << 20
        let data = try FileHandle.standardInput.read(upToCount: limit + 1) ?? Data()
        guard data.count <= limit else {
            throw ToolError.usage("the prompt is longer than \(HumanText.bytes(limit))")
        }
        guard let text = String(validating: data, as: UTF8.self) else {
            throw ToolError.usage("the prompt is not UTF-8 text")
        }
        return text
    }
}

/// One request line as a job of its own: submitted, followed, its answer read back.
struct Completion {
    struct Answer {
        let line: JSONValue
        let text: String
        let wasStreamed: Bool
    }

    let session: Session
    let timeout: Double?

    /// - Throws: `ToolError` with the line's own error when the request failed.
    func run(_ body: JSONObject, isChat: Bool, streams: Bool) throws -> Answer {
        let request: JSONValue = .object([
            "custom_id": "generate", "method": "POST",
            "url": isChat ? "/v1/chat/completions" : "/v1/completions", "body": .object(body),
        ])
        var job = JobRequest(kind: "infer", spec: .object(JSONObject()))
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
            if let error = job.error {
                throw ToolError(.failure, "\(error.code): \(error.message)", hint: error.hint)
            }
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
            throw ToolError(.failure, ErrorLine.message(of: bytes), hint: "job \(job.id)")
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

/// Prints streamed pieces as they come. Pieces are not kept by anybody, so the final answer decides: what
/// was printed is completed to it, or it is printed anew.
final class ChunkPrinter {
    private let write: (String) -> Void
    private var printed = ""
    private var attempt: Int?
    private var lastIndex = -1

    init(write: @escaping (String) -> Void) { self.write = write }

    func take(_ event: BrokerEvent) {
        guard event.type == "chunk", event.json["choice"]?.integer ?? 0 == 0,
            let text = event.json["text"]?.string
        else { return }
        let number = event.json["attempt"]?.integer ?? 1
        if let attempt, number != attempt {
            // Another attempt begins from the start.
            if !printed.isEmpty { write("\n") }
            printed = ""
            lastIndex = -1
        }
        attempt = number
        let index = event.json["token_index"]?.integer ?? lastIndex + 1
        guard index > lastIndex else { return }
        lastIndex = index
        let safe = Terminal.safe(text)
        printed += safe
        write(safe)
    }

    func finish(with answer: String) {
        if answer.utf8.starts(with: printed.utf8) {
            let rest = answer.utf8.dropFirst(printed.utf8.count)
            write(String(decoding: rest, as: UTF8.self) + "\n")
        } else {
            write("\n" + answer + "\n")
        }
    }
}

extension Terminal {
    /// Text from a model without control characters other than newline and tab.
    static func safe(_ text: String) -> String {
        var cleaned = String.UnicodeScalarView()
        for scalar in text.unicodeScalars
        where scalar == "\n" || scalar == "\t" || !TextTable.isControl(scalar) {
            cleaned.append(scalar)
        }
        return String(cleaned)
    }
}

struct Chat: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Talk with a model, with or without an adapter.",
        discussion: "In the chat: /reset forgets what was said, /system TEXT, /exit or Ctrl-D ends."
    )

    @Argument(help: "M, M:A or M:A@3.") var model: String
    @Option(parsing: .unconditional, help: "A system message.") var system: String?
    @OptionGroup var sampling: SamplingOptions
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        try NameCheck.checkReference(model, what: "the model")
        // A broker that is not there is better told before the first question.
        try session.call(.ping)
        let completion = Completion(session: session, timeout: nil)
        var history = ChatHistory(system: system)
        session.note("talking with \(model); /exit or Ctrl-D ends")
        while let input = try read(session) {
            switch history.command(input) {
            case .exit: return
            case .note(let text):
                session.note(text)
                continue
            case .nothing: continue
            case .say: break
            }
            var body: JSONObject = ["model": .string(model), "messages": history.json]
            sampling.apply(to: &body)
            do {
                let answer = try completion.run(
                    body, isChat: true, streams: session.terminal.outputIsTerminal)
                if !answer.wasStreamed { try session.print(answer.text) }
                history.add("assistant", answer.text)
            } catch let error as ToolError {
                history.dropLast()
                if error.status == .interrupted {
                    Interrupts.clear()
                    session.note("\ninterrupted")
                    continue
                }
                session.note(session.terminal.errorStyle.red("error: ") + error.message)
                if !session.terminal.inputIsTerminal { throw ExitCode(error.status.rawValue) }
            }
        }
        if session.terminal.inputIsTerminal { session.note("") }
    }

    /// The next input, or nil at its end. A line that ends in `\` goes on in the next.
    private func read(_ session: Session) throws -> String? {
        let prompt = session.terminal.inputIsTerminal
        var text = ""
        while true {
            if prompt {
                StandardStreams.writeError(
                    session.terminal.errorStyle.bold(text.isEmpty ? "> " : "… "))
            }
            guard let line = readLine(strippingNewline: true) else {
                if Interrupts.isInterrupted { throw ToolError(.interrupted, "interrupted") }
                return text.isEmpty ? nil : text
            }
            guard line.hasSuffix("\\") else { return text + line }
            text += line.dropLast() + "\n"
        }
    }
}

/// What was said so far, and the chat's own commands.
struct ChatHistory {
    enum Turn: Equatable {
        case say, exit, nothing
        case note(String)
    }

    private(set) var messages: [(role: String, content: String)] = []
    private var system: String?

    init(system: String?) { self.system = system }

    var json: JSONValue {
        let all = (system.map { [(role: "system", content: $0)] } ?? []) + messages
        return .array(all.map { ["role": .string($0.role), "content": .string($0.content)] })
    }

    /// Takes a line of input: a command, or something said.
    mutating func command(_ input: String) -> Turn {
        let trimmed = input.trimmingCharacters(in: .whitespaces)
        if trimmed.isEmpty { return .nothing }
        guard trimmed.hasPrefix("/") else {
            add("user", input)
            return .say
        }
        let words = trimmed.split(separator: " ", maxSplits: 1)
        switch words[0] {
        case "/exit", "/quit": return .exit
        case "/reset":
            messages.removeAll()
            return .note("forgotten")
        case "/system":
            system = words.count > 1 ? String(words[1]) : nil
            return .note(system == nil ? "no system message" : "system message set")
        default:
            return .note("unknown command \(words[0]); there are /reset, /system TEXT and /exit")
        }
    }

    mutating func add(_ role: String, _ content: String) { messages.append((role, content)) }

    mutating func dropLast() { if !messages.isEmpty { messages.removeLast() } }
}
