import Foundation
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import Synchronization
import Testing
import Tokenization
import Transformer

@testable import Generation

/// The promise: same request, same seed, same numerics, same answer, alone or in any company.
@Suite(.serialized) struct SameAnswerTests {
    /// How a batch is computed; none of it may show in an answer.
    struct Way: Sendable, CustomTestStringConvertible {
        var rows = 512
        var sequences = 64
        var pages = 256
        var threads = 2
        var testDescription: String {
            "\(rows) rows, \(sequences) sequences, \(pages) pages, \(threads) threads"
        }
    }

    @Test(arguments: [
        Way(), Way(rows: 7, sequences: 3, pages: 12, threads: 1),
        Way(rows: 64, sequences: 16, pages: 9, threads: 2), Way(rows: 130, pages: 40, threads: 1),
    ])
    func aloneOrInACrowdWithOrWithoutKnownPrefixes(way: Way) throws {
        let lab = try Lab()
        let requests = lab.requests(count: 24, seed: UInt64(way.rows))
        let alone = try requests.map { try lab.run([$0], Way(threads: 1))[0] }
        let batch = try lab.batch(way)
        let crowd = try lab.run(requests, on: batch)
        // What the first round left in the prefix cache serves the second.
        let again = try lab.run(requests.reversed(), on: batch).reversed()
        for (index, (expected, pair)) in zip(alone, zip(crowd, again)).enumerated() {
            #expect(pair.0.choices == expected.choices, "request \(index), first round")
            #expect(pair.0.promptLogprobs == expected.promptLogprobs)
            #expect(pair.1.choices == expected.choices, "request \(index), second round")
            #expect(pair.1.promptLogprobs == expected.promptLogprobs)
        }
        let (first, second) = (
            crowd.reduce(0) { $0 + $1.cachedTokens }, again.reduce(0) { $0 + $1.cachedTokens }
        )
        #expect(first > 0 && alone.allSatisfy { $0.cachedTokens == 0 })
        if way.pages == 256 { #expect(second > first) }
    }

    @Test func aCommonBeginningIsComputedOnce() throws {
        let lab = try Lab()
        let batch = try lab.batch(Way())
        let prefix = lab.tokens(200, seed: 1)
        let requests = (0..<20).map {
            GenerationRequest(prompt: prefix + lab.tokens(9, seed: $0 + 2), maximumTokens: 4)
        }
        let results = try lab.run(requests, on: batch)
        #expect(results[0].cachedTokens == 0)
        #expect(results.dropFirst().allSatisfy { $0.cachedTokens == 192 })
    }

    /// Keys and values of one adapter are not those of another.
    @Test func aPrefixIsKnownForItsAdapterOnly() throws {
        let lab = try Lab()
        let batch = try lab.batch(Way())
        let prompt = lab.tokens(150, seed: 3)
        let requests = lab.adapters.map {
            GenerationRequest(prompt: prompt, adapter: $0, maximumTokens: 2)
        }
        #expect(try lab.run(requests, on: batch).map(\.cachedTokens) == requests.map { _ in 0 })
        #expect(try lab.run(requests, on: batch).map(\.cachedTokens) == requests.map { _ in 128 })
    }

    /// When all have ended, each page is free or only the cache's, and the cache gives them all up.
    @Test func noPageIsLost() throws {
        let lab = try Lab()
        let batch = try lab.batch(Way(rows: 33, sequences: 9, pages: 10))
        _ = try lab.run(lab.requests(count: 30, seed: 9), on: batch)
        #expect(batch.freePages == 10)
        let full = GenerationRequest(prompt: lab.tokens(500, seed: 4), maximumTokens: 8)
        #expect(try lab.run([full], on: batch)[0].completionTokens > 0)
        #expect(batch.freePages == 10)
    }
}

/// The embedded model with its adapters, and random requests to it.
private struct Lab {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("examples/seedling").path

    let decoder: Decoder
    let tokenizer: Tokenizer
    /// None, two trained ones and two of other ranks.
    let adapters: [ServedAdapter?]

    init() throws {
        let source = try ModelSource.open(Self.folder + "/model")
        let compute = try Compute(pool: ThreadPool(threads: 1))
        decoder = try Decoder(
            config: source.config, source: source.tensors, elementType: .bfloat16, compute: compute)
        tokenizer = try Tokenizer(contentsOf: Self.folder + "/model")
        var adapters: [ServedAdapter?] = [nil]
        for task in ["iso-date", "redact"] {
            let adapter = try AdapterFolder.read(Self.folder + "/adapters/" + task, for: decoder)
            adapters.append(
                try decoder.serve(
                    adapter, digest: ContentDigest(of: Array(task.utf8)), compute: compute))
        }
        for rank in [3, 40] {
            var adapter = try Adapter(
                new: LoRAConfig(rank: rank, alpha: 8, targets: .allLinear), for: decoder,
                seed: UInt64(rank))
            for index in adapter.modules.indices {
                for element in adapter.modules[index].b.indices {
                    adapter.modules[index].b[element] = Float(element % 7 - 3) * 0.05
                }
            }
            adapters.append(
                try decoder.serve(
                    adapter, digest: ContentDigest(of: [UInt8(rank)]), compute: compute))
        }
        self.adapters = adapters
    }

    func tokens(_ count: Int, seed: Int) -> [Int32] {
        (0..<count).map { Int32(4 + (($0 &* 31 &+ seed &* 1009) &* 7919) % 1500) }
    }

    /// Prompts that share beginnings, all kinds of sampling, several choices, scored prompts.
    func requests(count: Int, seed: UInt64) -> [GenerationRequest] {
        var random = Philox(seed: seed)
        return (0..<count).map { index in
            let beginning = tokens([0, 64, 70, 190][random.below(4)], seed: random.below(2))
            var request = GenerationRequest(
                prompt: beginning + tokens(1 + random.below(90), seed: index + 10),
                adapter: adapters[random.below(adapters.count)],
                maximumTokens: [0, 1, 12, 70][random.below(4)])
            request.sampling.temperature = [0, 0.7, 1.3][random.below(3)]
            request.sampling.seed = UInt64(random.below(1000))
            request.choiceCount = 1 + random.below(3)
            request.logprobs = [nil, 0, 3][random.below(3)]
            request.scoresPrompt =
                request.maximumTokens == 0 || request.logprobs != nil && random.below(3) == 0
            request.endTokens = [2]
            return request
        }
    }

    func batch(_ way: SameAnswerTests.Way) throws -> ContinuousBatch {
        var limits = GenerationLimits()
        limits.rows = way.rows
        limits.sequences = way.sequences
        let pass = try InferencePass(
            decoder: decoder, compute: Compute(pool: ThreadPool(threads: way.threads)),
            maximumRows: way.rows, maximumLogitRows: way.sequences, maximumPositions: 512,
            pageCount: way.pages)
        return try ContinuousBatch(pass: pass, tokenizer: tokenizer, limits: limits)
    }

    func run(_ requests: [GenerationRequest], _ way: SameAnswerTests.Way) throws
        -> [GenerationResult]
    {
        try run(requests, on: batch(way))
    }

    func run(_ requests: [GenerationRequest], on batch: ContinuousBatch) throws
        -> [GenerationResult]
    {
        let results = Mutex<[Int: GenerationResult]>([:])
        for (index, request) in requests.enumerated() {
            batch.add(index, request) { event in
                switch event {
                case .finished(let result): results.withLock { $0[index] = result }
                case .failed(let error): Issue.record("request \(index): \(error)")
                case .text: break
                }
            }
        }
        while !batch.isIdle { try batch.step() }
        let found = results.withLock { $0 }
        return try requests.indices.map { try #require(found[$0]) }
    }
}

/// Numbers for the tests' requests, from the product's own stream.
private struct Philox {
    private let stream: RandomStream
    private var step = 0

    init(seed: UInt64) { stream = RandomStream(seed: seed, choice: 0) }

    mutating func below(_ bound: Int) -> Int {
        step += 1
        return Int(stream.uniform(step: step) * Double(bound))
    }
}
