import Testing

@testable import Generation

@Suite struct TokenChooserTests {
    private func with<Result>(
        _ values: [Float], _ body: (UnsafeMutableBufferPointer<Float>) -> Result
    ) -> Result {
        var copy = values
        return copy.withUnsafeMutableBufferPointer { body($0) }
    }

    @Test func argmaxTakesTheLowestOfEqualsAndRefusesNaN() {
        #expect(with([1, 3, 3, 2], TokenChooser.argmax) == 1)
        #expect(with([-.infinity, -4, -.infinity], TokenChooser.argmax) == 1)
        #expect(with([1, .nan, 3], TokenChooser.argmax) == nil)
        #expect(with([.nan, 1], TokenChooser.argmax) == nil)
        #expect(with([1, .infinity], TokenChooser.argmax) == nil)
    }

    /// Shares of many draws against the exact probabilities.
    private func shares(
        _ probabilities: [Float], _ parameters: SamplingParameters, draws: Int = 20000
    ) -> [Double] {
        var counts = [Double](repeating: 0, count: probabilities.count)
        let stream = RandomStream(seed: 3, choice: 0)
        for step in 0..<draws {
            let drawn = with(probabilities) {
                TokenChooser.draw($0, parameters, random: stream.uniform(step: step))
            }
            if let drawn { counts[drawn] += 1 / Double(draws) }
        }
        return counts
    }

    private func expectClose(_ shares: [Double], _ expected: [Double]) {
        for (share, wanted) in zip(shares, expected) {
            #expect(abs(share - wanted) < 0.015, "\(shares) against \(expected)")
        }
    }

    private let probabilities: [Float] = [0.05, 0.4, 0.2, 0.3, 0.05]

    @Test func drawsByProbability() {
        expectClose(shares(probabilities, SamplingParameters()), probabilities.map(Double.init))
    }

    @Test func topK() {
        var parameters = SamplingParameters()
        parameters.topK = 2
        expectClose(shares(probabilities, parameters), [0, 4.0 / 7, 0, 3.0 / 7, 0])
    }

    @Test func topP() {
        var parameters = SamplingParameters()
        parameters.topP = 0.75
        expectClose(shares(probabilities, parameters), [0, 4.0 / 9, 2.0 / 9, 3.0 / 9, 0])
        parameters.topP = 0
        expectClose(shares(probabilities, parameters), [0, 1, 0, 0, 0])
    }

    @Test func minP() {
        var parameters = SamplingParameters()
        parameters.minP = 0.6
        expectClose(shares(probabilities, parameters), [0, 4.0 / 7, 0, 3.0 / 7, 0])
    }

    @Test func topPAfterTopK() {
        var parameters = SamplingParameters()
        parameters.topK = 3
        parameters.topP = 0.5
        // Of 0.9 the likeliest has 0.44, so a second one is needed.
        expectClose(shares(probabilities, parameters), [0, 4.0 / 7, 0, 3.0 / 7, 0])
    }

    @Test func longTailsAreSortedOnlyAsFarAsNeeded() {
        var tail = [Float](repeating: 0.5 / 9999, count: 10000)
        tail[77] = 0.5
        var parameters = SamplingParameters()
        parameters.topP = 0.99
        let share = shares(tail, parameters, draws: 2000)[77]
        #expect(abs(share - 0.5 / 0.99) < 0.05)
    }

    @Test func penaltiesAndBias() {
        var parameters = SamplingParameters()
        parameters.repetitionPenalty = 2
        parameters.presencePenalty = 0.5
        parameters.frequencyPenalty = 0.25
        parameters.logitBias = [3: -100, 99: 5]
        var row: [Float] = [2, -2, 4, 1, 6]
        row.withUnsafeMutableBufferPointer {
            TokenChooser.adjust($0, parameters, prompt: [0, 1], answer: [2, 2])
        }
        #expect(row == [1, -4, 4 / 2 - 0.5 - 0.5, -99, 6])
    }

    @Test func largestInOrder() {
        let best = with([1, 5, 3, 5, 2]) { TokenChooser.largest(3, of: $0) }
        #expect(best.map(\.index) == [1, 3, 2])
        #expect(with([1, 2]) { TokenChooser.largest(5, of: $0) }.map(\.index) == [1, 0])
        #expect(with([1, 2]) { TokenChooser.largest(0, of: $0) }.isEmpty)
    }
}
