import Kernels
import Transformer

/// Chooses one token for each of many rows of logits.
struct BatchSampler {
    /// A row and how to choose from it.
    struct Row {
        /// Row of the pass's logits.
        var logits: Int
        var sampling: SamplingParameters
        var prompt: [Int32]
        var answer: [Int32]
        /// In [0, 1).
        var random: Double
        var logprobs: Int?
    }

    struct Outcome {
        var token: Int32
        var logprob: TokenLogprob?
    }

    private let compute: Compute
    private let logits: Matrix
    /// Changed copies of logits, then probabilities; `[rows, V]`.
    private let scratch: Matrix
    private let logSums: Matrix

    init(pass: InferencePass) throws {
        compute = pass.compute
        logits = pass.logits
        scratch = try Matrix(rows: pass.logits.rows, columns: pass.logits.columns)
        logSums = try Matrix(rows: 1, columns: 1)
    }

    /// A token for each row; nil where the logits are no numbers.
    func choose(_ rows: [Row]) throws -> [Outcome?] {
        let work = Work(rows: rows, logits: logits, scratch: scratch)
        // Greedy rows need no probabilities; the others get them from one softmax over all.
        let drawn = rows.indices.filter { !rows[$0].sampling.isGreedy }
        for (place, index) in drawn.enumerated() {
            let row = rows[index]
            let source = try logits.rows(row.logits..<row.logits + 1)
            let target = try scratch.rows(place..<place + 1)
            let inverse = Float(1 / row.sampling.temperature)
            if row.sampling.changesLogits {
                try compute.copy(source, to: target)
                try work.adjust(row, target)
                try compute.combine(target, alpha: inverse, into: target)
            } else {
                try compute.combine(source, alpha: inverse, into: target)
            }
        }
        if !drawn.isEmpty { try compute.softmax(scratch.rows(0..<drawn.count)) }
        var tokens = [Int?](repeating: nil, count: rows.count)
        for (place, index) in drawn.enumerated() {
            tokens[index] = try scratch.withFloats(row: place) {
                TokenChooser.draw($0, rows[index].sampling, random: rows[index].random)
            }
        }
        var outcomes: [Outcome?] = []
        outcomes.reserveCapacity(rows.count)
        for (index, row) in rows.enumerated() {
            let token = row.sampling.isGreedy ? try greedy(row, work) : tokens[index]
            guard let token else {
                outcomes.append(nil)
                continue
            }
            let logprob = try row.logprobs.map {
                try self.logprob(of: Int32(token), row: row.logits, top: $0)
            }
            outcomes.append(Outcome(token: Int32(token), logprob: logprob))
        }
        return outcomes
    }

    private func greedy(_ row: Row, _ work: Work) throws -> Int? {
        guard row.sampling.changesLogits else {
            return try logits.withFloats(row: row.logits, TokenChooser.argmax)
        }
        let target = try scratch.rows(0..<1)
        try compute.copy(logits.rows(row.logits..<row.logits + 1), to: target)
        try work.adjust(row, target)
        return try target.withFloats(row: 0, TokenChooser.argmax)
    }

    /// The log probability of a token by a row of the model's own logits.
    func logprob(of token: Int32, row: Int, top: Int) throws -> TokenLogprob {
        try compute.logSumExp(logits.rows(row..<row + 1), into: logSums)
        let logSum = logSums[0, 0]
        return try logits.withFloats(row: row) { values in
            let best = TokenChooser.largest(top, of: values).map {
                (token: Int32($0.index), logprob: $0.value - logSum)
            }
            return TokenLogprob(token: token, logprob: values[Int(token)] - logSum, top: best)
        }
    }

    private struct Work {
        let rows: [Row]
        let logits: Matrix
        let scratch: Matrix

        func adjust(_ row: Row, _ target: Matrix) throws {
            try target.withFloats(row: 0) {
                TokenChooser.adjust($0, row.sampling, prompt: row.prompt, answer: row.answer)
            }
        }
    }
}
