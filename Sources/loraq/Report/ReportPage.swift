import JSONModel
import LoraqClient

/// The report as one HTML file that loads nothing and runs nothing.
struct ReportPage {
    let data: ReportData

    private var result: JSONValue? { data.job.result }
    private var course: TrainingCourse { data.course }

    /// Nothing may be loaded or run, whatever stands in the page.
    private static let policy =
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

    var html: String {
        let title = self.title
        let page: Markup = """
            <!doctype html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta http-equiv="Content-Security-Policy" content="\(Self.policy)">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta name="referrer" content="no-referrer">
            <title>\(title)</title>
            <style>\(ReportStyle.sheet)</style>
            </head>
            <body><main>
            <h1>\(title)</h1>
            <p class="under"><span class="state \(stateClass)">\(data.job.state)</span>\(underTitle)</p>
            \(tiles)
            \(notes)
            <h2>Curves</h2>
            \(charts)
            \(samples)
            <h2>Data</h2>
            \(accounting)
            <h2>Recipe</h2>
            \(recipe)
            <h2>Model and adapter</h2>
            \(digests)
            <footer>Written by loraq \(Loraq.version) on \(Moment.text(data.madeAtMs)).</footer>
            </main></body>
            </html>

            """
        return page.text
    }

    private var title: String {
        "Fine-tune "
            + (data.job.result?["adapter"]?["name"]?.string ?? data.spec?["name"]?.string
                ?? data.job.label ?? data.job.id)
    }

    /// Only what the style sheet knows may become a class.
    private var stateClass: String {
        ["succeeded", "failed", "dependency_failed"].contains(data.job.state) ? data.job.state : ""
    }

    private var underTitle: Markup {
        var parts: [String] = []
        if let label = data.job.label { parts.append("label \(label)") }
        if let started = data.job.startedAtMs { parts.append("begun \(Moment.text(started))") }
        if let started = data.job.startedAtMs, let ended = data.job.finishedAtMs {
            parts.append("took \(HumanText.span(milliseconds: max(0, ended - started)))")
        }
        return Markup(joining: parts.map { " · \($0)" })
    }

    // MARK: Figures

    private var tiles: Markup {
        var entries: [(String, String)] = []
        func number(_ name: String, _ key: String) {
            if let value = result?[key]?.double {
                entries.append((name, HumanText.significant(value)))
            }
        }
        let steps = result?["steps"]?.integer ?? (course.isEmpty ? nil : course.lastStep)
        if let steps {
            let planned = result?["stopped"]?["planned_steps"]?.integer.map {
                " of \(HumanText.count($0))"
            }
            entries.append(("steps", HumanText.count(steps) + (planned ?? "")))
        }
        if let epochs = result?["epochs"]?.double ?? course.steps.last?.epoch {
            entries.append(("epochs", HumanText.fixed(epochs, digits: 2)))
        }
        number("first loss", "first_loss")
        number("last loss", "last_loss")
        number("eval loss before", "eval_loss_before")
        number("eval loss of the adapter", "eval_loss_after")
        if let best = result?["evaluation"]?["best_step"]?.integer ?? course.best?.step {
            entries.append(("best step", HumanText.count(best)))
        }
        number("learning rate", "learning_rate")
        if let count = result?["trainable_parameters"]?.integer {
            entries.append(("trained numbers", HumanText.count(count)))
        }
        if let tokens = result?["tokens"]?.integer {
            entries.append(("tokens", HumanText.count(tokens)))
        }
        if let speed = result?["tokens_per_second"]?.double {
            entries.append(("speed", HumanText.rate(speed, unit: "tokens")))
        }
        if let seconds = result?["seconds"]?.double ?? course.steps.last?.seconds {
            entries.append(("time in training", HumanText.span(seconds: seconds)))
        }
        if let bytes = result?["peak_bytes"]?.integer {
            entries.append(("peak memory", HumanText.bytes(bytes)))
        }
        guard !entries.isEmpty else {
            return "<p class=\"none\">Nothing has been measured yet.</p>"
        }
        return
            "<dl class=\"tiles\">\(Markup(joining: entries.map { "<div><dt>\($0.0)</dt><dd>\($0.1)</dd></div>" }))</dl>"
    }

    private var notes: Markup {
        var parts: [Markup] = []
        if let error = data.job.error {
            let hint = error.hint.map { " \($0)" } ?? ""
            parts.append(
                "<p class=\"note bad\"><strong>\(error.code.rawValue)</strong>: \(error.message)\(hint)</p>"
            )
        }
        let warnings = (result?["warnings"]?.array ?? []).compactMap(\.string)
        if let stopped = result?["stopped"], let message = stopped["message"]?.string,
            !warnings.contains(where: { $0.contains(message) })
        {
            parts.append("<p class=\"note\">Ended early: \(message)</p>")
        }
        if let step = result?["resumed_from_step"]?.integer {
            parts.append(
                "<p class=\"note\">The last attempt went on from the checkpoint of step \(step).</p>"
            )
        }
        parts += (warnings + data.notes).map { "<p class=\"note\">\($0)</p>" }
        return Markup(joining: parts)
    }

    private var charts: Markup {
        let last = course.lastStep
        let adapterStep = result?["evaluation"]?["adapter_step"]?.integer
        let losses = ReportChart(
            title: "Loss", unit: "nats per label",
            lines: [
                .init(name: "training", points: course.lossPoints),
                .init(
                    name: "evaluation", points: course.evaluationPoints, areMarks: true, color: "b"),
            ].filter { !$0.points.isEmpty }, lastStep: last,
            marked: adapterStep.map { ($0, "step of the adapter") })
        let others = [
            ReportChart(
                title: "Learning rate", unit: "",
                lines: [
                    .init(
                        name: "learning rate", points: course.points(\.learningRate), isSmooth: true
                    )
                ],
                lastStep: last, includesZero: true),
            ReportChart(
                title: "Gradient norm", unit: "before clipping",
                lines: [.init(name: "gradient norm", points: course.points(\.gradientNorm))],
                lastStep: last),
            ReportChart(
                title: "Speed", unit: "tokens a second",
                lines: [.init(name: "tokens a second", points: course.speedPoints, isSmooth: true)],
                lastStep: last, includesZero: true),
        ]
        let skipped = course.steps.count { $0.skipped != nil }
        var below = Markup()
        if skipped > 0 {
            below =
                "<p class=\"note\">\(HumanText.plural(skipped, "step")) left out: a loss or gradient was not finite.</p>"
        }
        return """
            <div class="charts">\(losses.markup)\(Markup(joining: others.map(\.markup)))</div>\(below)
            """
    }

    // MARK: Tables

    private static func table(_ rows: [(Markup, Markup)]) -> Markup {
        let cells = rows.map { row -> Markup in
            "<tr><th scope=\"row\">\(row.0)</th><td>\(row.1)</td></tr>"
        }
        return "<div class=\"scroll\"><table>\(Markup(joining: cells))</table></div>"
    }

    private var accounting: Markup {
        var rows: [(Markup, Markup)] = []
        func count(_ name: Markup, _ key: String) {
            if let value = result?[key]?.integer {
                rows.append((name, "\(HumanText.count(value))"))
            }
        }
        count("rows for training", "rows")
        count("rows trained", "trained_rows")
        if let evaluation = result?["evaluation"], let count = evaluation["rows"]?.integer {
            let isHeldOut = evaluation["held_out"]?.bool == true
            let lines = (evaluation["lines"]?.array ?? []).compactMap(\.integer)
            let shown = lines.prefix(20).map(String.init).joined(separator: ", ")
            let rest = count > 20 ? ", …" : ""
            let place = isHeldOut ? "held out of the training file" : "of the evaluation file"
            rows.append(
                (
                    "rows evaluated", "\(HumanText.count(count)), \(place): lines \(shown)\(rest)"
                ))
        }
        count("messages", "turns")
        count("answers trained", "trained_answers")
        count("answers not trained", "untrained_answers")
        count("tokens computed", "tokens")
        count("tokens with a label", "label_tokens")
        for input in data.inputs {
            rows.append(("\(input.name) file", "<code>\(input.digest)</code>"))
        }
        let refused = result?["refused"]?.array ?? []
        let all = result?["refused_rows"]?.integer ?? refused.count
        if result != nil { rows.append(("rows refused", "\(HumanText.count(all))")) }
        if rows.isEmpty { return "<p class=\"none\">The job has no result that says so.</p>" }
        return Self.table(rows) + refusedTable(refused)
    }

    private func refusedTable(_ refused: [JSONValue]) -> Markup {
        guard !refused.isEmpty else { return Markup() }
        let rows = refused.prefix(20).map { row -> Markup in
            let line = row["line"]?.integer ?? 0
            return """
                <tr><td class="number">\(line)</td><td>\(row["code"]?.string ?? "")</td><td>\(row["message"]?.string ?? "")</td></tr>
                """
        }
        return """
            <h3>Refused, the first of them</h3><div class="scroll"><table><tr><th>line</th><th>why</th><th></th></tr>\
            \(Markup(joining: rows))</table></div>
            """
    }

    private var recipe: Markup {
        guard !data.recipe.isEmpty else {
            return
                "<p class=\"none\">\(data.spec == nil ? "The broker does not say." : "All values are the defaults.")</p>"
        }
        let knowsGiven = data.spec != nil
        let rows = data.recipe.map { field -> (Markup, Markup) in
            let value: Markup = "<code>\(field.value.string ?? field.value.text())</code>"
            let given = data.wasGiven(field.key)
            return ("\(field.key)", given ? "<strong>\(value)</strong>" : value)
        }
        let half = (rows.count + 1) / 2
        let note: Markup =
            knowsGiven
            ? "<p class=\"keys\">Bold: given by the recipe; the others are defaults.</p>" : Markup()
        return """
            <div class="columns">\(Self.table(Array(rows.prefix(half))))\(Self.table(Array(rows.dropFirst(half))))</div>\(note)
            """
    }

    private var digests: Markup {
        var rows: [(Markup, Markup)] = [("job", "<code>\(data.job.id)</code>")]
        func artifact(_ name: Markup, _ artifact: JSONValue?) {
            guard let artifact, let pinned = ReportData.pinned(artifact) else { return }
            rows.append((name, "\(pinned) <code>\(artifact["digest"]?.string ?? "")</code>"))
        }
        artifact("base model", data.model)
        artifact("adapter", data.adapter)
        if data.adapter == nil, let product = result?["adapter"] {
            rows.append(
                (
                    "adapter",
                    "\(product["name"]?.string ?? "") <code>\(product["digest"]?.string ?? "")</code>"
                ))
        }
        if let base = data.adapter?["meta"]?["base"]?.string ?? data.training?["base"]?.string {
            rows.append(("base fingerprint", "<code>\(base)</code>"))
        }
        if let digest = data.training?["data"]?.string {
            rows.append(("rows as they were trained", "<code>\(digest)</code>"))
        }
        if let targets = result?["targets"]?.object {
            let words = targets.entries.map { "\($0.key) × \($0.value.integer ?? 0)" }
            rows.append(("adapted matrices", "\(words.joined(separator: ", "))"))
        }
        if let dtype = result?["dtype"]?.string {
            rows.append(("products computed in", "\(dtype)"))
        }
        if let numerics = result?["numerics"]?.string {
            rows.append(("numerics", "<code>\(numerics)</code>"))
        }
        return Self.table(rows)
    }

    // MARK: Samples

    private var samples: Markup {
        switch data.samples {
        case .none(let reason):
            return "<h2>Answers before and after</h2><p class=\"none\">\(reason)</p>"
        case .made(_, let rows, let areHeldOut):
            let exactBefore = rows.count { $0.before.isExact }
            let exactAfter = rows.count { $0.after.isExact }
            let what =
                areHeldOut
                ? "rows of the evaluation, which were not trained" : "rows that were trained"
            let intro =
                "Greedy answers to \(HumanText.plural(rows.count, "row")): \(what). As expected: base \(exactBefore), adapter \(exactAfter)."
            return """
                <h2>Answers before and after</h2><p>\(intro)</p>\(Markup(joining: rows.map(Self.card)))
                """
        }
    }

    private static func card(_ row: ReportSamples.Row) -> Markup {
        func answer(_ name: Markup, _ answer: ReportSamples.Answer) -> Markup {
            let mark: Markup =
                answer.isExact
                ? "<span class=\"yes\">as expected</span>" : "<span class=\"no\">other</span>"
            return "<div><p class=\"label\">\(name) · \(mark)</p><pre>\(answer.text)</pre></div>"
        }
        return """
            <article><h3>Line \(row.line)</h3><p class="label">prompt</p><pre>\(row.prompt)</pre>\
            <div class="answers"><div><p class="label">expected</p><pre>\(row.expected)</pre></div>\
            \(answer("base", row.before))\(answer("adapter", row.after))</div></article>
            """
    }
}
