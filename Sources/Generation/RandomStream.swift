/// Random numbers by position: Philox 4×32-10 (Salmon et al. 2011), keyed by seed, counted by choice and step.
///
/// The number for a step never depends on what was drawn before, in which batch a sequence ran, or how often it was
/// interrupted.
struct RandomStream: Sendable {
    private let key: (UInt32, UInt32)
    private let choice: UInt64

    /// - Parameters:
    ///   - seed: The request's.
    ///   - choice: Index of the choice, from 0.
    init(seed: UInt64, choice: Int) {
        key = (UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
        self.choice = UInt64(choice)
    }

    /// A number in [0, 1) with 53 random bits, for the given step of the answer.
    func uniform(step: Int) -> Double {
        let step = UInt64(step)
        let words = Self.philox(
            (
                UInt32(truncatingIfNeeded: step), UInt32(truncatingIfNeeded: step >> 32),
                UInt32(truncatingIfNeeded: choice), UInt32(truncatingIfNeeded: choice >> 32)
            ), key: key)
        let bits = UInt64(words.0) << 32 | UInt64(words.1)
        return Double(bits >> 11) * 0x1p-53
    }

    static func philox(
        _ counter: (UInt32, UInt32, UInt32, UInt32), key: (UInt32, UInt32)
    ) -> (UInt32, UInt32, UInt32, UInt32) {
        var (c0, c1, c2, c3) = counter
        var (k0, k1) = key
        for _ in 0..<10 {
            let first = c0.multipliedFullWidth(by: 0xD251_1F53)
            let second = c2.multipliedFullWidth(by: 0xCD9E_8D57)
            (c0, c1, c2, c3) = (
                second.high ^ c1 ^ k0, second.low, first.high ^ c3 ^ k1, first.low
            )
            k0 &+= 0x9E37_79B9
            k1 &+= 0xBB67_AE85
        }
        return (c0, c1, c2, c3)
    }
}
