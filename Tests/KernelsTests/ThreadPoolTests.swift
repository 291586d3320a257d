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
}
