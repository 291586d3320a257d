/// Chooses tokens from rows of numbers. Pure: the same row, parameters and random number give the same token.
enum TokenChooser {
    /// The index of the largest number, the lowest among equals; nil if one is NaN or none is finite.
    static func argmax(_ row: UnsafeMutableBufferPointer<Float>) -> Int? {
        guard var best = row.first, !best.isNaN else { return nil }
        var index = 0
        var sum: Float = 0
        for position in 1..<row.count {
            let value = row[position]
            // 0 · x is 0 unless x is NaN or infinite: one test at the end for the whole row.
            sum += value * 0
            if value > best {
                best = value
                index = position
            }
        }
        // Biases may have set −∞ on purpose; only NaN among them is a fault.
        if sum.isNaN, row.contains(where: \.isNaN) { return nil }
        return best.isFinite ? index : nil
    }

    /// Changes logits by penalties and biases.
    ///
    /// - Parameters:
    ///   - row: Logits, `[V]`.
    ///   - prompt: The prompt's tokens.
    ///   - answer: Tokens chosen so far.
    static func adjust(
        _ row: UnsafeMutableBufferPointer<Float>, _ parameters: SamplingParameters,
        prompt: [Int32], answer: [Int32]
    ) {
        if parameters.repetitionPenalty != 1 {
            let penalty = Float(parameters.repetitionPenalty)
            for token in Set(prompt).union(answer) where row.indices.contains(Int(token)) {
                let value = row[Int(token)]
                row[Int(token)] = value < 0 ? value * penalty : value / penalty
            }
        }
        if parameters.presencePenalty != 0 || parameters.frequencyPenalty != 0 {
            var counts: [Int32: Int] = [:]
            for token in answer { counts[token, default: 0] += 1 }
            for (token, count) in counts where row.indices.contains(Int(token)) {
                row[Int(token)] -= Float(
                    parameters.presencePenalty + parameters.frequencyPenalty * Double(count))
            }
        }
        for (token, bias) in parameters.logitBias where row.indices.contains(Int(token)) {
            row[Int(token)] += Float(bias)
        }
    }

    /// Draws a token from a row of probabilities after top-k, top-p and min-p.
    ///
    /// - Parameters:
    ///   - row: Probabilities at the request's temperature, `[V]`, summing to about 1.
    ///   - random: In [0, 1).
    static func draw(
        _ row: UnsafeMutableBufferPointer<Float>, _ parameters: SamplingParameters, random: Double
    ) -> Int? {
        if parameters.topK == 0, parameters.topP >= 1, parameters.minP == 0 {
            return drawAll(row, random: random)
        }
        guard let likeliest = argmax(row), row[likeliest] > 0 else { return nil }
        var candidates = nucleus(row, parameters, maximum: row[likeliest])
        if parameters.topK > 0, candidates.count > parameters.topK {
            candidates.removeSubrange(parameters.topK...)
        }
        if parameters.topP < 1 {
            // Hugging Face measures the nucleus after top-k.
            let total = candidates.reduce(0.0) { $0 + Double(row[$1]) }
            let whole = parameters.topK > 0 ? total : 1
            var sum = 0.0
            var kept = 0
            while kept < candidates.count, sum < parameters.topP * whole {
                sum += Double(row[candidates[kept]])
                kept += 1
            }
            candidates.removeSubrange(max(kept, 1)...)
        }
        if parameters.minP > 0 {
            let least = Double(row[candidates[0]]) * parameters.minP
            candidates.removeAll { Double(row[$0]) < least }
        }
        let total = candidates.reduce(0.0) { $0 + Double(row[$1]) }
        var rest = random * total
        for index in candidates {
            rest -= Double(row[index])
            if rest < 0 { return index }
        }
        return candidates.last
    }

    /// All tokens that top-k, top-p or min-p could keep, likeliest first, lower ids first among equals.
    ///
    /// Sorting a whole vocabulary for each token would cost more than the model's step, so only tokens above a share of
    /// the maximum are sorted, and the share is lowered until they are enough.
    private static func nucleus(
        _ row: UnsafeMutableBufferPointer<Float>, _ parameters: SamplingParameters, maximum: Float
    ) -> [Int] {
        var share: Float = 1.0 / 64
        while true {
            let least = share > 1e-30 ? maximum * share : 0
            var found: [Int] = []
            var sum = 0.0
            for index in row.indices where row[index] >= least && row[index] > 0 {
                found.append(index)
                sum += Double(row[index])
            }
            let isEnough =
                least == 0
                || (parameters.topK > 0 && found.count >= parameters.topK)
                || (parameters.topK == 0 && parameters.topP < 1
                    && sum >= parameters.topP * (1 + 1e-9))
                || (parameters.topK == 0 && parameters.topP >= 1
                    && Double(share) <= parameters.minP)
            if isEnough {
                return found.sorted { row[$0] == row[$1] ? $0 < $1 : row[$0] > row[$1] }
            }
            share /= 64
        }
    }

    private static func drawAll(
        _ row: UnsafeMutableBufferPointer<Float>, random: Double
    ) -> Int? {
        var total = 0.0
        for value in row { total += Double(value) }
        guard total > 0, total.isFinite else { return nil }
        var rest = random * total
        var last: Int?
        for index in row.indices where row[index] > 0 {
            rest -= Double(row[index])
            last = index
            if rest < 0 { return index }
        }
        return last
    }

    /// The `count` largest numbers with their indices, largest first, lower indices first among equals.
    static func largest(
        _ count: Int, of row: UnsafeMutableBufferPointer<Float>
    ) -> [(index: Int, value: Float)] {
        var best: [(index: Int, value: Float)] = []
        guard count > 0 else { return best }
        for index in row.indices {
            let value = row[index]
            if best.count == count, let last = best.last, value <= last.value { continue }
            let position = best.firstIndex { $0.value < value } ?? best.count
            best.insert((index, value), at: position)
            if best.count > count { best.removeLast() }
        }
        return best
    }
}
