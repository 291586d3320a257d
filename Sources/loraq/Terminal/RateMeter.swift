/// How fast a counter grows, over the last seconds. Time is a parameter.
struct RateMeter {
    static let window = Duration.seconds(15)
    static let maximumSamples = 256

    private var samples: [(at: Duration, value: Double)] = []

    /// Notes the counter's value; one that went back (a new attempt) starts over.
    mutating func add(_ value: Double, at time: Duration) {
        if let last = samples.last {
            if value < last.value { samples.removeAll() }
            if time < last.at { return }
        }
        samples.append((time, value))
        while samples.count > 2,
            samples[1].at < time - Self.window || samples.count > Self.maximumSamples
        {
            samples.removeFirst()
        }
    }

    /// Per second, or nil until two moments at least 0.2 s apart are known.
    var perSecond: Double? {
        guard let first = samples.first, let last = samples.last else { return nil }
        let span = (last.at - first.at) / .seconds(1)
        guard span >= 0.2 else { return nil }
        return (last.value - first.value) / span
    }
}
