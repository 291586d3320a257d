/// `name   value` lines with the values in one column.
struct FieldLines {
    private let style: TextStyle
    private var fields: [(name: String, value: String)] = []

    init(style: TextStyle) { self.style = style }

    mutating func add(_ name: String, _ value: String) { fields.append((name, value)) }

    var text: String {
        let width = fields.reduce(0) { max($0, $1.name.count) }
        return fields.map { field in
            let gap = String(repeating: " ", count: width - field.name.count + 2)
            return style.dim(field.name) + gap + field.value + "\n"
        }.joined()
    }
}
