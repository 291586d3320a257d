import Testing

@testable import Kernels

@Suite struct ProfileTests {
    @Test func aProfileCountsOperationsByShape() throws {
        var random = Random(71)
        let x = try random.matrix(40, 64)
        let y = try Matrix(rows: 40, columns: 96)
        try eachCompute { compute in
            let w = try compute.pack(random.matrix(96, 64), .float32)
            try compute.linear(x, w, into: y)
            let profile = ComputeProfile()
            compute.profile = profile
            for _ in 0..<3 { try compute.linear(x, w, into: y) }
            try compute.linearBackwardInput(y, w, into: x)
            compute.profile = nil
            try compute.linear(x, w, into: y)
            let forward = try #require(
                profile.totals[.init(operation: .linear, outputs: 96, inputs: 64)])
            #expect(forward.calls == 3)
            #expect(forward.flops == Double(3 * 2 * 40 * 96 * 64))
            #expect(forward.seconds > 0)
            let backward = try #require(
                profile.totals[.init(operation: .linearBackward, outputs: 96, inputs: 64)])
            #expect(backward.calls == 1)
            #expect(backward.flops == Double(2 * 40 * 96 * 64))
            profile.subtract(profile.totals)
            #expect(profile.totals.values.allSatisfy { $0.calls == 0 && $0.flops == 0 })
        }
    }

    /// Operations inside a run belong to the operation that the run is.
    @Test func whatRunsInsideARunIsNotCountedTwice() throws {
        var random = Random(72)
        let compute = try Compute(pool: ThreadPool(threads: 2))
        let x = try random.matrix(8, 64)
        let w = try compute.pack(random.matrix(96, 64), .float32)
        let outputs = try (0..<2).map { _ in try Matrix(rows: 8, columns: 96) }
        try compute.linear(x, w, into: outputs[0])
        let profile = ComputeProfile()
        compute.profile = profile
        compute.timed(.adapterProjections) {
            compute.pool.run { thread, _ in try? compute.linear(x, w, into: outputs[thread]) }
        }
        #expect(profile.totals.map(\.key.operation) == [.adapterProjections])
        #expect(outputs[0].bits == outputs[1].bits)
    }

    @Test func ratesOfTheMachine() throws {
        let memory = try Matrix(rows: 65, columns: 16_384)
        try eachCompute { compute in
            let products = try #require(try compute.productRate(.float32))
            #expect(products > 0 && products.isFinite)
            let pairs = try compute.productRate(.bfloat16)
            #expect((pairs != nil) == (compute.instructionSet == .avx512bf16))
            let reads = try compute.readRate(memory)
            #expect(reads > 0 && reads.isFinite)
            #expect(throws: KernelError.self) {
                try compute.readRate(try Matrix(rows: 1, columns: 8))
            }
        }
    }
}
