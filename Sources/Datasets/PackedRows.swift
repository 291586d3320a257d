/// Rows laid end to end for the model: attention and positions stay within each span.
public struct PackedRows: Sendable, Equatable {
    public var tokens: [Int32] = []
    /// Tokens of each row, in order.
    public var spanLengths: [Int] = []
    /// The token's own id where it is a label, -100 elsewhere.
    public var labels: [Int32] = []
    /// Labels that the loss counts.
    public var labelCount = 0

    public init() {}

    public init(_ examples: some Sequence<TrainingExample>) {
        for example in examples { append(example) }
    }

    public mutating func append(_ example: TrainingExample) {
        spanLengths.append(example.tokens.count)
        tokens += example.tokens
        labels += example.labels
        labelCount += example.labelCount
    }
}
