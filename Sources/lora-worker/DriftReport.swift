import Datasets
import FineTuning
import Foundation
import JSONModel
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import Transformer
import WireProtocol
import WorkerRuntime

/// How far a merged model is from base and adapter computed side by side, on given texts.
///
/// Three ways are compared token by token: unmerged as it is served; merged as it was stored, read back from its files; and
/// merged and computed in float32, which tells what either of the others loses.
struct DriftReport {
    /// Texts are read up to this many tokens in all.
    static let maximumTokens = 16_384

    let model: LoadedModel
    let merged: MergedCheckpoint
    /// The merged model, read back from what was written.
    let stored: any TensorSource
    let adapter: Adapter
    let prompts: String
    let context: JobContext

    func run() throws -> (drift: ExportResult.Drift, warnings: [String]) {
        let recipe = try FineTuneRecipe(.object(JSONObject()))
        let data = try TrainingDataset.read(
            path: prompts,
            builder: try TrainingSource.builder(
                recipe, model, now: context.envelope.jobTime))
        try data.requireLabels()
        var texts: [TrainingExample] = []
        var tokens = 0
        for example in data.examples where tokens + example.tokens.count <= Self.maximumTokens {
            texts.append(example)
            tokens += example.tokens.count
        }
        guard let longest = texts.map(\.tokens.count).max() else {
            throw TaskFailure.user(
                "CONTEXT_LENGTH",
                "prompts: the first row alone has more than \(Self.maximumTokens) tokens")
        }
        var warnings: [String] = []
        if texts.count < data.report.rows {
            warnings.append(
                "the drift was measured on \(texts.count) of \(data.report.rows) prompts")
        }
        let compute = try Compute(pool: context.shelf.pool)
        let stored = try Decoder(
            config: merged.config, source: self.stored,
            elementType: merged.tensors.contains {
                $0.elementType == .bfloat16 && $0.shape.count > 1
            }
                ? .bfloat16 : .float32, compute: compute)
        let exact = try exact(storedType: stored.elementType, compute, &warnings)
        var scorers = [
            (model.decoder, try model.decoder.serve(adapter, compute: compute) as ServedAdapter?)
        ]
        scorers.append((stored, nil))
        if let exact { scorers.append((exact, nil)) }
        let ways = try scorers.map { decoder, served in
            (
                scorer: try SequenceScorer(
                    decoder: decoder, compute: compute, maximumLength: longest), adapter: served
            )
        }
        return (try compare(ways, texts), warnings)
    }

    /// The float32 form, if it is another one and there is memory for it.
    private func exact(
        storedType: Kernels.ElementType, _ compute: Compute, _ warnings: inout [String]
    ) throws -> Decoder? {
        if storedType == .float32, model.decoder.elementType == .float32 { return nil }
        let bytes = 4 * merged.tensors.reduce(0) { $0 + $1.elementCount }
        if let free = HostResources.availableMemoryBytes(), bytes > free / 2 {
            warnings.append(
                "merged and unmerged were not compared with float32, which takes \(bytes >> 20) MiB of memory"
            )
            return nil
        }
        return try Decoder(
            config: merged.config, source: merged, elementType: .float32, compute: compute)
    }

    /// Runs all ways over the texts, one text at a time.
    private func compare(
        _ ways: [(scorer: SequenceScorer, adapter: ServedAdapter?)], _ texts: [TrainingExample]
    ) throws -> ExportResult.Drift {
        var likelihoods = [Double](repeating: 0, count: ways.count)
        var (tokens, labels) = (0, 0)
        var merged = LogitDifference()
        var storage = LogitDifference()
        var serving = LogitDifference()
        for (index, text) in texts.enumerated() {
            try context.checkStop()
            context.task.report(
                done: Double(index), total: Double(texts.count), unit: "prompts",
                message: "comparing")
            let expected = text.labels
            tokens += text.tokens.count
            labels += text.labelCount
            for way in ways { try way.scorer.begin(text.tokens, adapter: way.adapter) }
            while let places = try advance(ways) {
                for place in places {
                    let rows = try ways.map { try $0.scorer.withLogits(place) { Array($0) } }
                    let next = place + 1
                    if next < expected.count, expected[next] >= 0 {
                        for (way, row) in rows.enumerated() {
                            likelihoods[way] += TokenLikelihood.negativeLog(
                                row, token: Int(expected[next]))
                        }
                    }
                    merged.add(rows[1], rows[0])
                    guard rows.count > 2 else { continue }
                    storage.add(rows[1], rows[2])
                    serving.add(rows[0], rows[2])
                }
            }
        }
        let count = Double(max(1, labels))
        return ExportResult.Drift(
            prompts: texts.count, tokens: tokens, labels: labels,
            nll: ExportResult.Likelihoods(
                unmerged: likelihoods[0] / count, merged: likelihoods[1] / count,
                float32: ways.count > 2 ? likelihoods[2] / count : nil),
            merged: try merged.wire(), storage: ways.count > 2 ? try storage.wire() : nil,
            serving: ways.count > 2 ? try serving.wire() : nil)
    }

    /// The next places, the same for all ways.
    private func advance(
        _ ways: [(scorer: SequenceScorer, adapter: ServedAdapter?)]
    ) throws -> Range<Int>? {
        var places: Range<Int>?
        for way in ways { places = try way.scorer.advance() }
        return places
    }
}

/// How far one row of logits after another is from what it is compared with.
struct LogitDifference {
    private var maximum = 0.0
    private var squares = 0.0
    private var count = 0
    private var rows = 0
    private var alike = 0

    mutating func add(_ a: [Float], _ b: [Float]) {
        var largest: Float = 0
        var sum = 0.0
        for index in a.indices {
            let difference = a[index] - b[index]
            largest = max(largest, abs(difference))
            sum += Double(difference) * Double(difference)
        }
        // A maximum passes over NaN, a sum does not.
        maximum = sum.isNaN ? .nan : max(maximum, Double(largest))
        squares += sum
        count += a.count
        rows += 1
        if Self.top(a) == Self.top(b) { alike += 1 }
    }

    static func top(_ row: [Float]) -> Int {
        var best = 0
        for index in row.indices where row[index] > row[best] { best = index }
        return best
    }

    /// - Throws: When a logit was not finite.
    func wire() throws -> ExportResult.Difference {
        guard maximum.isFinite else {
            throw TaskFailure.user(
                "NOT_FINITE",
                "a logit is not finite: the adapter's weights are too large for this base")
        }
        return ExportResult.Difference(
            maximum: maximum, rms: (squares / Double(max(1, count))).squareRoot(),
            sameTop: Double(alike) / Double(max(1, rows)))
    }
}

/// Likelihoods out of logits.
enum TokenLikelihood {
    /// -log softmax(logits)[token], in nats.
    static func negativeLog(_ logits: [Float], token: Int) -> Double {
        guard logits.indices.contains(token) else { return .infinity }
        var largest = -Float.infinity
        for value in logits { largest = max(largest, value) }
        var sum = 0.0
        for value in logits { sum += exp(Double(value - largest)) }
        return log(sum) - Double(logits[token] - largest)
    }
}
