import Testing

@testable import PatternMatching

@Suite struct PatternMatcherTests {
    private func pieces(_ pattern: String, _ text: String) throws -> [String] {
        let bytes = Array(text.utf8)
        var found: [String] = []
        try PatternMatcher(Pattern(pattern)).forEachMatch(in: bytes) {
            found.append(String(decoding: bytes[$0], as: UTF8.self))
        }
        return found
    }

    @Test func findsEveryMatchInOrder() throws {
        #expect(try pieces(#"\p{L}+|\p{N}"#, "abc 12 Größe") == ["abc", "1", "2", "Größe"])
        #expect(try pieces("x", "") == [])
    }

    @Test func emptyMatchesAreFoundOnceAndNeverLoop() throws {
        #expect(try pieces("a*", "baac") == ["", "aa", ""])
        #expect(try pieces("", "é").count == 2)
    }

    @Test func foldsCaseByUnicode() throws {
        #expect(try pieces("(?i:'s|'k)", "'S 'ſ 'K") == ["'S", "'ſ", "'K"])
    }

    @Test func aSyntaxErrorCarriesItsOffset() {
        #expect {
            _ = try Pattern("ab(c")
        } throws: { error in
            let error = error as? PatternError
            return error?.code == .syntax && error?.offset == 4
        }
    }

    @Test func catastrophicBacktrackingEndsWithALimit() {
        #expect {
            let text = String(repeating: "a", count: 40) + "b"
            _ = try PatternMatcher(Pattern("^(a+)+$")).match(text)
        } throws: { ($0 as? PatternError)?.code == .limit }
    }

    @Test func invalidBytesAreRefused() {
        #expect {
            try PatternMatcher(Pattern("a")).forEachMatch(in: [0x61, 0xFF]) { _ in }
        } throws: { ($0 as? PatternError)?.code == .notUTF8 }
    }

    @Test func pythonFullMatchNeedsTheWholeText() throws {
        let pattern = try PythonPattern(#".*\.(q_proj|v_proj)"#)
        #expect(try pattern.fullMatches("model.layers.0.self_attn.q_proj"))
        #expect(try !pattern.fullMatches("model.layers.0.self_attn.q_proj.lora_A"))
        let alternatives = try PythonPattern("q|q_proj")
        #expect(try alternatives.fullMatches("q_proj"))
        let layer = try PythonPattern(#".*\.[^.]*\.(\d+)\."#)
        #expect(try layer.match("model.layers.17.mlp.up_proj")?[1] == "17")
        #expect(try layer.match("lm_head") == nil)
    }
}
