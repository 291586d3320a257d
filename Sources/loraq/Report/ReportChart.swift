import Foundation

/// A line chart as inline SVG: axes, round ticks, a thin line or band of single steps, marks of evaluations.
struct ReportChart {
    struct Line {
        var name: String
        var points: [CurvePoint]
        /// `line`, or `marks` for few points.
        var areMarks = false
        /// Drawn as it is; else a running mean lies over single steps, which are noisy.
        var isSmooth = false
        /// One of the colors of the page: `a` or `b`.
        var color = "a"
    }

    var title: String
    var unit: String
    var lines: [Line]
    var lastStep: Int
    var includesZero = false
    /// A step to point out, and what it is.
    var marked: (step: Int, name: String)?

    static let width = 480.0
    static let height = 220.0
    private static let left = 58.0
    private static let right = 12.0
    private static let top = 12.0
    private static let bottom = 30.0
    static let maximumParts = 400

    private var isEmpty: Bool { lines.allSatisfy { !$0.points.contains { $0.y.isFinite } } }

    var markup: Markup {
        let heading: Markup =
            "<figcaption>\(title) <span class=\"unit\">\(unit)</span></figcaption>"
        guard !isEmpty else {
            return "<figure>\(heading)<p class=\"none\">Nothing was measured.</p></figure>"
        }
        let scale = CurveScale(
            lines.flatMap { $0.points.map(\.y) }, includesZero: includesZero)
        let steps = CurveScale(low: 0, high: Double(max(1, lastStep)))
        var drawing = grid(scale, steps)
        if let marked {
            let x = place(x: Double(marked.step), steps)
            drawing += """
                <line class="marked" x1="\(at: x)" y1="\(at: Self.top)" x2="\(at: x)" y2="\(at: Self.height - Self.bottom)">\
                <title>\(marked.name)</title></line>
                """
        }
        for line in lines { drawing += draw(line, scale, steps) }
        let label = "\(title) by step"
        return """
            <figure>\(heading)<svg viewBox="0 0 \(at: Self.width) \(at: Self.height)" role="img" aria-label="\(label)">\
            \(drawing)</svg>\(key(scale))</figure>
            """
    }

    // MARK: Parts

    private func place(x step: Double, _ steps: CurveScale) -> Double {
        Self.left + steps.share(step) * (Self.width - Self.left - Self.right)
    }

    private func place(y value: Double, _ scale: CurveScale) -> Double {
        let share = min(1, max(0, scale.share(value)))
        return Self.top + (1 - share) * (Self.height - Self.top - Self.bottom)
    }

    private func grid(_ scale: CurveScale, _ steps: CurveScale) -> Markup {
        var drawing = Markup()
        let end = Self.width - Self.right
        for tick in scale.ticks(5) {
            let y = place(y: tick, scale)
            drawing += """
                <line class="grid" x1="\(at: Self.left)" y1="\(at: y)" x2="\(at: end)" y2="\(at: y)"/>\
                <text x="\(at: Self.left - 6)" y="\(at: y + 4)" text-anchor="end">\(Self.label(tick))</text>
                """
        }
        let floor = Self.height - Self.bottom
        drawing += """
            <line class="axis" x1="\(at: Self.left)" y1="\(at: floor)" x2="\(at: end)" y2="\(at: floor)"/>
            """
        for tick in steps.ticks(5) where tick.rounded() == tick && tick <= Double(lastStep) {
            drawing += """
                <text x="\(at: place(x: tick, steps))" y="\(at: floor + 18)" text-anchor="middle">\(HumanText.count(Int(tick)))</text>
                """
        }
        return drawing
    }

    /// As short as it can be: `0.01` where the text with its figures is `0.0100`, `1e8` for hundreds of millions.
    static func label(_ tick: Double) -> String {
        if abs(tick) >= 1e6 {
            let power = log10(abs(tick)).rounded(.down)
            let mantissa = HumanText.significant(tick / pow(10, power))
            return shortened(mantissa) + "e" + HumanText.fixed(power, digits: 0)
        }
        return shortened(HumanText.significant(tick))
    }

    private static func shortened(_ text: String) -> String {
        var text = text
        guard text.contains("."), !text.contains("e") else { return text }
        while text.hasSuffix("0") { text.removeLast() }
        if text.hasSuffix(".") { text.removeLast() }
        return text
    }

    private func draw(_ line: Line, _ scale: CurveScale, _ steps: CurveScale) -> Markup {
        let parts = CurveThinning.parts(
            line.points, count: Self.maximumParts, from: 0, to: Double(max(1, lastStep)))
        if line.areMarks || parts.count == 1 {
            let path = Self.path(parts.map { (place(x: $0.x, steps), place(y: $0.mean, scale)) })
            var drawing: Markup = "<path class=\"thin \(line.color)\" d=\"\(path)\"/>"
            for part in parts {
                let name =
                    "\(line.name) \(HumanText.significant(part.mean)) at step \(HumanText.count(Int(part.x)))"
                drawing += """
                    <circle class="\(line.color)" cx="\(at: place(x: part.x, steps))" cy="\(at: place(y: part.mean, scale))" r="3.5">\
                    <title>\(name)</title></circle>
                    """
            }
            return drawing
        }
        // The steps themselves are faint; over them their running mean.
        let raw = parts.map { (place(x: $0.x, steps), place(y: $0.mean, scale)) }
        var drawing = Markup()
        if parts.contains(where: { $0.greatest > $0.least }) {
            let upper = parts.map { (place(x: $0.x, steps), place(y: $0.greatest, scale)) }
            let lower = parts.reversed().map { (place(x: $0.x, steps), place(y: $0.least, scale)) }
            drawing += "<path class=\"band \(line.color)\" d=\"\(Self.path(upper + lower))Z\"/>"
        }
        let isNoisy = parts.count >= 30 && !line.isSmooth
        drawing += """
            <path class="\(isNoisy ? "faint" : "line") \(line.color)" d="\(Self.path(raw))"/>
            """
        if isNoisy {
            let mean = Self.smoothed(parts).map { (place(x: $0.x, steps), place(y: $0.y, scale)) }
            drawing += "<path class=\"line \(line.color)\" d=\"\(Self.path(mean))\"/>"
        }
        return drawing
    }

    /// The mean over a centered window of a tenth of the run, so that no shift shows.
    static func smoothed(_ parts: [CurveThinning.Part]) -> [CurvePoint] {
        let half = max(1, parts.count / 40)
        return parts.indices.map { index in
            let reach = min(half, index, parts.count - 1 - index)
            let near = parts[(index - reach)...(index + reach)]
            return CurvePoint(parts[index].x, near.reduce(0) { $0 + $1.mean } / Double(near.count))
        }
    }

    private static func path(_ places: [(Double, Double)]) -> Markup {
        Markup(
            joining: places.enumerated().map { index, place in
                index == 0 ? "M\(at: place.0) \(at: place.1)" : "L\(at: place.0) \(at: place.1)"
            })
    }

    private func key(_ scale: CurveScale) -> Markup {
        var parts: [Markup] = []
        if lines.count > 1 {
            parts = lines.map { "<span class=\"key \($0.color)\"></span>\($0.name)" }
        }
        if scale.isLogarithmic { parts.append("logarithmic axis") }
        if let marked { parts.append("<span class=\"key marked\"></span>\(marked.name)") }
        return parts.isEmpty
            ? Markup() : "<p class=\"keys\">\(Markup(joining: parts, by: " &nbsp; "))</p>"
    }
}
