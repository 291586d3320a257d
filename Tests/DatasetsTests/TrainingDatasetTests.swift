import Testing

@testable import Datasets

@Suite struct TrainingDatasetTests {
    /// Every row is trained or refused, with its line number.
    @Test("KINDS 1: every row is trained or refused, by line and reason")
    func everyRowIsAccountedFor() throws {
        let outcome = try read(
            """
            {"text":"a"}

            not json
            {"text":1}
            {"mesages":[]}
            {"text":"a","prompt":"b","completion":"c"}
            {"text":"a"}
            {"text":"b","source":"web"}
            [1]
            """)
        let report = outcome.report
        #expect(report.rows == 8)
        #expect(report.usableRows + report.refused.count == report.rows)
        #expect(report.refused.map(\.line) == [3, 4, 5, 6, 9])
        #expect(report.refused.allSatisfy { $0.code == .badLine })
        #expect(outcome.dataset.examples.map(\.line) == [1, 7, 8])
        #expect(report.duplicates == 1)
        #expect(
            report.lengths
                == .init(
                    minimum: 2, median: 2, percentile95: 2, maximum: 2,
                    histogram: [.init(upTo: 8, rows: 3)]))
        #expect(report.forms == ["text": 3])
        #expect(report.warnings == [#"key "source" is not used (1 rows, first line 8)"#])
        #expect(report.refused[2].message.contains("mesages"))
    }

    @Test(
        "KINDS 1: unknown roles, keys and forms are refused by name",
        arguments: [
            (#"{"messages":[]}"#, "empty"),
            (#"{"messages":"x"}"#, "not a list"),
            (#"{"messages":[1]}"#, "messages[0]"),
            (#"{"messages":[{"content":"x"}]}"#, "messages[0].role"),
            (#"{"messages":[{"role":"asistant","content":"x"}]}"#, "asistant"),
            (#"{"messages":[{"role":"user"}]}"#, "messages[0].content is missing"),
            (#"{"messages":[{"role":"assistant","content":null}]}"#, "content is missing"),
            (#"{"messages":[{"role":"user","content":5}]}"#, "content is a number"),
            (#"{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#, "content[0]"),
            (#"{"messages":[{"role":"assistant","content":"x","wieght":0}]}"#, "wieght"),
            (#"{"messages":[{"role":"assistant","content":"x","weight":0.5}]}"#, "0 or 1"),
            (#"{"messages":[{"role":"user","content":"x","weight":1}]}"#, "only assistant"),
            (#"{"messages":[{"role":"user","content":"x"}]}"#, "no assistant message"),
            (#"{"messages":[{"role":"user","content":"x"}],"tools":"x"}"#, "tools"),
            (#"{"prompt":"x","completion":[{"role":"assistant","content":"x"}]}"#, "both"),
            (#"{"completion":"x"}"#, "prompt is null"),
            (#"{"prompt":"x"}"#, "none of the known forms"),
            (#"{"instruction":"x"}"#, "output is missing"),
            (#"{"conversations":[{"from":"bing","value":"x"}]}"#, "bing"),
            (#"{"conversations":[{"from":"human","value":"x","extra":1}]}"#, "extra"),
            (#"{"text":"\ud800"}"#, "no JSON"),
            (
                #"{"messages":[{"role":"assistant","content":"x"}],"chat_template_kwargs":{"messages":[]}}"#,
                "chat_template_kwargs.messages"
            ),
            (
                #"{"messages":[{"role":"assistant","tool_calls":[{"id":"1"}]}]}"#,
                "messages[0].tool_calls[0]"
            ),
            (#"{"messages":[{"role":"assistant","content":"x"}],"tools":["f"]}"#, "tools[0]"),
        ])
    func faultIsNamed(line: String, mentioned: String) throws {
        let outcome = try read(line)
        #expect(outcome.report.usableRows == 0)
        let message = outcome.report.refused.first?.message ?? ""
        #expect(message.contains(mentioned), "\(message)")
    }

    @Test("KINDS 2: a file without a label names lines and reasons")
    func fileWithoutLabelsNamesLines() throws {
        let outcome = try read(
            #"{"messages":[{"role":"user","content":"x"}]}"# + "\n" + #"{"text":3}"#)
        do {
            try outcome.dataset.requireLabels()
            Issue.record("nothing was thrown")
        } catch {
            #expect(error.code == .noLabels)
            #expect(error.message.contains("line 1") && error.message.contains("line 2"))
        }
        #expect(throws: DatasetError.self) { try read("\n\n").dataset.requireLabels() }
    }

    /// Tokenizers put a space in front of a word: one that ends the prompt is what is joined, so the advice is the other way.
    @Test func aJoinedBoundaryIsToldWithWhatMendsIt() throws {
        let joined = try read(#"{"prompt":"xa","completion":"b"}"#).report.warnings
        #expect(joined.count == 1)
        #expect(joined.first?.contains("begin the completion with it") == true)
        #expect(joined.first?.contains("end prompts with a space") == false)
        #expect(try read(#"{"prompt":"xa","completion":" b"}"#).report.warnings.isEmpty)
    }

    @Test func lineEndsAndMarksDoNotMatter() throws {
        let outcome = try read("\u{FEFF}{\"text\":\"a\"}\r\n  \r\n{\"text\":\"b\"}")
        #expect(outcome.dataset.examples.map(\.line) == [1, 3])
    }
}
