/// "Did you mean …": the nearest of the known words.
enum Suggestion {
    /// The known word nearest to `word` by optimal string alignment distance, if it is near enough
    /// to be a slip (at most a third of its letters, and at least one).
    static func nearest(to word: String, among known: some Sequence<String>) -> String? {
        let limit = max(1, word.count / 3)
        var best: (word: String, distance: Int)?
        for candidate in known {
            let distance = distance(word.lowercased(), candidate.lowercased())
            if distance <= limit, distance < (best?.distance ?? .max) {
                best = (candidate, distance)
            }
        }
        return best?.word
    }

    /// Insertions, deletions, substitutions and swaps of neighbors that turn `a` into `b`.
    static func distance(_ a: String, _ b: String) -> Int {
        let first = Array(a.unicodeScalars)
        let second = Array(b.unicodeScalars)
        guard first.count <= 256, second.count <= 256 else { return .max }
        var beforeLast = [Int](repeating: 0, count: second.count + 1)
        var last = Array(0...second.count)
        for row in 0..<first.count {
            var current = [row + 1] + [Int](repeating: 0, count: second.count)
            for column in 0..<second.count {
                let same = first[row] == second[column]
                current[column + 1] = min(
                    last[column + 1] + 1, current[column] + 1, last[column] + (same ? 0 : 1))
                if row > 0, column > 0, first[row] == second[column - 1],
                    first[row - 1] == second[column]
                {
                    current[column + 1] = min(current[column + 1], beforeLast[column - 1] + 1)
                }
            }
            beforeLast = last
            last = current
        }
        return last[second.count]
    }
}
