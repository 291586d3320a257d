import Testing

@testable import Generation

@Suite struct RandomStreamTests {
    /// Known answers of Random123's own test vectors.
    @Test func philoxGivesThePublishedNumbers() {
        let zero = RandomStream.philox((0, 0, 0, 0), key: (0, 0))
        #expect(zero == (0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8))
        let ones: UInt32 = 0xffff_ffff
        let full = RandomStream.philox((ones, ones, ones, ones), key: (ones, ones))
        #expect(full == (0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd))
        let pi = RandomStream.philox(
            (0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344), key: (0xa409_3822, 0x299f_31d0))
        #expect(pi == (0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1))
    }

    @Test("KINDS 18: random numbers are named by seed, choice and step")
    func numbersAreNamedBySeedChoiceAndStep() {
        let stream = RandomStream(seed: 7, choice: 2)
        let drawn = (0..<1000).map(stream.uniform(step:))
        #expect(drawn == (0..<1000).map(RandomStream(seed: 7, choice: 2).uniform(step:)))
        #expect(drawn.allSatisfy { (0..<1).contains($0) })
        #expect(abs(drawn.reduce(0, +) / 1000 - 0.5) < 0.03)
        #expect(drawn != (0..<1000).map(RandomStream(seed: 7, choice: 1).uniform(step:)))
        #expect(drawn != (0..<1000).map(RandomStream(seed: 8, choice: 2).uniform(step:)))
    }
}
