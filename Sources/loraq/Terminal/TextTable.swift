/// A table in aligned columns, two spaces apart, without rules: for eyes, `grep` and `awk` alike.
struct TextTable {
    enum Alignment { case left, right }

    private let titles: [(text: String, alignment: Alignment)]
    private var rows: [[String]] = []

    init(_ titles: [(String, Alignment)]) {
        self.titles = titles.map { (text: $0.0, alignment: $0.1) }
    }

    var isEmpty: Bool { rows.isEmpty }

    /// Adds a row; missing cells are empty, an empty cell is shown as `-`.
    mutating func add(_ cells: [String]) {
        let shown = cells.prefix(titles.count).map { $0.isEmpty ? "-" : TextTable.oneLine($0) }
        rows.append(shown + Array(repeating: "-", count: titles.count - shown.count))
    }

    /// The table's lines, each ended by a newline. The last column is cut where `width` is given.
    func rendered(style: TextStyle = .plain, width: Int? = nil) -> String {
        let widths = titles.indices.map { column in
            rows.reduce(titles[column].text.count) { max($0, $1[column].count) }
        }
        var text = style.bold(line(titles.map(\.text), widths, width)) + "\n"
        for row in rows { text += line(row, widths, width) + "\n" }
        return text
    }

    private func line(_ cells: [String], _ widths: [Int], _ width: Int?) -> String {
        var text = ""
        for (column, cell) in cells.enumerated() {
            let gap = String(repeating: " ", count: max(0, widths[column] - cell.count))
            let last = column == cells.count - 1
            switch titles[column].alignment {
            case .left: text += last ? cell : cell + gap
            case .right: text += gap + cell
            }
            if !last { text += "  " }
        }
        guard let width, text.count > width, width > 1 else { return text }
        return String(text.prefix(width - 1)) + "…"
    }

    /// Text from elsewhere on one line and without control characters, so that it cannot move the cursor.
    static func oneLine(_ text: String) -> String {
        var cleaned = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            cleaned.append(isControl(scalar) ? " " : scalar)
        }
        return String(cleaned)
    }

    static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value)
    }
}
