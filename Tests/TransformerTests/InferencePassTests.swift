import Kernels
import LoRA
import ModelFiles
import Testing

@testable import Transformer

@Suite struct InferencePassTests {
    static let types: [Kernels.ElementType] = [.float32, .bfloat16]

    @Test(arguments: ["even", "odd"]) func logitsAreThoseOfPEFT(_ name: String) throws {
        let model = try ReferenceModel(name)
        let pass = try model.pass()
        for variant in ["base"] + ReferenceModel.variants {
            let adapter = variant == "base" ? nil : try model.served(variant)
            let computed = try model.ids.flatMap { try pass.alone($0, adapter).flatMap { $0 } }
            let expected = try model.expected.floats(
                variant == "base" ? "logits" : "logits." + variant)
            #expect(relativeError(computed, expected) <= 1e-4, "\(name) \(variant)")
        }
    }

    @Test(arguments: ["even", "odd"]) func bfloat16StaysNear(_ name: String) throws {
        let model = try ReferenceModel(name, .bfloat16)
        let pass = try model.pass()
        for variant in ReferenceModel.variants {
            let adapter = try model.served(variant)
            let computed = try model.ids.flatMap { try pass.alone($0, adapter).flatMap { $0 } }
            let expected = try model.expected.floats("logits." + variant)
            #expect(relativeError(computed, expected) <= 4e-2, "\(name) \(variant)")
        }
    }

    /// A row's bits are the same alone and among rows of other sequences, lengths and adapters.
    @Test(arguments: ["even", "odd"], types)
    func aBatchChangesNoBit(_ name: String, _ type: Kernels.ElementType) throws {
        let model = try ReferenceModel(name, type)
        let pass = try model.pass()
        let adapters: [ServedAdapter?] =
            [nil] + (try ReferenceModel.variants.map { try model.served($0) })
        var generator = SplitMix(state: 9)
        var sequences: [(ids: [Int32], adapter: ServedAdapter?, alone: [[Float]])] = []
        for index in 0..<16 {
            let length = 1 + Int(generator.next() % 23)
            let ids = (0..<length).map { _ in
                Int32(generator.next() % UInt64(model.decoder.config.vocabularySize))
            }
            let adapter = adapters[index % adapters.count]
            sequences.append((ids, adapter, try pass.alone(ids, adapter)))
        }
        var batch = RaggedBatch()
        for sequence in sequences {
            batch.append(
                tokens: sequence.ids, startPosition: 0,
                pages: try pass.take(positions: sequence.ids.count), adapter: sequence.adapter,
                logits: .all)
        }
        try pass.run(batch)
        for (span, sequence) in sequences.enumerated() {
            for row in sequence.ids.indices {
                #expect(try pass.row(span: span, row: row) == sequence.alone[row])
            }
        }
    }

    @Test(arguments: types)
    func chunksAndSingleStepsChangeNoBit(_ type: Kernels.ElementType) throws {
        let model = try ReferenceModel("even", type)
        let pass = try model.pass()
        let adapter = try model.served("plain")
        var generator = SplitMix(state: 3)
        let ids = (0..<150).map { _ in Int32(generator.next() % 96) }
        let whole = try pass.alone(ids, adapter)
        #expect(try pass.alone(ids, adapter, chunks: [64, 64, 22]) == whole)
        #expect(try pass.alone(ids, adapter, chunks: [1, 62, 2, 63, 20, 1, 1]) == whole)
        #expect(
            try pass.alone(ids, adapter, chunks: [140] + Array(repeating: 1, count: 10)) == whole)
    }

    @Test(arguments: types) func threadsChangeNoBit(_ type: Kernels.ElementType) throws {
        let one = try ReferenceModel("even", type, threads: 1)
        let three = try ReferenceModel("even", type, threads: 3)
        for variant in ["plain", "dora", "embedding"] {
            let a = try one.pass().alone(one.ids[0], one.served(variant))
            let b = try three.pass().alone(three.ids[0], three.served(variant))
            #expect(a == b)
        }
    }

    @Test func onlyWantedRowsGiveLogits() throws {
        let model = try ReferenceModel("even")
        let pass = try model.pass()
        let whole = try pass.alone(model.ids[0], nil)
        let other = try pass.alone(model.ids[1], nil)
        var batch = RaggedBatch()
        let count = model.ids[0].count
        batch.append(
            tokens: model.ids[0][..<7], startPosition: 0, pages: try pass.take(positions: 7),
            logits: .none)
        batch.append(
            tokens: model.ids[1], startPosition: 0, pages: try pass.take(positions: count),
            logits: .last)
        batch.append(
            tokens: model.ids[0], startPosition: 0, pages: try pass.take(positions: count),
            logits: .all)
        try pass.run(batch)
        #expect(batch.logitRowCount == 1 + count)
        #expect(try pass.row(span: 1) == other[count - 1])
        #expect(try (0..<count).map { try pass.row(span: 2, row: $0) } == whole)
    }

    @Test func sharedPagesOfACommonBeginning() throws {
        let model = try ReferenceModel("even")
        let pass = try model.pass()
        var generator = SplitMix(state: 5)
        let ids = (0..<80).map { _ in Int32(generator.next() % 96) }
        let whole = try pass.alone(ids, nil)
        var batch = RaggedBatch()
        let first = try pass.take(positions: 80)
        batch.append(tokens: ids[..<64], startPosition: 0, pages: first, logits: .none)
        try pass.run(batch)
        pass.pages.retain(first[0])
        let second = [first[0]] + (try pass.take(positions: 16))
        batch.removeAll()
        batch.append(tokens: ids[64...], startPosition: 64, pages: second, logits: .last)
        try pass.run(batch)
        #expect(try pass.row(span: 0) == whole[79])
    }

    @Test func limitsAreNamed() throws {
        let model = try ReferenceModel("even")
        let pass = try model.pass(rows: 8, pages: 4, positions: 100)
        func refused(_ change: (inout RaggedBatch) throws -> Void) throws -> (any Error)? {
            var batch = RaggedBatch()
            try change(&batch)
            do {
                try pass.run(batch)
                return nil
            } catch { return error }
        }
        let page = try pass.take(positions: 64)
        let tooMany = try refused {
            $0.append(
                tokens: [Int32](repeating: 1, count: 9), startPosition: 0, pages: page,
                logits: .last)
        }
        #expect((tooMany as? TransformerError)?.code == .batch)
        let tooFar = try refused {
            $0.append(tokens: [1], startPosition: 100, pages: page + page, logits: .last)
        }
        #expect((tooFar as? TransformerError)?.code == .batch)
        let noPages = try refused {
            $0.append(tokens: [1], startPosition: 64, pages: page, logits: .last)
        }
        #expect((noPages as? TransformerError)?.code == .batch)
        let badToken = try refused {
            $0.append(tokens: [96], startPosition: 0, pages: page, logits: .last)
        }
        #expect((badToken as? KernelError)?.code == .range)
        let empty = try refused {
            $0.append(tokens: [], startPosition: 0, pages: page, logits: .last)
        }
        #expect((empty as? TransformerError)?.code == .batch)
    }

    @Test func pagesAreCounted() {
        var allocator = PageAllocator(pageCount: 2)
        let first = allocator.allocate()
        let second = allocator.allocate()
        #expect(first != nil && second != nil && allocator.allocate() == nil)
        allocator.retain(first ?? 0)
        allocator.release(first ?? 0)
        #expect(allocator.freeCount == 0)
        allocator.release(first ?? 0)
        #expect(allocator.freeCount == 1)
        #expect(PageAllocator.pages(forPositions: 64) == 1)
        #expect(PageAllocator.pages(forPositions: 65) == 2)
    }
}

/// Numbers for tests (Steele et al. 2014).
struct SplitMix {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
