import Dispatch
import Foundation
import Generation
import JSONModel
import Kernels
import LinuxSystem
import LoRA
import Synchronization
import Tokenization
import Transformer

/// Times the engine's kinds of work on random tokens, one round at a time.
///
/// What a round needs is made before the first one; the first round of each work warms up.
final class EngineMeasurement {
    let decoder: Decoder
    let compute: Compute
    let rank: Int
    let works: [MeasuredWork]
    private let tokenizer: Tokenizer?
    private var runs: [() throws -> Double] = []
    private var engine: GenerationEngine?
    /// Rounds so far; other tokens in each, so that no prefix cache helps.
    private var number = 0

    /// - Parameter tokenizer: Needed to decode.
    init(
        decoder: Decoder, compute: Compute, rank: Int, works: [MeasuredWork],
        tokenizer: Tokenizer?
    ) throws {
        self.decoder = decoder
        self.compute = compute
        self.rank = rank
        self.works = works
        self.tokenizer = tokenizer
        let most = works.map(\.adapterCount).max() ?? 0
        var served: [ServedAdapter] = []
        if works.contains(where: { if case .decode = $0 { true } else { false } }) {
            served = try (0..<most).map {
                try decoder.serve(adapter(UInt64($0)), compute: compute)
            }
            engine = try makeEngine()
        }
        for work in works {
            switch work {
            case .train(let rows, let length): runs.append(try training(rows, length))
            case .prefill(let length): runs.append(try prefill(length))
            case .decode(let streams, let prompt, let tokens, let adapters):
                let chosen = Array(served.prefix(adapters))
                runs.append { [unowned self] in
                    try decode(streams, prompt, tokens, chosen)
                }
            }
        }
        for run in runs { _ = try run() }
    }

    deinit { engine?.stop() }

    /// One round of a work.
    ///
    /// - Returns: Seconds of `work.tokenCount` tokens.
    func round(_ index: Int) throws -> Double {
        number += 1
        return try runs[index]()
    }

    private func tokens(_ count: Int, seed: Int) -> [Int32] {
        var state = UInt64(truncatingIfNeeded: seed &+ 1) &* 0x9E37_79B9_7F4A_7C15
        return (0..<count).map { _ in
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return Int32((state >> 33) % UInt64(decoder.config.vocabularySize))
        }
    }

    /// An adapter on all linears with a B that is not zero.
    private func adapter(_ seed: UInt64) throws -> Adapter {
        var adapter = try Adapter(
            new: LoRAConfig(rank: rank, alpha: Double(2 * rank), targets: .allLinear),
            for: decoder, seed: seed)
        for index in adapter.modules.indices {
            for element in adapter.modules[index].b.indices {
                adapter.modules[index].b[element] = Float(element % 7 - 3) * 1e-3
            }
        }
        return adapter
    }

    private func seconds(_ body: () throws -> Void) rethrows -> Double {
        let start = MonotonicTime.now()
        try body()
        return (MonotonicTime.now() - start).seconds
    }

    /// Forward, backward, clipping, AdamW and packing of one step, every token but each row's first labelled.
    private func training(_ rows: Int, _ length: Int) throws -> () throws -> Double {
        let step = try TrainingStep(
            decoder: decoder, adapter: adapter(1), compute: compute, maximumRows: rows * length)
        let first = try Matrix.vector(step.parameters.columns)
        let second = try Matrix.vector(step.parameters.columns)
        let lengths = [Int](repeating: length, count: rows)
        let weight = 1 / Float(rows * (length - 1))
        var done = 0
        return { [unowned self] in
            let ids = tokens(rows * length, seed: number)
            done += 1
            return try seconds {
                step.zeroGradients()
                try step.accumulate(
                    tokens: ids, spanLengths: lengths, labels: ids, lossWeight: weight)
                let norm = try compute.squaredNorm(step.gradients).squareRoot()
                try compute.adamW(
                    parameter: step.parameters, gradient: step.gradients, moment1: first,
                    moment2: second, step: done, learningRate: 1e-4,
                    gradientScale: Float(min(1, 1 / (norm + 1e-6))))
                try step.parametersChanged()
            }
        }
    }

    private func prefill(_ length: Int) throws -> () throws -> Double {
        let count = PageAllocator.pages(forPositions: length)
        let pass = try InferencePass(
            decoder: decoder, compute: compute, maximumRows: length, maximumLogitRows: 1,
            maximumPositions: length, pageCount: count)
        let pages = (0..<count).compactMap { _ in pass.pages.allocate() }
        return { [unowned self] in
            var batch = RaggedBatch()
            batch.append(
                tokens: tokens(length, seed: number), startPosition: 0, pages: pages,
                logits: .last)
            return try seconds { try pass.run(batch) }
        }
    }

    private func makeEngine() throws -> GenerationEngine {
        guard let tokenizer else {
            throw ValidationFault("decoding needs a tokenizer.json in the model's folder")
        }
        var limits = GenerationLimits()
        limits.sequences =
            works.map { if case .decode(let n, _, _, _) = $0 { n } else { 1 } }
            .max() ?? 1
        let positions = works.map(\.positions).max() ?? 1
        limits.positions = positions
        let pages = limits.sequences * (PageAllocator.pages(forPositions: positions) + 1)
        let (decoder, compute) = (decoder, compute)
        return try GenerationEngine(tokenizer: tokenizer, limits: limits) { [limits] in
            try InferencePass(
                decoder: decoder, compute: compute, maximumRows: limits.rows,
                maximumLogitRows: limits.sequences, maximumPositions: positions,
                pageCount: pages)
        }
    }

    /// Greedy answers of all streams together: the time of all tokens less that of the first ones.
    private func decode(
        _ streams: Int, _ prompt: Int, _ tokens: Int, _ adapters: [ServedAdapter]
    ) throws -> Double {
        let first = try answer(streams, prompt, 1, adapters, seed: 2 * number)
        let before = compute.profile?.totals ?? [:]
        compute.profile?.reset()
        let all = try answer(streams, prompt, tokens + 1, adapters, seed: 2 * number + 1)
        compute.profile?.subtract(before)
        return all - first
    }

    private func answer(
        _ streams: Int, _ prompt: Int, _ count: Int, _ adapters: [ServedAdapter], seed: Int
    ) throws -> Double {
        guard let engine else { return 0 }
        let requests = (0..<streams).map { stream in
            var request = GenerationRequest(
                prompt: tokens(prompt, seed: seed &* 4096 &+ stream),
                adapter: adapters.isEmpty ? nil : adapters[stream % adapters.count],
                maximumTokens: count)
            request.sampling.temperature = 0
            return request
        }
        let done = DispatchSemaphore(value: 0)
        let failure = Mutex<GenerationError?>(nil)
        let time = seconds {
            for request in requests {
                engine.submit(request) { event in
                    switch event {
                    case .text: return
                    case .failed(let error): failure.withLock { $0 = error }
                    case .finished: break
                    }
                    done.signal()
                }
            }
            for _ in requests { done.wait() }
        }
        if let error = failure.withLock({ $0 }) { throw error }
        return time
    }
}

/// Something that the command line asks for and that cannot be measured.
struct ValidationFault: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
