import Testing

@testable import BrokerCore

/// The core, and the outbox after it, are broken on purpose, each time in one way: the checker must find it.
@Suite struct PlantedFaultTests {
    /// The first seed, of at most so many, whose history gives the fault away.
    private static let seeds = UInt64(1)...60

    private func isFound(_ change: (inout Simulation.Config) -> Void) -> String? {
        var config = Simulation.Config()
        change(&config)
        for seed in Self.seeds {
            do {
                try Simulation(seed: seed, config: config).run()
            } catch {
                return "\(error)"
            }
        }
        return nil
    }

    @Test("Each fault planted in the core is found", arguments: PlantedFault.allCases)
    func theCheckerFinds(_ fault: PlantedFault) {
        #expect(
            isFound { $0.fault = fault } != nil, "\(fault) was not found in \(Self.seeds) histories"
        )
    }

    @Test("Messages that leave before their commit are found")
    func theCheckerFindsAnEarlyOutbox() {
        #expect(isFound { $0.sendsBeforeCommit = true } != nil)
    }

    @Test("The same histories without a fault are clean")
    func nothingIsFoundWhereNothingIsWrong() {
        #expect(isFound { _ in } == nil)
    }
}
