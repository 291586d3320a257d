/// Curves on a terminal: braille characters (two by four dots a cell), or ASCII where no others can be shown.
struct CurvePlot {
    struct Series {
        var points: [CurvePoint]
        /// Single marks, over the curves; else points are joined.
        var areMarks = false
        var paint: (String) -> String = { $0 }
    }

    /// Cells, with labels and axes.
    let width: Int
    let height: Int
    let showsUnicode: Bool
    let style: TextStyle
    var xRange: ClosedRange<Double>
    var series: [Series]

    static let labelWidth = 9
    static let leastWidth = 24
    static let leastHeight = 4

    /// The lines, none wider than `width`; none at all where there is no room or no point.
    func lines() -> [String] {
        let columns = width - Self.labelWidth - 1
        let rows = height - 2
        let values = series.flatMap { $0.points.map(\.y) }.filter(\.isFinite)
        guard width >= Self.leastWidth, height >= Self.leastHeight, !values.isEmpty else {
            return []
        }
        let scale = CurveScale(values)
        var canvas = CurveCanvas(columns: columns, rows: rows, showsUnicode: showsUnicode)
        for (index, one) in series.enumerated() {
            draw(one, index, scale, &canvas)
        }
        let marks = Set([0, rows / 2, rows - 1])
        var lines = (0..<rows).map { row -> String in
            let share = rows > 1 ? 1 - Double(row) / Double(rows - 1) : 0
            let label = marks.contains(row) ? HumanText.significant(scale.value(share)) : ""
            let axis = showsUnicode ? (label.isEmpty ? "│" : "┤") : "|"
            return Self.padded(label) + style.dim(axis)
                + canvas.line(row) { place, text in
                    series[place].paint(text)
                }
        }
        let floor = String(repeating: showsUnicode ? "─" : "-", count: columns)
        lines.append(Self.padded("") + style.dim((showsUnicode ? "└" : "+") + floor))
        let first = HumanText.count(Int(xRange.lowerBound))
        let last = HumanText.count(Int(xRange.upperBound))
        let note = scale.isLogarithmic ? "steps, logarithmic" : "steps"
        let gap = max(1, columns - first.count - last.count - note.count - 1)
        let foot = first + " " + note + String(repeating: " ", count: gap) + last
        lines.append(Self.padded("") + " " + style.dim(String(foot.prefix(columns))))
        return lines
    }

    private static func padded(_ label: String) -> String {
        let short = String(label.prefix(labelWidth - 1))
        return String(repeating: " ", count: labelWidth - 1 - short.count) + short + " "
    }

    private func draw(
        _ one: Series, _ index: Int, _ scale: CurveScale, _ canvas: inout CurveCanvas
    ) {
        let span = max(xRange.upperBound - xRange.lowerBound, 1)
        let parts = CurveThinning.parts(
            one.points, count: canvas.dotColumns, from: xRange.lowerBound,
            to: xRange.lowerBound + span)
        var before: (x: Int, y: Int)?
        for part in parts {
            let x = Int((part.x - xRange.lowerBound) / span * Double(canvas.dotColumns - 1) + 0.5)
            let share = min(1, max(0, scale.share(part.mean)))
            let y = Int((1 - share) * Double(canvas.dotRows - 1) + 0.5)
            if one.areMarks {
                canvas.mark(x, y, series: index)
            } else {
                canvas.join(before ?? (x, y), (x, y), series: index)
            }
            before = (x, y)
        }
    }
}

/// Dots in cells, each cell with the series that drew into it first, and marks over them.
struct CurveCanvas {
    let columns: Int
    let rows: Int
    let showsUnicode: Bool
    private var dots: [UInt8]
    private var owners: [Int?]
    private var marked: [Bool]

    var dotColumns: Int { showsUnicode ? 2 * columns : columns }
    var dotRows: Int { showsUnicode ? 4 * rows : rows }

    /// Bits of a braille cell by column and row (Unicode, block 2800).
    private static let bits: [[UInt8]] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]]

    init(columns: Int, rows: Int, showsUnicode: Bool) {
        self.columns = columns
        self.rows = rows
        self.showsUnicode = showsUnicode
        dots = Array(repeating: 0, count: columns * rows)
        owners = Array(repeating: nil, count: columns * rows)
        marked = Array(repeating: false, count: columns * rows)
    }

    private func cell(_ x: Int, _ y: Int) -> Int? {
        let (column, row) = showsUnicode ? (x / 2, y / 4) : (x, y)
        guard x >= 0, y >= 0, column < columns, row < rows else { return nil }
        return row * columns + column
    }

    private mutating func dot(_ x: Int, _ y: Int, series: Int) {
        guard let cell = cell(x, y) else { return }
        dots[cell] |= showsUnicode ? Self.bits[x % 2][y % 4] : 1
        if owners[cell] == nil { owners[cell] = series }
    }

    mutating func mark(_ x: Int, _ y: Int, series: Int) {
        guard let cell = cell(x, y) else { return }
        marked[cell] = true
        owners[cell] = series
    }

    /// A line of dots without gaps.
    mutating func join(_ start: (x: Int, y: Int), _ end: (x: Int, y: Int), series: Int) {
        let steps = max(abs(end.x - start.x), abs(end.y - start.y), 1)
        for step in 0...steps {
            let share = Double(step) / Double(steps)
            dot(
                start.x + Int((Double(end.x - start.x) * share).rounded()),
                start.y + Int((Double(end.y - start.y) * share).rounded()), series: series)
        }
    }

    /// A row's characters, runs of one series painted together.
    func line(_ row: Int, paint: (Int, String) -> String) -> String {
        var text = ""
        var run = ""
        var owner: Int?
        func flush() {
            text += owner.map { paint($0, run) } ?? run
            run = ""
        }
        for cell in (row * columns)..<((row + 1) * columns) {
            if owners[cell] != owner {
                flush()
                owner = owners[cell]
            }
            run.unicodeScalars.append(character(cell))
        }
        flush()
        return text
    }

    private func character(_ cell: Int) -> Unicode.Scalar {
        if marked[cell] { return showsUnicode ? "●" : "o" }
        guard dots[cell] != 0 else { return " " }
        guard showsUnicode else { return "*" }
        return Unicode.Scalar(0x2800 + UInt32(dots[cell])) ?? " "
    }
}
