import JSONModel
import LoraqClient
import Testing

@testable import loraq

@Suite struct ReportTests {
    /// Text that would be more than text if it were not escaped.
    static let hostile = [
        "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</pre></article>",
        "\" onmouseover=\"alert(1)", "' style='x", "</style><svg onload=alert(1)>", "&lt;b&gt;",
        "<!-- ", "]]>", "a\u{0}b\u{1B}c\u{202E}d", "javascript:alert(1)",
    ]

    @Test(arguments: hostile) func whatIsInterpolatedIsText(text: String) {
        let markup: Markup = "<p title=\"\(text)\">\(text)</p>"
        let inner = markup.text.dropFirst("<p title=\"".count).dropLast("</p>".count)
        for character in ["<", "'"] { #expect(!inner.contains(character)) }
        #expect(inner.count(where: { $0 == "\"" }) == 1 && inner.contains("\">"))
        #expect(!markup.text.contains("\u{1B}") && !markup.text.contains("\u{0}"))
        #expect(!markup.text.contains("\u{202E}"))
    }

    @Test func markupInMarkupStays() {
        let inner: Markup = "<b>\("x < y")</b>"
        let outer: Markup = "<p>\(inner) \(3)</p>"
        #expect(outer.text == "<p><b>x &lt; y</b> 3</p>")
        let place: Markup = "\(at: 1e-9) \(at: 12.345) \(at: .nan)"
        #expect(place.text == "0.00 12.35 0")
    }

    private func data(_ text: String, state: String = "succeeded") throws -> ReportData {
        let value = JSONValue.string(text)
        let job = try JobSnapshot([
            "job": value, "kind": "finetune", "state": value, "label": value,
            "error": ["code": "X", "class": "user", "message": value, "hint": value],
            "result": [
                "adapter": ["name": value, "digest": value], "rows": 3,
                "refused": [
                    ["line": 1, "code": value, "message": value]
                ], "warnings": [value], "targets": .object([text: 2]), "numerics": value,
                "dtype": value, "inputs": .object([text: value]),
                "stopped": ["reason": value, "message": value, "step": 1, "planned_steps": 2],
                "evaluation": [
                    "rows": 2, "lines": [1, 2], "held_out": true, "adapter_step": 1, "best_step": 1,
                ],
            ],
        ])
        var data = ReportData(job: job, madeAtMs: 0)
        data.spec = ["name": value, "recipe": .object([text: value])]
        data.adapter = ["name": value, "version": 1, "digest": value, "meta": ["base": value]]
        data.model = data.adapter
        data.training = ["base": value, "data": value, "recipe": .object([text: value])]
        data.notes = [text]
        for line in TrainingCourseTests.lines { _ = data.course.add(line) }
        let answer = ReportSamples.Answer(text: text, isExact: false)
        data.samples = .made(
            job: text,
            rows: [.init(line: 1, prompt: text, expected: text, before: answer, after: answer)],
            areHeldOut: true)
        return data
    }

    /// Whatever stands in answers, rows, recipes and errors: the page has the same elements, and none that acts.
    @Test(arguments: hostile) func nothingInThePageBecomesAnElement(text: String) throws {
        func tags(_ html: String) -> [Substring] {
            html.split(separator: "<").dropFirst().map { $0.prefix { $0 != " " && $0 != ">" } }
        }
        let page = ReportPage(data: try data(text)).html
        let plain = ReportPage(data: try data("plain")).html
        #expect(tags(page) == tags(plain))
        #expect(!page.contains("<script") && !page.contains("<img"))
        #expect(!page.contains("http://") && !page.contains("https://"), "it loads nothing")
        #expect(page.contains("default-src &#39;none&#39;"))
    }

    @Test func thePageTellsWhatIsThere() throws {
        let page = ReportPage(data: try data("plain")).html
        for words in [
            "<svg", "Gradient norm", "Learning rate", "tokens a second", "rows refused",
            "held out of the training file", "step of the adapter", "prefers-color-scheme",
            "base 0, adapter 0", "@media print",
        ] { #expect(page.contains(words), "\(words)") }
    }

    @Test func aJobWithoutAnythingHasAPageToo() throws {
        let job = try JobSnapshot(["job": "j", "kind": "finetune", "state": "queued"])
        let page = ReportPage(data: ReportData(job: job, madeAtMs: 0)).html
        #expect(page.contains("Nothing was measured") && page.contains("queued"))
    }

    @Test(arguments: [
        (0.01, "0.01"), (1, "1"), (0.004, "0.004"), (0, "0"), (2_000, "2,000"), (1e8, "1e8"),
        (2.5e7, "2.5e7"), (1e-5, "1.0e-05"),
    ])
    func ticksAreShort(tick: Double, text: String) {
        #expect(ReportChart.label(tick) == text)
    }

    @Test func rowsAreTakenFromAllOver() {
        #expect(ReportSamples.spread(Array(1...10), 3) == [1, 4, 7])
        #expect(ReportSamples.spread([5, 6], 9) == [5, 6])
        let result: JSONValue = [
            "rows": 100, "inputs": ["train": "t", "eval": "e"],
            "evaluation": ["lines": [3, 9], "held_out": false],
        ]
        let choice = ReportSamples.Choice(result, count: 5)
        #expect(choice?.digest == "e" && choice?.lines == [3, 9] && choice?.areHeldOut == true)
        let trained = ReportSamples.Choice(["rows": 100, "inputs": ["train": "t"]], count: 4)
        #expect(trained?.lines == [1, 26, 51, 76] && trained?.areHeldOut == false)
        #expect(ReportSamples.Choice(["rows": 100], count: 4) == nil)
    }
}
