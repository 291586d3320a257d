import ChatTemplate
import Foundation
import Generation
import JSONModel
import LinuxSystem
import Tokenization
import Transformer
import WireProtocol
import WorkerRuntime

/// `infer`: each task is one request line; many run together in the model's engine.
///
/// Reading lines, rendering templates, tokenizing and loading adapters happens on a thread of its own, so that neither the
/// heartbeats nor the engine wait for it.
///
/// `@unchecked Sendable` is sound: the queue is guarded by `condition`.
final class InferKind: @unchecked Sendable {
    private let shelf: ModelShelf
    private let numerics: String
    private let onLoad: @Sendable () -> Void
    private let condition = NSCondition()
    private var queue: [WorkerTask] = []
    private var isClosed = false
    private var thread: SystemThread?

    /// - Parameter onLoad: Called after something was loaded.
    init(shelf: ModelShelf, numerics: String, onLoad: @escaping @Sendable () -> Void) throws {
        self.shelf = shelf
        self.numerics = numerics
        self.onLoad = onLoad
        thread = try SystemThread(name: "requests") { [self] in work() }
    }

    func accept(_ task: WorkerTask) {
        condition.withLock {
            queue.append(task)
            condition.signal()
        }
    }

    func close() {
        condition.withLock {
            isClosed = true
            condition.signal()
        }
        thread?.join()
    }

    private func work() {
        while let task = next() {
            do {
                try begin(task)
            } catch {
                let failure = TaskFailure(sorting: error)
                task.fail(failure.error, param: failure.field)
            }
        }
    }

    private func next() -> WorkerTask? {
        condition.withLock {
            while queue.isEmpty, !isClosed { condition.wait() }
            return queue.isEmpty ? nil : queue.removeFirst()
        }
    }

    /// Hands one request to its model's engine.
    private func begin(_ task: WorkerTask) throws {
        if let reason = task.stopReason {
            reason == .preempted ? task.giveWay() : task.endCancelled()
            return
        }
        let known = shelf.loadCount
        let model = try shelf.model(of: task.envelope)
        let (adapter, loadSeconds) = try adapter(task.envelope, model)
        if loadSeconds != nil || shelf.loadCount != known { onLoad() }
        guard let line = task.request else {
            throw TaskFailure.user(.badLine, "the line is not JSON")
        }
        guard let url = line["url"]?.string, let endpoint = InferenceBody.Endpoint(rawValue: url)
        else {
            throw TaskFailure.user(.badLine, "is not an endpoint that is served here", field: "url")
        }
        let body = try InferenceBody(line["body"] ?? .null, endpoint: endpoint)
        guard let tokenizer = model.tokenizer else {
            throw TaskFailure.user("NO_TOKENIZER", "the model has no tokenizer")
        }
        let vocabulary = model.decoder.config.vocabularySize
        if let token = body.sampling.logitBias.keys.filter({ $0 >= vocabulary }).min() {
            throw TaskFailure.user(
                .badLine, "the model has no token \(token); its ids end at \(vocabulary - 1)",
                field: "body.logit_bias.\(token)")
        }
        let prompt = try Prompt(
            body, model: model, tokenizer: tokenizer, now: task.envelope.jobTime)
        var request = GenerationRequest(
            prompt: prompt.tokens, adapter: adapter,
            maximumTokens: body.maximumTokens ?? (endpoint == .chat ? Int.max : 16))
        request.sampling = body.sampling
        if !body.hasSeed { request.sampling.seed = Self.defaultSeed(task.envelope) }
        request.stops = body.stops
        request.endTokens = model.endTokens
        request.choiceCount = body.choiceCount
        request.logprobs = body.logprobs
        request.scoresPrompt = body.echo && body.logprobs != nil
        submit(
            request, body: body, prompt: prompt, task, model, tokenizer, loadSeconds: loadSeconds)
    }

    private func submit(
        _ request: GenerationRequest, body: InferenceBody, prompt: Prompt, _ task: WorkerTask,
        _ model: LoadedModel, _ tokenizer: Tokenizer, loadSeconds: Double?
    ) {
        let response = ResponseBody(
            id: task.envelope.task.text, model: Self.pinnedName(task.envelope),
            created: WallClock.milliseconds() / 1000, seed: request.sampling.seed,
            numerics: numerics)
        do {
            let engine = try model.generation()
            let id = engine.submit(request) { event in
                switch event {
                case .text(let choice, let tokenIndex, let text):
                    task.advance()
                    task.chunk(text, tokenIndex: tokenIndex, choice: choice)
                case .finished(let result):
                    let usage = Self.usage(result, loadSeconds: loadSeconds)
                    let json = response.json(
                        result, for: body, promptText: prompt.text, tokenizer: tokenizer)
                    switch task.stopReason {
                    case .preempted
                    where result.choices.contains(where: { $0.finishReason == .cancelled }):
                        task.giveWay()
                    case .cancelled, .dropped: task.endCancelled(partial: json, usage: usage)
                    default: task.succeed(response: json, usage: usage)
                    }
                case .failed(let error):
                    let failure = TaskFailure(sorting: error)
                    task.fail(failure.error, param: failure.field)
                }
            }
            task.onStop { _ in engine.cancel(id) }
        } catch {
            task.fail(TaskFailure(sorting: error).error)
        }
    }

    /// The answer's counts and, since these may differ between runs, only here: how much of the prompt was in memory,
    /// and whether the adapter had to be loaded for this line.
    private static func usage(
        _ result: GenerationResult, loadSeconds: Double?
    ) -> [String: Double] {
        var usage: [String: Double] = [:]
        for entry in ResponseBody.usage(result).object?.entries ?? [] {
            usage[entry.key] = entry.value.double
        }
        usage["cached_tokens"] = Double(result.cachedTokens)
        if let loadSeconds {
            usage["adapter_loads"] = 1
            usage["adapter_load_seconds"] = loadSeconds
        }
        return usage
    }

    private func adapter(
        _ envelope: TaskEnvelope, _ model: LoadedModel
    ) throws -> (ServedAdapter?, loadSeconds: Double?) {
        guard let artifact = envelope.artifacts.first(where: { $0.type == .adapter }) else {
            return (nil, nil)
        }
        guard let digest = ContentDigest(text: artifact.digest.text) else {
            throw TaskFailure(
                ErrorObject(.internalError, .internal, "the adapter's digest is malformed"))
        }
        let base = model.prepared.manifest.base.text
        if let trainedOn = artifact.meta?["base"]?.string, trainedOn != base {
            throw TaskFailure.user(
                "BAD_ADAPTER",
                "\(artifact.name.text)@\(artifact.version) was made for another base model (\(trainedOn), this is \(base))",
                hint:
                    "train it again on this model, or name the version of the model it was made for"
            )
        }
        return try model.adapter(folder: artifact.path, digest: digest)
    }

    /// `M@v` or `M:A@v`, as it was pinned when the task became ready.
    static func pinnedName(_ envelope: TaskEnvelope) -> String {
        let artifact =
            envelope.artifacts.first { $0.type == .adapter }
            ?? envelope.artifacts.first { $0.type == .model }
        return artifact.map { $0.name.pinned(to: $0.version).text } ?? ""
    }

    /// The seed of a line that names none: the same for the same job and id, on any worker. 53 bits, so that every JSON
    /// reader keeps it.
    static func defaultSeed(_ envelope: TaskEnvelope) -> UInt64 {
        let text = envelope.job.text + "\n" + (envelope.customID ?? envelope.task.text)
        let digest = ContentDigest(of: Array(text.utf8))
        return (UInt64(digest.hex.prefix(16), radix: 16) ?? 0) >> 11
    }
}

/// A request's prompt, as text and as ids.
struct Prompt {
    let text: String
    let tokens: [Int32]

    /// - Throws: `NO_TEMPLATE`, what the template or the tokenizer throws, or `BAD_LINE`.
    init(
        _ body: InferenceBody, model: LoadedModel, tokenizer: Tokenizer, now: LocalTime
    ) throws {
        switch body.prompt {
        case .text(let text):
            self.text = text
            tokens = try tokenizer.plainSpans(text).ids
        case .tokens(let tokens):
            let limit = Int32(clamping: model.decoder.config.vocabularySize)
            if let wrong = tokens.first(where: { $0 >= limit }) {
                throw TaskFailure.user(
                    .badLine, "the model has no token \(wrong); its ids end at \(limit - 1)",
                    field: "body.prompt")
            }
            self.tokens = tokens
            text = tokenizer.decode(tokens, skipSpecialTokens: false)
        case .messages(let messages, let tools, let variables):
            let rendered = try ChatRendering.render(
                model, messages: messages, tools: tools, variables: variables,
                addGenerationPrompt: true, now: now)
            text = rendered.text
            // The template writes the special tokens itself.
            tokens = try tokenizer.encode(text, addSpecialTokens: false)
        }
        let limit = Int32(clamping: model.decoder.config.vocabularySize)
        if let beyond = tokens.first(where: { $0 >= limit }) {
            throw TaskFailure.user(
                .badLine,
                "the text needs token \(beyond), for which the model has no row (it has \(limit))",
                field: "body")
        }
    }
}
