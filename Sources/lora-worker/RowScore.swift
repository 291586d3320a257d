import Datasets
import Foundation
import Generation
import JSONModel
import Kernels
import LinuxSystem
import PatternMatching
import Transformer
import WireProtocol

/// What one model did with one row.
struct RowScore: Codable, Equatable {
    var line: Int
    /// Labels that the loss counts.
    var labels: Int
    /// Summed over the labels, in nats.
    var loss: Double
    /// Labels that the model finds likeliest.
    var correct: Int
    /// The last labelled run as text, without end token and outer white space.
    var expected: String?
    /// What stands before that run.
    var prompt: String?
    /// What was generated in its place.
    var text: String?
    var found: [Bool]?

    var isExact: Bool? { text.map { $0 == expected } }

    func wire(metrics: [String]) -> EvaluateResult.Line.Answer {
        EvaluateResult.Line.Answer(
            loss: labels > 0 ? loss / Double(labels) : nil, correct: correct, text: text,
            exact: metrics.contains("exact_match") ? isExact : nil,
            found: (found ?? []).isEmpty ? nil : found)
    }

    /// Scores of an earlier attempt, if they are those of these lines.
    static func read(_ path: String, lines: [Int]) -> [RowScore]? {
        guard FilePath.exists(path), let bytes = try? FilePath.read(path, limit: 64 << 20),
            let scores = try? JSONDecoder().decode([RowScore].self, from: Data(bytes)),
            scores.map(\.line) == lines
        else { return nil }
        return scores
    }

    static func write(_ scores: [RowScore], to path: String) throws {
        try DurableFile.write([UInt8](JSONEncoder().encode(scores)), to: path)
    }
}

/// Scores rows through one model: losses by a forward pass, answers by the model's engine.
struct RowScorer {
    let model: LoadedModel
    let adapter: ServedAdapter?
    let spec: EvaluateSpec
    let patterns: [PythonPattern]
    let context: JobContext

    private var generates: Bool { !patterns.isEmpty || spec.metrics.contains("exact_match") }

    func score(_ rows: [TrainingExample]) throws -> [RowScore] {
        var scores = try forced(rows)
        if generates {
            let answers = try answers(to: rows)
            for (index, row) in rows.enumerated() {
                scores[index].expected = expected(row)
                if spec.lines != nil { scores[index].prompt = prompt(row) }
                let text = answers[index]
                scores[index].text = text
                scores[index].found = try patterns.map { try $0.search(text) != nil }
            }
        }
        return scores
    }

    // MARK: Losses

    private func forced(_ rows: [TrainingExample]) throws -> [RowScore] {
        let scorer = try SequenceScorer(
            decoder: model.decoder, compute: Compute(pool: context.shelf.pool),
            maximumLength: rows.map(\.tokens.count).max() ?? 1)
        return try rows.map { row in
            try context.checkStop()
            let labels = row.labels
            var score = RowScore(line: row.line, labels: row.labelCount, loss: 0, correct: 0)
            try scorer.begin(row.tokens, adapter: adapter)
            while let places = try scorer.advance() {
                for place in places where place + 1 < labels.count && labels[place + 1] >= 0 {
                    let label = Int(labels[place + 1])
                    let logits = try scorer.withLogits(place) { Array($0) }
                    score.loss += TokenLikelihood.negativeLog(logits, token: label)
                    if LogitDifference.top(logits) == label { score.correct += 1 }
                }
                context.task.advance(by: places.count)
            }
            guard score.loss.isFinite else {
                throw TaskFailure.user(
                    "NOT_FINITE", "line \(row.line): the loss is not finite")
            }
            return score
        }
    }

    // MARK: Answers

    /// The labelled run that an answer is compared with: the last one.
    private func answerRange(_ row: TrainingExample) -> Range<Int> {
        row.labelled.last ?? row.tokens.count..<row.tokens.count
    }

    private func expected(_ row: TrainingExample) -> String {
        let tokens = row.tokens[answerRange(row)].filter { !model.endTokens.contains($0) }
        return trimmed(model.tokenizer?.decode(Array(tokens), skipSpecialTokens: true) ?? "")
    }

    /// With the template's special tokens, since it is what the model reads.
    private func prompt(_ row: TrainingExample) -> String {
        let tokens = Array(row.tokens[..<answerRange(row).lowerBound])
        return model.tokenizer?.decode(tokens, skipSpecialTokens: false) ?? ""
    }

    private func trimmed(_ text: String) -> String {
        text.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Greedy answers to what stands before each row's last labelled run.
    private func answers(to rows: [TrainingExample]) throws -> [String] {
        let engine = try model.generation()
        let box = AnswerBox(count: rows.count)
        var ids: [Int] = []
        for (index, row) in rows.enumerated() {
            let range = answerRange(row)
            // A row that is labelled from its first token on has nothing before the answer.
            let start = max(1, range.lowerBound)
            var request = GenerationRequest(
                prompt: Array(row.tokens[..<start]), adapter: adapter,
                maximumTokens: spec.maxTokens ?? 2 * range.count + 8)
            request.sampling.temperature = 0
            request.endTokens = model.endTokens
            let task = context.task
            ids.append(
                engine.submit(request) { event in
                    switch event {
                    case .text: task.advance()
                    case .finished(let result):
                        box.set(index, .success(result.choices.first?.text ?? ""))
                    case .failed(let error): box.set(index, .failure(error))
                    }
                })
        }
        let answers = box.wait { context.task.stopReason != nil }
        guard let answers else {
            for id in ids { engine.cancel(id) }
            try context.checkStop()
            throw JobStopped.cancelled
        }
        return try answers.map { trimmed(try $0.get()) }
    }
}

/// Answers as they come from the engine's thread. `@unchecked Sendable` is sound: guarded by its condition.
private final class AnswerBox: @unchecked Sendable {
    private let condition = NSCondition()
    private var answers: [Result<String, GenerationError>?]
    private var missing: Int

    init(count: Int) {
        answers = Array(repeating: nil, count: count)
        missing = count
    }

    func set(_ index: Int, _ answer: Result<String, GenerationError>) {
        condition.withLock {
            if answers[index] == nil { missing -= 1 }
            answers[index] = answer
            condition.signal()
        }
    }

    /// - Returns: All answers, or nil once `isStopped` says so.
    func wait(isStopped: () -> Bool) -> [Result<String, GenerationError>]? {
        condition.lock()
        defer { condition.unlock() }
        while missing > 0 {
            if isStopped() { return nil }
            _ = condition.wait(until: Date(timeIntervalSinceNow: 0.2))
        }
        return answers.compactMap(\.self)
    }
}
