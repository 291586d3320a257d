/// How a fine-tune's peak rate came about where the recipe left it open.
public struct LearningRateChoice: Codable, Sendable, Equatable {
    public enum How: String, Codable, Sendable, CaseIterable, WireEnumeration {
        case auto, find
    }

    /// A step of the range test of `find`.
    public struct Point: Codable, Sendable, Equatable {
        public var learningRate: Double
        /// Of the window after the steps at rates up to this one, over the untrained adapter's on the same rows.
        public var relativeLoss: Double
        /// Running mean of `relativeLoss`, from which the rate is taken.
        public var smoothed: Double

        enum CodingKeys: String, CodingKey {
            case learningRate = "learning_rate"
            case relativeLoss = "relative_loss"
            case smoothed
        }

        public init(learningRate: Double, relativeLoss: Double, smoothed: Double) {
            self.learningRate = learningRate
            self.relativeLoss = relativeLoss
            self.smoothed = smoothed
        }
    }

    public var how: How
    /// In words.
    public var reason: String
    /// Of `find`, by ascending rate.
    public var curve: [Point]?

    public init(how: How, reason: String, curve: [Point]? = nil) {
        self.how = how
        self.reason = reason
        self.curve = curve
    }
}
