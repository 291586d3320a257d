import JSONModel
import LoraqClient
import Testing

@testable import loraq

@Suite struct TrainingCourseTests {
    private func course(_ lines: [JSONValue]) -> TrainingCourse? {
        var course = TrainingCourse()
        return lines.allSatisfy { course.add($0) } ? course : nil
    }

    static let lines: [JSONValue] = [
        ["step": 0, "eval_loss": 2.0],
        ["step": 1, "loss": 3.0, "tokens": 100, "seconds": 1.0, "learning_rate": 0.1],
        ["step": 2, "skipped": "the loss is not finite", "seconds": 2.0],
        ["step": 2, "eval_loss": 1.5], ["step": 3, "loss": 1.0, "tokens": 300, "seconds": 3.0],
        ["step": 4, "loss": 0.5, "tokens": 300, "seconds": 4.0],
        ["step": 4, "eval_loss": 1.75],
        ["step": 4, "stopped": "early_stopping", "message": "no gain"],
    ]

    @Test func linesBecomeCurves() throws {
        let course = try #require(self.course(Self.lines))
        #expect(course.lossPoints == [CurvePoint(1, 3), CurvePoint(3, 1), CurvePoint(4, 0.5)])
        #expect(course.evaluations.map(\.isBest) == [false, true, false])
        #expect(course.best?.step == 2 && course.lastStep == 4)
        #expect(course.end?.reason == "early_stopping" && course.steps[1].skipped != nil)
        // 600 tokens in the three seconds after the first step.
        #expect(course.speedPoints.last == CurvePoint(4, 200))
        #expect(course.remainingSeconds(10) == 10)
    }

    /// A run that was resumed writes again what it does again: whoever has read further begins anew.
    @Test func whatCannotFollowIsToldApart() {
        #expect(course([["step": 5, "loss": 1.0], ["step": 4, "loss": 1.0]]) == nil)
        #expect(course([["step": 5, "eval_loss": 1.0], ["step": 5, "eval_loss": 1.0]]) == nil)
        #expect(course([["loss": 1.0]]) == nil)
        #expect(course([["step": 5, "loss": 1.0], ["step": 9, "loss": 1.0]]) != nil)
    }

    @Test func progressTellsOfWorkersThatWriteNoFile() {
        var course = TrainingCourse()
        course.add(progress: ["done": 3, "metrics": ["loss": 2.0, "learning_rate": 0.1]])
        course.add(progress: ["done": 3, "metrics": ["eval_loss": 1.0]])
        course.add(progress: ["done": 1e300, "metrics": ["loss": 1.0]])
        course.add(progress: ["message": "hello"])
        #expect(course.steps.map(\.step) == [3] && course.evaluations.map(\.step) == [3])
    }
}

@Suite struct CurvePlotTests {
    private func plot(
        width: Int, height: Int, unicode: Bool = true, _ points: [CurvePoint],
        marks: [CurvePoint] = []
    ) -> [String] {
        CurvePlot(
            width: width, height: height, showsUnicode: unicode, style: .plain, xRange: 0...100,
            series: [.init(points: points), .init(points: marks, areMarks: true)]
        ).lines()
    }

    private let falling = (1...100).map { CurvePoint(Double($0), 10 - Double($0) / 11) }

    @Test(arguments: [(24, 6), (40, 8), (80, 12), (160, 20)])
    func everyLineFits(width: Int, height: Int) {
        for unicode in [true, false] {
            let lines = plot(
                width: width, height: height, unicode: unicode, falling, marks: [CurvePoint(50, 5)])
            #expect(lines.count == height)
            #expect(lines.allSatisfy { $0.count <= width })
            #expect(lines.contains { $0.contains(unicode ? "●" : "o") })
            #expect(unicode || lines.joined().allSatisfy(\.isASCII))
        }
    }

    @Test func aFallingCurveFalls() {
        let lines = plot(width: 50, height: 12, falling)
        func columns(_ line: String) -> [Int] {
            Array(line).indices.filter {
                ("\u{2801}"..."\u{28FF}").contains(Array(line)[$0])
            }
        }
        let top = columns(lines[0])
        let bottom = columns(lines[9])
        #expect(!top.isEmpty && !bottom.isEmpty)
        #expect(top.max() ?? 99 < bottom.min() ?? 0)
        #expect(lines.last?.contains("100") == true)
    }

    @Test func withoutRoomOrPointsNothingIsDrawn() {
        #expect(plot(width: 20, height: 10, falling).isEmpty)
        #expect(plot(width: 80, height: 3, falling).isEmpty)
        #expect(plot(width: 80, height: 10, []).isEmpty)
        #expect(plot(width: 80, height: 10, [CurvePoint(1, .nan)]).isEmpty)
        #expect(
            plot(width: 80, height: 10, [CurvePoint(1, 1), CurvePoint(2, .infinity)]).count == 10)
    }

    @Test func scalesHoldAllValuesAndHaveRoundTicks() {
        #expect(CurveScale([1, 9]).ticks(4) == [2, 4, 6, 8])
        #expect(CurveScale([0.0001, 10]).isLogarithmic)
        #expect(CurveScale([0.0001, 10]).ticks(5) == [0.0001, 0.001, 0.01, 0.1, 1, 10])
        for values in [[0.0], [5, 5], [-3, 4], [1e-9, 1e9], [2e-4, 1.9e-4], [.nan, 1]] {
            let scale = CurveScale(values)
            for value in values where value.isFinite {
                #expect((-0.001...1.001).contains(scale.share(value)))
            }
            #expect(scale.ticks(5).allSatisfy { $0 >= scale.low && $0 <= scale.high * 1.001 })
        }
    }

    @Test func manyPointsBecomeFewWithTheirRange() {
        let points = (0..<1_000).map { CurvePoint(Double($0), $0 % 2 == 0 ? 1 : 3) }
        let parts = CurveThinning.parts(points, count: 10, from: 0, to: 999)
        #expect(parts.count == 10)
        #expect(parts.allSatisfy { $0.least == 1 && $0.greatest == 3 && abs($0.mean - 2) < 0.1 })
    }
}

@Suite struct WatchViewTests {
    private func view(_ state: String, _ more: JSONObject = JSONObject()) throws -> WatchView {
        var course = TrainingCourse()
        for line in TrainingCourseTests.lines { _ = course.add(line) }
        var object: JSONObject = [
            "job": "0193a1b2-0000-7000-8000-00000000abcd", "kind": "finetune",
            "state": .string(state), "label": "night\u{1B}[31mly",
            "progress": ["done": 4, "total": 20, "unit": "steps"],
        ]
        for entry in more.entries { object[entry.key] = entry.value }
        return WatchView(
            job: try JobSnapshot(.object(object)), course: course, style: .plain,
            showsUnicode: true)
    }

    @Test func theScreenHoldsWhatCounts() throws {
        let text = try view("running").screen(width: 100, height: 24)
        for words in [
            "step 4/20 (20%)", "loss 0.500", "eval loss 1.750 (best 1.500 at step 2)", "ETA 16s",
            "200 tokens/s", "⠒⠒ loss",
        ] { #expect(text.contains(words), "\(words)") }
        #expect(!text.contains("\u{1B}"), "no control codes of others")
    }

    @Test(arguments: [(20, 5), (40, 10), (80, 24), (200, 60)])
    func theScreenFits(width: Int, height: Int) throws {
        let lines = try view("running").screen(width: width, height: height).split(
            separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.allSatisfy { $0.count <= width })
        #expect(lines.count <= height)
    }

    @Test func anEndSaysWhy() throws {
        #expect(try view("succeeded").noteText == "early_stopping: no gain")
        let failed = try view(
            "failed", ["error": ["code": "DIVERGED", "class": "user", "message": "too high"]])
        #expect(failed.noteText == "DIVERGED: too high")
    }
}
