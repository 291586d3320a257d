import JSONModel

/// The result of a data check in words.
enum DataReport {
    static let shownRefusals = 20

    /// - Parameter byToken: Each token of the rows that are shown on a line of its own.
    static func text(
        _ result: JSONValue, file: String, byToken: Bool = false, style: TextStyle
    ) -> String {
        var lines = FieldLines(style: style)
        let refused = result["refused"]?.array ?? []
        lines.add("file", file)
        lines.add("rows", count(result["rows"]))
        let trained = result["usable"]
        lines.add("trained", count(trained))
        // The worker lists the first hundred only.
        let (left, isOver) = (result["rows"]?.integer ?? 0).subtractingReportingOverflow(
            trained?.integer ?? 0)
        lines.add("refused", HumanText.count(isOver ? refused.count : max(refused.count, left)))
        let forms = (result["forms"]?.object?.entries ?? []).sorted { $0.key < $1.key }
        if !forms.isEmpty {
            lines.add("forms", forms.map { "\(count($0.value)) \($0.key)" }.joined(separator: ", "))
        }
        if let turns = result["turns"]?.integer, turns > 0 {
            lines.add(
                "turns",
                "\(HumanText.count(turns)) messages: \(count(result["trained_answers"])) answers trained, "
                    + "\(count(result["untrained_answers"])) not")
        }
        var tokens = count(result["tokens"])
        let labelCount = result["labels"]
        if let all = result["tokens"]?.double, let labels = labelCount?.double, all > 0 {
            let share = HumanText.fixed(100 * labels / all, digits: 0)
            tokens +=
                ", \(HumanText.count(Int(min(max(0, labels), 1e15)))) of them trained (\(share)%)"
        }
        lines.add("tokens", tokens)
        if let lengths = result["lengths"], lengths.object != nil {
            lines.add(
                "lengths",
                "shortest \(count(lengths["min"])), half below \(count(lengths["median"])), "
                    + "95% below \(count(lengths["p95"])), longest \(count(lengths["max"]))")
        }
        lines.add("duplicates", count(result["duplicates"]))
        return lines.text + histogram(result["lengths"], style) + refusals(refused, style)
            + warnings(result)
            + rendered(result["shown"]?.array ?? [], byToken, style)
    }

    /// A count that is a number or a list.
    private static func count(_ value: JSONValue?) -> String {
        if let list = value?.array { return HumanText.count(list.count) }
        return value?.integer.map(HumanText.count) ?? "-"
    }

    /// Bars where the worker counted lengths by bin: `lengths.histogram: [{upto, rows}]`.
    private static func histogram(_ lengths: JSONValue?, _ style: TextStyle) -> String {
        let bins = (lengths?["histogram"]?.array ?? []).compactMap { bin -> (Int, Int)? in
            guard let upTo = bin["upto"]?.integer, let rows = bin["rows"]?.integer else {
                return nil
            }
            return (upTo, rows)
        }
        let most = bins.reduce(0) { max($0, $1.1) }
        guard most > 0 else { return "" }
        var table = TextTable([("TOKENS", .right), ("ROWS", .right), ("SHARE", .left)])
        for (upTo, rows) in bins {
            let bar = String(
                repeating: "#", count: max(rows > 0 ? 1 : 0, Int(Double(rows) / Double(most) * 40)))
            table.add(["≤ \(HumanText.count(upTo))", HumanText.count(rows), bar])
        }
        return "\n" + table.rendered(style: style)
    }

    private static func refusals(_ refused: [JSONValue], _ style: TextStyle) -> String {
        guard !refused.isEmpty else { return "" }
        var text = "\n" + style.bold("refused rows") + "\n"
        for row in refused.prefix(shownRefusals) {
            let line = row["line"]?.integer.map { "line \($0)" } ?? "a line"
            let code = style.red(TextTable.oneLine(row["code"]?.string ?? "ERROR"))
            text += "  \(line)  \(code): \(TextTable.oneLine(row["message"]?.string ?? ""))\n"
        }
        if refused.count > shownRefusals {
            text +=
                "  and \(HumanText.count(refused.count - shownRefusals)) more (--json lists all)\n"
        }
        return text
    }

    private static func warnings(_ result: JSONValue) -> String {
        (result["warnings"]?.array ?? []).compactMap(\.string)
            .map { "\nwarning: \(TextTable.oneLine($0))\n" }.joined()
    }

    private static func rendered(
        _ rows: [JSONValue], _ byToken: Bool, _ style: TextStyle
    ) -> String {
        var text = ""
        for row in rows {
            let line = row["line"]?.integer.map { "line \($0)" } ?? "a row"
            text += "\n" + style.bold(line) + "\n"
            if byToken {
                text += tokenLines(row["spans"]?.array ?? [], style)
                continue
            }
            for span in row["spans"]?.array ?? [] {
                let piece = Terminal.safe(span["text"]?.string ?? "")
                if span["trained"]?.bool == true {
                    text += style.usesEscapes ? style.green(piece) : "⟦\(piece)⟧"
                } else {
                    text += piece
                }
            }
            text += "\n"
        }
        return text
    }

    private static func right(_ text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(0, width - text.count)) + text
    }

    /// One line a token: its place, `+` where it is trained, its id, its text in quotes.
    private static func tokenLines(_ spans: [JSONValue], _ style: TextStyle) -> String {
        var text = ""
        var place = 0
        for span in spans {
            let isTrained = span["trained"]?.bool == true
            guard let pieces = span["pieces"]?.array else {
                return text + "  (the rest is not shown token by token: show fewer rows)\n"
            }
            for piece in pieces {
                let shown = Terminal.safe(piece["text"]?.string ?? "").debugDescription
                let id = "\(piece["id"]?.integer ?? 0)"
                let line =
                    right("\(place)", 6) + (isTrained ? " + " : "   ")
                    + right(id, 7) + "  " + shown
                text += (isTrained ? style.green(line) : line) + "\n"
                place += 1
            }
        }
        return text
    }
}
