import Kernels
import LinuxSystem
import LoRA
import Transformer

/// Times the engine's three kinds of work on random tokens.
struct EngineMeasurement {
    let decoder: Decoder
    let compute: Compute
    let rank: Int
    let rounds: Int

    private func tokens(_ count: Int, seed: Int) -> [Int32] {
        (0..<count).map {
            Int32((($0 + seed) &* 7919 &+ 13) % decoder.config.vocabularySize)
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

    private func report(_ what: String, tokens: Int, _ body: () throws -> Void) throws {
        try body()
        var seconds: [Double] = []
        for _ in 0..<rounds {
            let start = MonotonicTime.now()
            try body()
            seconds.append((MonotonicTime.now() - start).seconds)
        }
        seconds.sort()
        let best = seconds[0]
        let median = seconds[seconds.count / 2]
        print(
            "\(what): \((best * 1e5).rounded() / 100) ms best, \((Double(tokens) / best).rounded()) tok/s best, "
                + "\((Double(tokens) / median).rounded()) median")
    }

    /// Forward, backward, AdamW and packing of one step, every token but each row's first labelled.
    func train(rows: Int, length: Int) throws {
        let step = try TrainingStep(
            decoder: decoder, adapter: adapter(1), compute: compute, maximumRows: rows * length)
        let first = try Matrix.vector(step.parameters.columns)
        let second = try Matrix.vector(step.parameters.columns)
        let ids = tokens(rows * length, seed: 1)
        let lengths = [Int](repeating: length, count: rows)
        let labels = rows * (length - 1)
        var number = 0
        try report("training step \(rows) × \(length), r \(rank)", tokens: rows * length) {
            number += 1
            step.zeroGradients()
            try step.accumulate(
                tokens: ids, spanLengths: lengths, labels: ids, lossWeight: 1 / Float(labels))
            let norm = try compute.squaredNorm(step.gradients).squareRoot()
            try compute.adamW(
                parameter: step.parameters, gradient: step.gradients, moment1: first,
                moment2: second, step: number, learningRate: 1e-4,
                gradientScale: Float(min(1, 1 / (norm + 1e-6))))
            try step.parametersChanged()
        }
        print("  peak memory \((HostResources.peakResidentBytes() ?? 0) >> 20) MiB")
    }

    func prefill(length: Int) throws {
        let pass = try pass(rows: length, positions: length, sequences: 1)
        let pages = try take(pass, positions: length)
        var batch = RaggedBatch()
        batch.append(
            tokens: tokens(length, seed: 2), startPosition: 0, pages: pages, logits: .last)
        try report("prefill \(length)", tokens: length) { try pass.run(batch) }
    }

    /// One step of so many sequences, each with `context` positions in the cache.
    func decode(rows: Int, adapters count: Int, context: Int) throws {
        let pass = try pass(
            rows: max(rows, context), positions: context + 1, sequences: rows)
        let served = try (0..<count).map {
            try decoder.serve(adapter(UInt64($0)), compute: compute)
        }
        var batch = RaggedBatch()
        var step = RaggedBatch()
        for row in 0..<rows {
            let pages = try take(pass, positions: context + 1)
            let adapter = served.isEmpty ? nil : served[row % served.count]
            batch.removeAll()
            batch.append(
                tokens: tokens(context, seed: row), startPosition: 0, pages: pages,
                adapter: adapter, logits: .none)
            try pass.run(batch)
            step.append(
                tokens: tokens(1, seed: row), startPosition: context, pages: pages,
                adapter: adapter, logits: .last)
        }
        let what =
            count == 0 ? "" : count == 1 ? ", one adapter" : ", \(count) adapters"
        try report("decode \(rows) rows\(what), context \(context)", tokens: 20 * rows) {
            for _ in 0..<20 { try pass.run(step) }
        }
    }

    private func pass(rows: Int, positions: Int, sequences: Int) throws -> InferencePass {
        try InferencePass(
            decoder: decoder, compute: compute, maximumRows: rows,
            maximumLogitRows: min(rows, 64), maximumPositions: positions,
            pageCount: sequences * PageAllocator.pages(forPositions: positions))
    }

    private func take(_ pass: InferencePass, positions: Int) throws -> [Int32] {
        try (0..<PageAllocator.pages(forPositions: positions)).map { _ in
            guard let page = pass.pages.allocate() else {
                throw TransformerError(.memory, "no free page of KV memory")
            }
            return page
        }
    }
}
