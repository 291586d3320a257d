import Foundation
import JSONModel
import Kernels
import ModelFiles
import Synchronization
import Testing
import Tokenization
import Transformer

@testable import Generation

/// The scheduler over the reference model whose rotation changes at 16 tokens (LongRoPE).
@Suite struct ContinuousBatchTests {
    static let folder =
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("TransformerTests/Fixtures/families/rope-longrope").path

    let decoder: Transformer.Decoder
    let compute: Compute
    let tokenizer: Tokenizer
    let prompts: [[Int32]]
    let answers: [[Int32]]

    init() throws {
        compute = try Compute(pool: ThreadPool(threads: 2))
        decoder = try Self.decoder(compute)
        var vocabulary = JSONObject([("a0", 0)])
        for id in 1..<96 { vocabulary["a\(id)"] = .integer(Int64(id)) }
        tokenizer = try Tokenizer(
            json: ["model": ["type": "BPE", "vocab": .object(vocabulary), "merges": []]])
        let expected = try SafetensorsFile(path: Self.folder + "/expected.safetensors")
        func rows(_ name: String, _ length: Int) throws -> [[Int32]] {
            let flat = try expected.integers(name).map { Int32($0) }
            let width = flat.count / 2
            return [Array(flat[..<length]), Array(flat[width..<width + length])]
        }
        prompts = try rows("input_ids", 12)
        answers = try rows("greedy.base", 16)
    }

    /// - Parameter limit: Where the rotation changes, in place of the model's 16 tokens.
    private static func decoder(
        _ compute: Compute, limit: Int? = nil
    ) throws -> Transformer.Decoder {
        var config = try ModelConfigReader.read(folder: folder + "/model")
        if let limit, case .longRope(let short, let long, _) = config.layers[0].rope?.scaling {
            for layer in config.layers.indices {
                config.layers[layer].rope?.scaling = .longRope(
                    short: short, long: long, originalMaximumPositions: limit)
            }
        }
        return try Transformer.Decoder(
            config: config, source: SafetensorsCheckpoint(folder: folder + "/model"),
            elementType: .float32, compute: compute)
    }

    /// The choices of each request, all in one batch.
    private func run(
        _ requests: [GenerationRequest], on other: Transformer.Decoder? = nil, rows: Int = 64,
        pages: Int = 64, sequences: Int = 64
    ) throws -> [[[Int32]]] {
        let pass = try InferencePass(
            decoder: other ?? decoder, compute: compute, maximumRows: rows,
            maximumLogitRows: min(rows, 16),
            maximumPositions: 128, pageCount: pages)
        var limits = GenerationLimits()
        limits.rows = rows
        limits.sequences = sequences
        let batch = try ContinuousBatch(pass: pass, tokenizer: tokenizer, limits: limits)
        let results = Mutex([Int: [[Int32]]]())
        for (id, request) in requests.enumerated() {
            batch.add(id, request) { event in
                if case .finished(let result) = event {
                    results.withLock { $0[id] = result.choices.map(\.tokens) }
                }
            }
        }
        while !batch.isIdle { try batch.step() }
        #expect(batch.freePages == pages)
        return results.withLock { found in requests.indices.map { found[$0] ?? [] } }
    }

    private func request(_ prompt: [Int32], temperature: Double = 0) -> GenerationRequest {
        var request = GenerationRequest(prompt: prompt, maximumTokens: 16)
        request.sampling.temperature = temperature
        return request
    }

    /// transformers computes the whole sequence again with the long factors when it passes the original length.
    @Test func answersPassTheOriginalLengthAsInTransformers() throws {
        let requests = prompts.map { request($0) }
        #expect(try run(requests) == answers.map { [$0] })
        #expect(try run(requests, rows: 5) == answers.map { [$0] })
    }

    @Test func choicesAreThoseOfARequestAlone() throws {
        var long = request(prompts[0] + prompts[1], temperature: 1)
        long.choiceCount = 3
        var short = request(prompts[1], temperature: 1)
        short.choiceCount = 3
        let alone = try run([long]) + run([short])
        #expect(Set(alone[1]).count > 1)
        #expect(try run([long, short]) == alone)
        #expect(try run([short, long], rows: 7, pages: 4) == [alone[1], alone[0]])
    }

    /// A choice that joins late takes no keys from one that has passed the original length.
    @Test func choicesShareNoKeysOfTheOtherRotation() throws {
        let decoder = try Self.decoder(compute, limit: 68)
        var prompt: [Int32] = []
        while prompt.count < 66 { prompt += prompts[0] + prompts[1] }
        var request = request(Array(prompt.prefix(66)), temperature: 1)
        request.choiceCount = 12
        request.endTokens = Set(0..<16)
        let together = try run([request], on: decoder)
        #expect(Set(together[0].map(\.count)).count > 3)
        #expect(try run([request], on: decoder, sequences: 2) == together)
        #expect(try run([request], on: decoder, rows: 9, sequences: 3) == together)
    }
}
