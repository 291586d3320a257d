import JSONModel
import LoraqClient

/// A running fine-tune on a screen, or on a line.
struct WatchView {
    let job: JobSnapshot
    let course: TrainingCourse
    let style: TextStyle
    let showsUnicode: Bool

    /// Steps that the run is to have, where the worker has said so.
    var totalSteps: Int? {
        if let total = job.progress?["total"]?.double, total >= 1, total < 1e15 {
            return Int(total)
        }
        return job.result?["stopped"]?["planned_steps"]?.integer ?? job.result?["steps"]?.integer
    }

    /// At most `width` columns and `height` lines.
    func screen(width: Int, height: Int) -> String {
        var lines = [cut(titleText, width, style.bold)]
        lines.append(cut(figures.joined(separator: "  "), width) { $0 })
        if let note = noteText { lines.append(cut(note, width, style.yellow)) }
        let room = height - lines.count - 3
        // The curve takes most of the width also at the beginning of a long run.
        let reached = max(course.lastStep + course.lastStep / 4, 20)
        let last = Double(max(min(totalSteps ?? course.lastStep, reached), course.lastStep, 1))
        let plot = CurvePlot(
            width: min(width, 160), height: min(room, 20), showsUnicode: showsUnicode,
            style: style, xRange: 0...last,
            series: [
                .init(points: course.lossPoints, paint: style.cyan),
                .init(points: course.evaluationPoints, areMarks: true, paint: style.yellow),
            ])
        let drawn = plot.lines()
        if !drawn.isEmpty {
            let mark = showsUnicode ? "●" : "o"
            let key =
                style.cyan(showsUnicode ? "⠒⠒" : "**") + " loss"
                + (course.evaluations.isEmpty ? "" : "   " + style.yellow(mark) + " eval loss")
            lines += [""] + drawn + [key]
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private func cut(_ text: String, _ width: Int, _ paint: (String) -> String) -> String {
        guard text.count > width else { return paint(text) }
        return paint(String(text.prefix(max(0, width - 1))) + (showsUnicode ? "…" : ""))
    }

    private var titleText: String { "\(JobText.title(of: job))  \(job.state)\(positionText)" }

    private var positionText: String {
        guard course.lastStep > 0 || totalSteps != nil else { return "" }
        var text = "  step \(HumanText.count(course.lastStep))"
        if let total = totalSteps {
            text += "/\(HumanText.count(total))"
            if total > 0 {
                let share = 100 * Double(course.lastStep) / Double(total)
                text += " (\(HumanText.fixed(share, digits: 0))%)"
            }
        }
        return text
    }

    /// What counts, in the order in which it is left off on a narrow terminal.
    var figures: [String] {
        var parts: [String] = []
        let last = course.steps.last { $0.loss != nil }
        if let loss = last?.loss { parts.append("loss \(HumanText.significant(loss))") }
        if let evaluation = course.evaluations.last {
            var text = "eval loss \(HumanText.significant(evaluation.loss))"
            if let best = course.best, best.step != evaluation.step {
                text +=
                    " (best \(HumanText.significant(best.loss)) at step \(HumanText.count(best.step)))"
            }
            parts.append(text)
        }
        if !job.isFinal, let total = totalSteps,
            let seconds = course.remainingSeconds(total - course.lastStep)
        {
            parts.append("ETA " + HumanText.span(seconds: seconds))
        }
        if let rate = course.steps.last?.learningRate {
            parts.append("lr \(HumanText.significant(rate))")
        }
        if let speed = course.speedPoints.last?.y {
            parts.append(HumanText.rate(speed, unit: "tokens"))
        }
        if let epoch = course.steps.last?.epoch {
            parts.append("epoch \(HumanText.fixed(epoch, digits: 2))")
        }
        return parts
    }

    /// Why it does not run, or why it ended.
    var noteText: String? {
        if let error = job.error { return TextTable.oneLine("\(error.code): \(error.message)") }
        if let end = course.end { return TextTable.oneLine("\(end.reason): \(end.message)") }
        if job.state != "running", !job.isFinal, let reason = job.reason {
            return TextTable.oneLine(reason.message)
        }
        if course.isEmpty, job.state == "succeeded" { return "the worker wrote no measurements" }
        return nil
    }

    /// The same on one line, for a log.
    var line: String {
        ([job.state + positionText] + figures).joined(separator: "  ")
    }

    static func evaluationLine(_ evaluation: TrainingCourse.Evaluation) -> String {
        "step \(HumanText.count(evaluation.step))  eval loss "
            + HumanText.significant(evaluation.loss)
            + (evaluation.isBest ? "  (the best so far)" : "")
    }
}
