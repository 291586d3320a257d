import Dispatch
import Glibc
import Synchronization
import Testing

@testable import Kernels

@Suite struct ThreadPoolTests {
    @Test(arguments: [1, 2, 3, 7]) func everyThreadRunsOnceARun(threads: Int) throws {
        let pool = try ThreadPool(threads: threads)
        let sum = Atomic<Int>(0)
        for _ in 0..<500 {
            pool.run { thread, count in
                sum.add(count == threads ? 1 << thread : -1 << 40, ordering: .relaxed)
            }
        }
        #expect(sum.load(ordering: .relaxed) == 500 * ((1 << threads) - 1))
    }

    @Test func sleepingThreadsWakeUp() throws {
        let pool = try ThreadPool(threads: 2)
        let sum = Atomic<Int>(0)
        // The pauses are what is tested: shorter and longer than the threads spin.
        for pause in [0, 3_000, 20_000] {
            usleep(UInt32(pause))
            pool.run { _, _ in sum.add(1, ordering: .relaxed) }
        }
        #expect(sum.load(ordering: .relaxed) == 6)
    }

    @Test func aRunInsideARunIsInline() throws {
        let pool = try ThreadPool(threads: 2)
        let sum = Atomic<Int>(0)
        pool.run { _, _ in
            pool.run { thread, count in
                sum.add(thread == 0 && count == 1 ? 1 : 100, ordering: .relaxed)
            }
        }
        #expect(sum.load(ordering: .relaxed) == 2)
    }

    @Test(arguments: [1, 2, 5]) func aMapKeepsTheOrder(threads: Int) throws {
        let pool = try ThreadPool(threads: threads)
        #expect(try pool.map(0) { $0 } == [])
        #expect(try pool.map(300) { $0 * $0 } == (0..<300).map { $0 * $0 })
        // Inside a run as well, and the first error in order is thrown, however many there are.
        let inner = Mutex<[Int]>([])
        pool.run { thread, _ in
            if thread == 0 { inner.withLock { $0 = (try? pool.map(4) { $0 }) ?? [] } }
        }
        #expect(inner.withLock { $0 } == [0, 1, 2, 3])
        let seen = Atomic<Int>(0)
        let error = #expect(throws: KernelError.self) {
            try pool.map(50) { index in
                seen.add(1, ordering: .relaxed)
                if index % 20 == 11 { throw KernelError(.range, "\(index)") }
            }
        }
        #expect(error?.message == "11")
        #expect(seen.load(ordering: .relaxed) == 50)
    }

    /// Callers on several threads take turns: no two runs overlap.
    @Test func callersTakeTurns() throws {
        let pool = try ThreadPool(threads: 2)
        let running = Atomic<Int>(0)
        let wrong = Atomic<Int>(0)
        let total = Atomic<Int>(0)
        DispatchQueue.concurrentPerform(iterations: 3) { caller in
            for _ in 0..<200 {
                pool.run { _, _ in
                    let unit = 1 << (16 * caller)
                    let before = running.add(unit, ordering: .sequentiallyConsistent).oldValue
                    if before & ~(0xffff * unit) != 0 { wrong.add(1, ordering: .relaxed) }
                    total.add(1, ordering: .relaxed)
                    running.subtract(unit, ordering: .sequentiallyConsistent)
                }
            }
        }
        #expect(wrong.load(ordering: .relaxed) == 0)
        #expect(total.load(ordering: .relaxed) == 3 * 200 * 2)
    }

    /// Operations inside a run work inline, each thread with scratch of its own.
    @Test(arguments: ElementType.allCases) func operationsInsideARun(type: ElementType) throws {
        var random = Random(61)
        let pool = try ThreadPool(threads: 2)
        let compute = try Compute(pool: pool)
        let x = try random.matrix(60, 50, type)
        let weights = try compute.pack(random.matrix(96, 50, type), type)
        let expected = try Matrix(rows: 60, columns: 96)
        try compute.linear(x, weights, into: expected)
        let y = try Matrix(rows: 60, columns: 96)
        let failures = Atomic<Int>(0)
        for _ in 0..<20 {
            y.fill(.nan)
            pool.run { thread, threads in
                let rows = 60 * thread / threads..<60 * (thread + 1) / threads
                do { try compute.linear(x.rows(rows), weights, into: y.rows(rows)) } catch {
                    failures.add(1, ordering: .relaxed)
                }
            }
            #expect(y.bits == expected.bits)
        }
        #expect(failures.load(ordering: .relaxed) == 0)
    }
}
