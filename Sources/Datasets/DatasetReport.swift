import LinuxSystem

/// An account of a data file: every row is trained or refused.
public struct DatasetReport: Sendable, Equatable {
    /// Tokens per usable row.
    public struct Lengths: Sendable, Equatable {
        public var minimum: Int
        public var median: Int
        public var percentile95: Int
        public var maximum: Int
        /// Rows by length: those above the bin before and up to `upTo` tokens, powers of two from 8 on.
        public var histogram: [Bin]
    }

    /// One bar of a histogram.
    public struct Bin: Sendable, Equatable {
        public var upTo: Int
        public var rows: Int
    }

    /// Rows read; `usableRows + refused.count`.
    public var rows: Int
    public var usableRows: Int
    /// Usable rows by form: `messages`, `prompt`, `text`, `instruction`, `conversations`.
    public var forms: [String: Int]
    /// Messages of the usable rows.
    public var turns: Int
    /// Assistant messages among them that are trained; the others are `untrainedAnswers`.
    public var trainedAnswers: Int
    /// Tokens of the usable rows.
    public var tokens: Int
    /// Labels that the loss counts.
    public var labels: Int
    public var refused: [RefusedRow]
    /// Usable rows with the same tokens and labels as one before.
    public var duplicates: Int
    /// Nil if no row is usable.
    public var lengths: Lengths?
    /// Answers left untrained by `weight` 0, `train_on` or their place in the prompt.
    public var untrainedAnswers: Int
    public var warnings: [String]
}

extension DatasetReport {
    /// What is counted while rows are read.
    struct Account {
        var rows = 0
        var tokens = 0
        var labels = 0
        var lengths: [Int] = []
        var duplicates = 0
        var forms: [String: Int] = [:]
        var joinedBoundaries = 0
        var refused: [RefusedRow] = []
        var remarks = ExampleBuilder.Remarks()
        var unknownKeys: [String: (count: Int, line: Int)] = [:]
        private var seen: Set<ContentDigest> = []

        mutating func add(_ example: TrainingExample) {
            tokens += example.tokens.count
            labels += example.labelCount
            lengths.append(example.tokens.count)
            var builder = DigestBuilder()
            example.tokens.withUnsafeBytes { builder.update($0) }
            example.labels.withUnsafeBytes { builder.update($0) }
            if !seen.insert(builder.finish()).inserted { duplicates += 1 }
        }

        func report(path: String, options: ExampleOptions) -> DatasetReport {
            let sorted = lengths.sorted()
            func at(_ share: Double) -> Int {
                sorted[min(sorted.count - 1, Int(share * Double(sorted.count)))]
            }
            return DatasetReport(
                rows: rows, usableRows: lengths.count, forms: forms, turns: remarks.turns,
                trainedAnswers: remarks.trainedAnswers, tokens: tokens, labels: labels,
                refused: refused, duplicates: duplicates,
                lengths: sorted.isEmpty
                    ? nil
                    : Lengths(
                        minimum: sorted[0], median: at(0.5), percentile95: at(0.95),
                        maximum: sorted[sorted.count - 1], histogram: Self.histogram(sorted)),
                untrainedAnswers: remarks.untrainedAnswers, warnings: warnings(options))
        }

        private static func histogram(_ sorted: [Int]) -> [Bin] {
            var bins: [Bin] = []
            var upTo = 8
            var index = 0
            while index < sorted.count {
                let start = index
                while index < sorted.count, sorted[index] <= upTo { index += 1 }
                if index > start || !bins.isEmpty {
                    bins.append(Bin(upTo: upTo, rows: index - start))
                }
                upTo *= 2
            }
            return bins
        }

        private func warnings(_ options: ExampleOptions) -> [String] {
            var result: [String] = []
            for (key, use) in unknownKeys.sorted(by: {
                $0.key.utf8.lexicographicallyPrecedes($1.key.utf8)
            }) {
                result.append(
                    "key \"\(key.prefix(60))\" is not used (\(use.count) rows, first line \(use.line))"
                )
            }
            if remarks.answersWithoutEnd > 0 {
                result.append(
                    "the chat template puts no end-of-turn token after \(remarks.answersWithoutEnd) "
                        + "trained answers: the adapter does not learn where they end")
            }
            if !remarks.unknownEnds.isEmpty {
                let ids = remarks.unknownEnds.sorted().map(String.init).joined(separator: ", ")
                let known = options.endTokens.sorted().map(String.init).joined(separator: ", ")
                result.append(
                    "answers end with token \(ids), which is not among the model's end tokens "
                        + "(\(known)): generation would not stop there")
            }
            if joinedBoundaries > 0 {
                result.append(
                    "in \(joinedBoundaries) rows a token joins the end of the prompt with the beginning "
                        + "of the completion, so that it is trained as a whole; where a space stands between "
                        + "them, begin the completion with it and end the prompt before it")
            }
            if remarks.lacksEndOfText {
                result.append(
                    "the model names no end token: nothing is put after the texts, so the adapter does "
                        + "not learn where they end")
            }
            return result
        }
    }
}
