import JSONModel
import LoraqClient
import Testing

@testable import loraq

@Suite struct HumanTextTests {
    @Test(arguments: [
        (0.0, "0"), (1.5321, "1.532"), (12.345, "12.35"), (123.45, "123.5"), (0.0412, "0.0412"),
        (0.00018, "1.8e-04"), (-0.00018, "-1.8e-04"), (9.99e-05, "1.0e-04"),
        (1_234_567, "1,234,567"),
        (1e-12, "1.0e-12"),
    ])
    func numbersHaveThreeFiguresOrSo(value: Double, text: String) {
        #expect(HumanText.significant(value) == text)
    }

    @Test func whatIsNoNumberIsShownAsSuch() {
        #expect(HumanText.significant(.nan) == "nan")
        #expect(HumanText.significant(.infinity) == "inf")
        #expect(HumanText.span(seconds: .nan) == "-")
        #expect(HumanText.rate(.infinity, unit: "lines") == "")
    }

    @Test(arguments: [
        (0.42, "0.4s"), (9.94, "9.9s"), (9.96, "10s"), (59.6, "1m 00s"), (184, "3m 04s"),
        (7500, "2h 05m"), (273_600, "3d 04h"),
    ])
    func spansAreShort(seconds: Double, text: String) {
        #expect(HumanText.span(seconds: seconds) == text)
    }

    @Test func sizesCountsAndRates() {
        #expect(HumanText.bytes(1023) == "1023 B")
        #expect(HumanText.bytes(1024) == "1.0 KiB")
        #expect(HumanText.bytes(1_048_575) == "1.0 MiB")
        #expect(HumanText.bytes(97_517_568) == "93.0 MiB")
        #expect(HumanText.count(-1_234_567) == "-1,234,567")
        #expect(HumanText.count(999) == "999")
        #expect(HumanText.rate(31.24, unit: "lines") == "31.2 lines/s")
        #expect(HumanText.rate(4212, unit: "tokens") == "4,212 tokens/s")
        #expect(HumanText.rate(0.07, unit: "steps") == "4.2 steps/min")
        #expect(HumanText.plural(1, "line") == "1 line")
        #expect(HumanText.plural(2000, "line") == "2,000 lines")
        #expect(HumanText.age(milliseconds: 7_300_000) == "2h ago")
    }
}

@Suite struct TextTableTests {
    private func table() -> TextTable {
        var table = TextTable([("NAME", .left), ("SIZE", .right), ("ABOUT", .left)])
        table.add(["tiny", "1.2 MiB", "llama"])
        table.add(["a-longer-name", "9 B"])
        return table
    }

    @Test func columnsAreAligned() {
        #expect(
            table().rendered() == """
                NAME              SIZE  ABOUT
                tiny           1.2 MiB  llama
                a-longer-name      9 B  -

                """)
    }

    @Test func aNarrowTerminalCutsTheEnd() {
        #expect(
            table().rendered(width: 26) == """
                NAME              SIZE  A…
                tiny           1.2 MiB  l…
                a-longer-name      9 B  -

                """)
    }

    @Test func textFromElsewhereCannotMoveTheCursor() {
        var table = TextTable([("LABEL", .left)])
        table.add(["a\u{1B}[2Jb\nc\u{9B}d"])
        #expect(table.rendered() == "LABEL\na [2Jb c d\n")
    }

    @Test func colorsAreOnlyWhereTheyAreWanted() {
        #expect(TextStyle.plain.red("x") == "x")
        #expect(TextStyle.colored.red("x") == "\u{1B}[31mx\u{1B}[0m")
        #expect(TextStyle.plain.state("failed") == "failed")
    }
}

@Suite struct ProgressTests {
    private let layout = ProgressLayout(showsUnicode: false, style: .plain)

    private func batch(done: Int, total: Int?, state: String = "running", failed: Int = 0)
        throws -> JobSnapshot
    {
        try JobSnapshot(
            .object([
                "job": "0193-1f3a", "kind": "infer", "state": .string(state),
                "counts": [
                    "total": total.map { .integer(Int64($0)) } ?? .null,
                    "done": .integer(Int64(done)), "failed": .integer(Int64(failed)),
                ],
                "usage": ["completion_tokens": .integer(Int64(done * 20))],
            ]))
    }

    @Test func ratesAndETAComeFromTheLastSeconds() throws {
        var tracker = JobProgressTracker(title: "infer 1f3a")
        _ = tracker.update(try batch(done: 0, total: 2000), at: .seconds(0))
        let progress = tracker.update(
            try batch(done: 840, total: 2000, failed: 3), at: .seconds(10))
        #expect(
            layout.line(progress, width: nil)
                == "infer 1f3a  [##########--------------]  42%  843/2,000 lines  ETA 14s  "
                + "3 failed  84.3 lines/s  1,680 tokens/s")
    }

    @Test func aLineIsCutAtPartsNotInTheMiddle() throws {
        var tracker = JobProgressTracker(title: "infer 1f3a")
        let progress = tracker.update(try batch(done: 500, total: 1000), at: .zero)
        #expect(
            layout.line(progress, width: 60)
                == "infer 1f3a  [############------------]  50%")
        #expect(layout.line(progress, width: 8) == "infer 1")
    }

    @Test func withoutATotalTheStateStandsForTheBar() throws {
        var tracker = JobProgressTracker(title: "infer 1f3a")
        let progress = tracker.update(
            try batch(done: 0, total: nil, state: "splitting"), at: .zero)
        #expect(layout.line(progress, width: nil) == "infer 1f3a  splitting  0 lines")
    }

    @Test func aFineTuneShowsItsMetrics() throws {
        let job = try JobSnapshot(
            .object([
                "job": "0193-1f3a", "kind": "finetune", "state": "running",
                "counts": ["total": 1, "done": 0],
                "progress": [
                    "counter": 45, "done": 45, "total": 100, "unit": "steps",
                    "metrics": [
                        "loss": 1.53217, "learning_rate": 0.00018, "tokens_per_second": 840.4,
                    ],
                ],
            ]))
        var tracker = JobProgressTracker(title: "finetune a")
        let progress = tracker.update(job, at: .zero)
        #expect(
            layout.line(progress, width: nil)
                == "finetune a  [##########--------------]  45%  45/100 steps  840 tokens/s  "
                + "loss 1.532  lr 1.8e-04")
        #expect(layout.plainLine(progress).hasPrefix("finetune a  running  45%  45/100 steps"))
    }

    @Test func aCounterThatGoesBackStartsOver() {
        var meter = RateMeter()
        meter.add(100, at: .seconds(0))
        meter.add(200, at: .seconds(1))
        meter.add(0, at: .seconds(2))
        #expect(meter.perSecond == nil)
        meter.add(10, at: .seconds(4))
        #expect(meter.perSecond == 5)
    }

    @Test func theMeterForgetsAndStaysSmall() {
        var meter = RateMeter()
        for second in 0..<5000 { meter.add(Double(second * second), at: .seconds(second)) }
        let rate = meter.perSecond ?? .nan
        #expect(abs(rate - 2 * 4991) < 20)
    }

    private func display(_ mode: ProgressDisplay.Mode, _ output: @escaping (String) -> Void)
        -> ProgressDisplay
    {
        ProgressDisplay(mode: mode, layout: layout, width: { 40 }, write: output)
    }

    @Test func aTerminalIsRedrawnInPlaceAndNotTooOften() {
        var output = ""
        let display = display(.terminal) { output += $0 }
        var progress = JobProgress(title: "t", state: "running", done: 1, total: 2, unit: "lines")
        display.show(progress, at: .zero)
        progress.done = 2
        display.show(progress, at: .milliseconds(50))
        display.show(progress, at: .milliseconds(150))
        display.erase()
        #expect(
            output == "\rt  [############------------]  50%\u{1B}[K"
                + "\rt  [########################]  100%\u{1B}[K" + "\r\u{1B}[K")
    }

    @Test func aPipeGetsALineNowAndThen() {
        var lines: [String] = []
        let display = display(.plain) { lines.append($0) }
        var progress = JobProgress(title: "t", state: "queued", unit: "lines")
        display.show(progress, at: .milliseconds(900))
        display.show(progress, at: .seconds(1))
        progress.state = "running"
        for second in 1...25 {
            progress.done = Double(second)
            display.show(progress, at: .seconds(second))
        }
        display.note("a note")
        display.erase()
        #expect(
            lines == [
                "t  queued\n", "t  running  1 line\n", "t  running  11 lines\n",
                "t  running  21 lines\n", "a note\n",
            ])
    }
}
