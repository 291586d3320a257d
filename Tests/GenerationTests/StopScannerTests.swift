import Testing

@testable import Generation

/// KINDS 17: text is cut on text, whatever the tokens and the stop strings.
@Suite struct StopScannerTests {
    /// Gives out `pieces` through a scanner: what came out each time, and at the end.
    private func pieces(_ pieces: [String], stops: [String]) -> (out: [String], found: String?) {
        var scanner = StopScanner(stops: stops)
        var out = pieces.map { scanner.push($0) }
        if scanner.found == nil { out.append(scanner.finish()) }
        return (out, scanner.found)
    }

    @Test func cutsAcrossPieces() {
        let (out, found) = pieces(["one E", "N", "D two"], stops: ["END"])
        #expect(out == ["one ", "", ""])
        #expect(found == "END")
    }

    @Test func givesOutWhatTurnsOutHarmless() {
        let (out, found) = pieces(["one E", "N", "E", "E"], stops: ["END"])
        #expect(out.joined() == "one ENEE")
        #expect(out[0] == "one ")
        #expect(found == nil)
    }

    @Test func theStopThatEndsFirstWins() {
        #expect(pieces(["abcde"], stops: ["cd", "bc"]).out.joined() == "a")
        #expect(pieces(["abcde"], stops: ["b", "bcd"]).found == "b")
        #expect(pieces(["abcde"], stops: ["d", "bcd"]).found == "bcd")
        #expect(pieces(["x\n", "\ny"], stops: ["\n\n"]).out.joined() == "x")
    }

    @Test func holdsBackWholeCharacters() {
        let (out, _) = pieces(["aé", "ö", "z"], stops: ["éöx"])
        #expect(out.joined() == "aéöz")
        #expect(out[0] == "a")
    }

    /// Every way of cutting a text into pieces gives the same answer as the plain search.
    @Test("KINDS 17: any cut into pieces gives the same text") func anyCutGivesTheSameText() {
        var state: UInt64 = 1
        func random(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        for _ in 0..<2000 {
            let text = String((0..<random(24)).map { _ in "ab".randomElementBy(random(2)) })
            let stops = (0..<1 + random(2)).map { _ in
                String((0..<1 + random(4)).map { _ in "ab".randomElementBy(random(2)) })
            }
            var cut: [String] = []
            var rest = text[...]
            while !rest.isEmpty {
                let part = rest.prefix(1 + random(4))
                cut.append(String(part))
                rest = rest.dropFirst(part.count)
            }
            let ends = stops.compactMap { stop in
                text.utf8Offset(of: stop).map { ($0 + stop.count, $0) }
            }
            let expected = ends.min { $0 < $1 }.map { String(text.prefix($0.1)) } ?? text
            #expect(pieces(cut, stops: stops).out.joined() == expected)
        }
    }
}

extension String {
    fileprivate func randomElementBy(_ index: Int) -> Character { Array(self)[index] }

    fileprivate func utf8Offset(of stop: String) -> Int? {
        let (all, wanted) = (Array(utf8), Array(stop.utf8))
        guard wanted.count <= all.count else { return nil }
        return (0...(all.count - wanted.count)).first { all[$0...].starts(with: wanted) }
    }
}
