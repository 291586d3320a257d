import BrokerCore
import Foundation
import Testing

@Suite struct SimulationTests {
    /// A few hundred histories, each from its seed. `make simulate SEEDS=n` runs the first n, `SEEDS=a..b` those.
    @Test func historiesKeepThePromises() throws {
        var seeds: ClosedRange<UInt64> = 1...200
        if let text = ProcessInfo.processInfo.environment["LORAQ_SIM_SEEDS"] {
            let ends = text.split(separator: ".").compactMap { UInt64($0) }
            let first = ends.count > 1 ? ends[0] : 1
            let last = try #require(ends.last, "LORAQ_SIM_SEEDS is n or a..b")
            try #require(first <= last)
            seeds = first...last
        }
        var failures = 0
        for seed in seeds {
            do {
                try Simulation(seed: seed).run()
            } catch {
                failures += 1
                Issue.record(
                    "seed \(seed) (replay: make simulate SEEDS=\(seed)..\(seed)): \(error)")
                if failures == 3 { break }
            }
        }
    }

    /// Without faults nothing is tried twice and nothing fails but what must.
    @Test func quietHistoriesTryEverythingOnce() throws {
        var config = Simulation.Config()
        config.isQuiet = true
        config.seconds = 60
        for seed in UInt64(1)...20 {
            let simulation = Simulation(seed: seed, config: config)
            do {
                try simulation.run()
            } catch {
                Issue.record("seed \(seed): \(error)")
                continue
            }
            let poisoned = simulation.submitted.values.contains { $0.label == "poison" }
            if !poisoned {
                #expect(simulation.store.results.values.allSatisfy { $0.attempt <= 1 })
                #expect(!simulation.store.attempts.contains { $0.outcome != "ok" })
            }
        }
    }

    @Test func theSameSeedGivesTheSameHistory() throws {
        let first = Simulation(seed: 5)
        let second = Simulation(seed: 5)
        try first.run()
        try second.run()
        #expect(first.store.events == second.store.events)
        #expect(first.store.attempts == second.store.attempts)
    }
}
