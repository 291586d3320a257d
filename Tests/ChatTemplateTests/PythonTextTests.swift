import Testing

@testable import ChatTemplate

@Suite struct PythonTextTests {
    /// Every short text over two letters against the plain way of looking at each place.
    @Test func searchingFindsWhatThePlainWayFinds() {
        func text(_ code: Int, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(ascii: "a") + UInt8(code >> $0 & 1) }
        }
        for length in 0...9 {
            for code in 0..<(1 << length) {
                let whole = text(code, length)
                for size in 1...4 {
                    for wanted in 0..<(1 << size) {
                        let needle = text(wanted, size)
                        let places = length < size ? [] : Array(0...(length - size))
                        let all = places.filter { whole[$0...].starts(with: needle) }
                        var apart: [Int] = []
                        for place in all where place >= (apart.last.map { $0 + size } ?? 0) {
                            apart.append(place)
                        }
                        #expect(PythonText.occurrences(of: needle, in: whole[...]) == apart)
                        #expect(PythonText.lastOccurrence(of: needle, in: whole[...]) == all.last)
                    }
                }
            }
        }
    }

    /// Would take minutes if each place were looked at from its start.
    @Test func aNeedleThatAlmostFitsEverywhereIsFoundInLinearTime() {
        let text = [UInt8](repeating: 97, count: 1_000_000)
        let needle = [UInt8](repeating: 97, count: 500_000)
        #expect(PythonText.occurrences(of: needle + [98], in: text[...]).isEmpty)
        #expect(PythonText.lastOccurrence(of: [98] + needle, in: text[...]) == nil)
    }
}
