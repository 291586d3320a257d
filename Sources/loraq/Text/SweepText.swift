import LoraqClient
import WireProtocol

/// The leaderboard of a sweep: of a grid the best first, of stages in their order.
enum SweepText {
    static func text(_ view: SweepView, style: TextStyle) -> String {
        let title = view.metric == "loss" ? "eval_loss" : view.metric
        let hasLoss = view.metric != "loss" && !view.metric.isEmpty
        var table = TextTable(
            [
                ("", .left), (view.isStages ? "STAGE" : "CANDIDATE", .left),
                (title.uppercased(), .left),
            ]
                + (view.isStages ? [("GAIN", .right)] : [])
                + (hasLoss ? [("EVAL_LOSS", .right)] : [])
                + [
                    ("TRAIN_LOSS", .right), ("PARAMETERS", .right), ("TIME", .right),
                    ("STATE", .left),
                ])
        for index in order(view) {
            let row = view.rows[index]
            let mark = index == view.best ? (view.job.isFinal ? "best" : "leads") : " "
            var cells = [mark, row.name, value(row, view.metric)]
            if view.isStages {
                cells.append(figure(row.metrics?[view.metric + "_gain"], signed: true))
            }
            if hasLoss { cells.append(figure(row.metrics?["loss"])) }
            let parameters = row.training?["trainable_parameters"].flatMap { Int(exactly: $0) }
            cells += [
                figure(row.training?["last_loss"]), parameters.map(HumanText.count) ?? "",
                row.training?["seconds"].map { HumanText.span(seconds: $0) } ?? "",
                row.state == .leftOut ? "left out" : row.state.rawValue,
            ]
            table.add(cells)
        }
        var text = table.rendered(style: style, width: nil)
        for row in view.rows {
            guard let reason = row.reason else { continue }
            text += "\(TextTable.oneLine(row.name)): \(TextTable.oneLine(reason))\n"
        }
        if let conclusion = view.conclusion { text += TextTable.oneLine(conclusion) + "\n" }
        if view.job.state == "succeeded", let best = view.best {
            let from = view.rows[best].adapter.map { " (from \($0))" } ?? ""
            text += "\(TextTable.oneLine(view.name)) is registered\(from)\n"
        }
        return text
    }

    private static func order(_ view: SweepView) -> [Int] {
        if view.isStages { return Array(view.rows.indices) }
        return view.rows.indices.sorted { a, b in
            switch (view.rows[a].value, view.rows[b].value) {
            case (let x?, let y?) where x != y: view.goal == .min ? x < y : x > y
            case (_?, nil): true
            case (nil, _?): false
            default: a != b && (a == view.best || (b != view.best && isFirst(a, b, view)))
            }
        }
    }

    /// Of two that the metric does not tell apart, as the choice does: less loss first, then the earlier one.
    private static func isFirst(_ a: Int, _ b: Int, _ view: SweepView) -> Bool {
        if let x = view.rows[a].metrics?["loss"], let y = view.rows[b].metrics?["loss"], x != y {
            return x < y
        }
        return a < b
    }

    /// `0.932 (0.871 to 0.967)`
    private static func value(_ row: Choice.Row, _ metric: String) -> String {
        guard let value = row.value else { return "" }
        guard let low = row.metrics?[metric + "_low"], let high = row.metrics?[metric + "_high"]
        else { return figure(value) }
        return "\(figure(value)) (\(figure(low)) to \(figure(high)))"
    }

    private static func figure(_ value: Double?, signed: Bool = false) -> String {
        guard let value else { return "" }
        return (signed && value > 0 ? "+" : "") + HumanText.fixed(value, digits: 4)
    }

    /// Tables of those among the jobs that choose among several, for commands that show jobs of any kind.
    static func tables(_ jobs: [JobSnapshot], _ session: Session) throws -> String {
        try jobs.filter { $0.kind == "choose" }.map { try SweepView($0, session) }
            .filter { !$0.metric.isEmpty }
            .map { "\n" + text($0, style: session.style) }.joined()
    }
}
