import ChatTemplate
import Datasets
import Dispatch
import Generation
import JSONModel
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import Synchronization
import Tokenization
import Transformer

/// A folder with expected.json and train/: what transformers and PEFT compute with a really trained chat model.
///
/// Prompts with their rendered text, ids, largest logits and greedy continuation; paragraphs with the score of every
/// token; a fine-tune from start to end (`VerificationModelTraining`); the trained adapter's replies.
struct VerificationModel {
    let folder: String
    let decoder: Decoder
    /// In float32, whatever is verified.
    let exact: Decoder
    let text: ReferenceText
    let elementType: Kernels.ElementType
    let compute: Compute
    let report: VerificationReport

    var isExact: Bool { elementType == .float32 }

    static func isReference(_ folder: String) -> Bool {
        FilePath.exists(folder + "/expected.json") && FilePath.exists(folder + "/train/run.json")
    }

    init(
        folder: String, model: String, elementType: Kernels.ElementType, compute: Compute,
        report: VerificationReport
    ) throws {
        self.folder = folder
        self.elementType = elementType
        self.compute = compute
        self.report = report
        text = try ReferenceText(model: model)
        let config = try ModelConfigReader.read(folder: model)
        let checkpoint = try CheckpointSource.open(folder: model, config: config)
        exact = try Decoder(
            config: config, source: checkpoint, elementType: .float32, compute: compute)
        decoder =
            elementType == .float32
            ? exact
            : try Decoder(
                config: config, source: checkpoint, elementType: elementType, compute: compute)
    }

    func json(_ name: String) throws -> JSONValue {
        try JSONValue.parse(FilePath.read(folder + "/" + name))
    }

    func run() throws {
        let expected = try json("expected.json")
        let prompts = expected["prompts"]?.array ?? []
        try checkPrompts(prompts)
        try checkParagraphs(expected["paragraphs"]?.array ?? [])
        try checkReplies()
    }

    // MARK: Prompts

    private func checkPrompts(_ prompts: [JSONValue]) throws {
        var requests: [GenerationRequest] = []
        for prompt in prompts {
            let ids = Self.tokens(prompt["ids"])
            let rendered = try prompt["messages"].map(text.render) ?? prompt["text"]?.string ?? ""
            let mine = try text.tokenizer.encode(
                rendered, addSpecialTokens: prompt["messages"] == nil)
            report.expectEqual(
                "\(name(prompt)): text and ids", mine.map(Int64.init), ids.map(Int64.init),
                mustAgree: rendered == prompt["rendered"]?.string)
            if rendered != prompt["rendered"]?.string {
                report.refuse("\(name(prompt)): another rendered text")
            }
            try checkLogits(prompt, ids)
            requests.append(
                GenerationRequest(
                    prompt: ids, maximumTokens: prompt["greedy_ids"]?.array?.count ?? 0))
        }
        for (prompt, result) in zip(prompts, try answers(requests)) {
            let gaps = (prompt["gaps"]?.array ?? []).compactMap(\.double)
            compareTokens(
                "\(name(prompt)): greedy", result.choices[0].tokens,
                Self.tokens(prompt["greedy_ids"]),
                until: (prompt["stop_at"]?.integer).map { $0 + 1 }, gaps: gaps)
        }
    }

    private func checkLogits(_ prompt: JSONValue, _ ids: [Int32]) throws {
        let pageCount = PageAllocator.pages(forPositions: ids.count)
        let pass = try InferencePass(
            decoder: decoder, compute: compute, maximumRows: ids.count, maximumLogitRows: 1,
            maximumPositions: ids.count, pageCount: pageCount)
        var batch = RaggedBatch()
        batch.append(
            tokens: ids, startPosition: 0,
            pages: (0..<pageCount).compactMap { _ in
                pass.pages.allocate()
            }, logits: .last)
        try pass.run(batch)
        let largest = try pass.logits.withFloats(row: 0) { row in
            Self.tokens(prompt["top_ids"]).map { row[Int($0)] }
        }
        report.compare(
            "\(name(prompt)): largest logits", largest,
            (prompt["top_logits"]?.array ?? []).compactMap(\.double).map { Float($0) },
            tolerance: isExact ? 1e-4 : 4e-2)
    }

    /// Equal up to the first step at which the two best tokens were as close as the engine's own error.
    private func compareTokens(
        _ what: String, _ computed: [Int32], _ expected: [Int32], until end: Int?, gaps: [Double]
    ) {
        let least = isExact ? 0.02 : 1
        var count = min(end ?? expected.count, expected.count)
        if let close = gaps.prefix(count).firstIndex(where: { $0 < least }) { count = close }
        report.expectEqual(
            what, computed.prefix(count).map(Int64.init), expected.prefix(count).map(Int64.init),
            mustAgree: true)
    }

    // MARK: Scores

    private func checkParagraphs(_ paragraphs: [JSONValue]) throws {
        let requests = paragraphs.map { paragraph in
            var request = GenerationRequest(
                prompt: Self.tokens(paragraph["ids"]), maximumTokens: 0)
            request.scoresPrompt = true
            request.logprobs = 0
            return request
        }
        for (paragraph, result) in zip(paragraphs, try answers(requests)) {
            let ids = try text.tokenizer.encode(
                paragraph["text"]?.string ?? "", addSpecialTokens: true)
            report.expectEqual(
                "\(name(paragraph)): ids", ids.map(Int64.init),
                Self.tokens(paragraph["ids"]).map(Int64.init), mustAgree: true)
            let scores = result.promptLogprobs.dropFirst().map { -($0.logprob ?? .nan) }
            report.compare(
                "\(name(paragraph)): score of each token", scores,
                (paragraph["nll"]?.array ?? []).compactMap(\.double).map { Float($0) },
                tolerance: isExact ? 1e-4 : 4e-2)
            let mean = scores.reduce(0) { $0 + Double($1) } / Double(max(1, scores.count))
            let wanted = paragraph["mean_nll"]?.double ?? .nan
            report.record(
                "\(name(paragraph)): mean score", abs(mean - wanted) / wanted,
                tolerance: isExact ? 1e-4 : 1e-2)
        }
    }

    // MARK: Replies

    /// The saved adapter's greedy replies to the evaluation items.
    private func checkReplies() throws {
        let served = try decoder.serve(
            AdapterFolder.read(folder + "/train/adapter-trained", for: decoder), compute: compute)
        let replies = try json("train/eval.json")["after"]?.array ?? []
        let items = try FilePath.read(folder + "/train/eval.jsonl").split(separator: 10).map {
            try JSONValue.parse(Array($0))["messages"]?.array ?? []
        }
        guard items.count == replies.count, !items.isEmpty else {
            throw ModelFileError(
                .malformed, file: folder + "/train/eval.json", item: "after",
                "has \(replies.count) replies to \(items.count) items")
        }
        let requests = try items.map { messages in
            var request = GenerationRequest(
                prompt: try text.tokenizer.encode(
                    text.render(.array(messages.dropLast())), addSpecialTokens: false),
                adapter: served, maximumTokens: 80)
            request.endTokens = Set(
                decoder.config.specialTokens.end.map { Int32(clamping: $0) })
            return request
        }
        var exactHere = 0
        var exactThere = 0
        var parted = 0
        for (index, result) in try answers(requests).enumerated() {
            let choice = result.choices[0]
            let wanted = items[index].last?["content"]?.string
            exactHere += choice.text == wanted ? 1 : 0
            exactThere += replies[index]["exact"]?.bool == true ? 1 : 0
            let isClear = (replies[index]["min_gap"]?.double ?? 0) >= 0.02
            parted += isClear && choice.tokens != Self.tokens(replies[index]["ids"]) ? 1 : 0
        }
        report.record(
            "replies: exact ones, \(exactHere) here, \(exactThere) there",
            Double(abs(exactHere - exactThere)), tolerance: 3)
        if isExact { report.record("replies: clear ones that part", Double(parted), tolerance: 0) }
    }

    // MARK: Tools

    /// Greedy answers of all requests together.
    private func answers(_ given: [GenerationRequest]) throws -> [GenerationResult] {
        let compute = try Compute(pool: compute.pool)
        let decoder = decoder
        let engine = try GenerationEngine(
            tokenizer: text.tokenizer, limits: GenerationLimits()
        ) {
            try InferencePass(
                decoder: decoder, compute: compute, maximumRows: 512, maximumLogitRows: 64,
                maximumPositions: 1024, pageCount: 1024)
        }
        defer { engine.stop() }
        let found = Mutex<[Int: Result<GenerationResult, GenerationError>]>([:])
        let done = DispatchSemaphore(value: 0)
        for (index, request) in given.enumerated() {
            var request = request
            request.sampling.temperature = 0
            engine.submit(request) { event in
                switch event {
                case .text: return
                case .finished(let result): found.withLock { $0[index] = .success(result) }
                case .failed(let error): found.withLock { $0[index] = .failure(error) }
                }
                done.signal()
            }
        }
        for _ in given { done.wait() }
        let all = found.withLock { $0 }
        return try given.indices.map { try all[$0]!.get() }
    }

    private func name(_ entry: JSONValue) -> String { entry["name"]?.string ?? "?" }

    static func tokens(_ value: JSONValue?) -> [Int32] {
        (value?.array ?? []).compactMap(\.integer).map { Int32(clamping: $0) }
    }
}
