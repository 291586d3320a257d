/// Cuts an answer at stop strings, across token borders, and holds back what may still become one.
///
/// Works on UTF-8 bytes. What `push` and `finish` give out, joined, is the answer up to the first stop string.
struct StopScanner: Sendable {
    private let stops: [[UInt8]]
    private var held: [UInt8] = []
    /// The stop string that was met.
    private(set) var found: String?

    init(stops: [String]) { self.stops = stops.map { Array($0.utf8) }.filter { !$0.isEmpty } }

    /// Takes more text; gives out what is certain.
    ///
    /// After a stop string was met nothing more comes out.
    mutating func push(_ text: String) -> String {
        guard found == nil else { return "" }
        guard !stops.isEmpty else { return text }
        held.append(contentsOf: text.utf8)
        if let (position, stop) = firstStop() {
            found = String(decoding: stop, as: UTF8.self)
            let text = String(decoding: held[..<position], as: UTF8.self)
            held = []
            return text
        }
        let keep = longestBeginning()
        let text = String(decoding: held[..<(held.count - keep)], as: UTF8.self)
        held.removeFirst(held.count - keep)
        return text
    }

    /// The text still held back, when no more will come.
    mutating func finish() -> String {
        defer { held = [] }
        return String(decoding: held, as: UTF8.self)
    }

    /// The stop string that is complete first, with its start; the longest of those that end together.
    ///
    /// The first end, not the first start, decides: so the answer does not depend on how the text was cut.
    private func firstStop() -> (Int, [UInt8])? {
        var best: (start: Int, stop: [UInt8])?
        for stop in stops where stop.count <= held.count {
            let start = (0...(held.count - stop.count)).first {
                held[$0] == stop[0] && held[$0...].starts(with: stop)
            }
            guard let start else { continue }
            if let best, (best.start + best.stop.count, best.start) <= (start + stop.count, start) {
                continue
            }
            best = (start, stop)
        }
        return best.map { ($0.start, $0.stop) }
    }

    /// Length of the longest end of `held` with which a stop string begins.
    private func longestBeginning() -> Int {
        var longest = 0
        for stop in stops {
            for length in stride(from: min(stop.count - 1, held.count), to: longest, by: -1)
            where held.suffix(length).elementsEqual(stop[..<length]) {
                longest = length
                break
            }
        }
        return longest
    }
}
