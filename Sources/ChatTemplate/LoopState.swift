/// The variable `loop`. Items are drawn one by one, so that a loop's condition is evaluated when its
/// item is due, as Jinja's generators do.
final class LoopState {
    let depth0: Int
    private var draw: () throws -> Value?
    /// The number of items where it is known beforehand.
    private let knownLength: Int?
    private var ahead: [Value] = []
    private var isExhausted = false
    private(set) var index0 = -1
    private var previous: Value?
    private var current: Value?
    private var lastChanged: [Value]?
    /// Renders the body again for other items, in a loop marked recursive.
    private(set) var recurse: ((Value, Int) throws -> Value)?

    init(
        depth0: Int, knownLength: Int?, recurse: ((Value, Int) throws -> Value)?,
        draw: @escaping () throws -> Value?
    ) {
        self.depth0 = depth0
        self.knownLength = knownLength
        self.recurse = recurse
        self.draw = draw
    }

    /// Lets go of everything, which may refer to this loop again.
    func clear() {
        draw = { nil }
        recurse = nil
        ahead = []
        previous = nil
        current = nil
        lastChanged = nil
    }

    func next() throws -> Value? {
        let value = try ahead.isEmpty ? drawOne() : ahead.removeFirst()
        guard let value else { return nil }
        index0 += 1
        previous = current
        current = value
        return value
    }

    private func drawOne() throws -> Value? {
        if isExhausted { return nil }
        let value = try draw()
        if value == nil { isExhausted = true }
        return value
    }

    private func peek() throws -> Value? {
        if ahead.isEmpty, let value = try drawOne() { ahead.append(value) }
        return ahead.first
    }

    private func length() throws -> Int {
        if let knownLength { return knownLength }
        while let value = try drawOne() { ahead.append(value) }
        return index0 + 1 + ahead.count
    }

    /// What is left, for a loop that is iterated itself.
    func rest() throws -> [Value] {
        var items: [Value] = []
        while let value = try next() { items.append(value) }
        return items
    }

    /// Nil for names that it does not have.
    func attribute(_ name: String) throws -> Value? {
        switch name {
        case "index": return .int(index0 + 1)
        case "index0": return .int(index0)
        case "first": return .bool(index0 == 0)
        case "last": return .bool(try peek() == nil)
        case "length": return .int(try length())
        case "revindex": return .int(try length() - index0)
        case "revindex0": return .int(try length() - index0 - 1)
        case "depth": return .int(depth0 + 1)
        case "depth0": return .int(depth0)
        case "previtem":
            return index0 == 0
                ? .undefined(Undefined("there is no previous item"))
                : previous ?? .undefined(Undefined("there is no previous item"))
        case "nextitem": return try peek() ?? .undefined(Undefined("there is no next item"))
        case "cycle":
            return .callable(
                Callable("cycle", typeName: "method") { [self] _, arguments in
                    guard !arguments.positional.isEmpty else {
                        throw TemplateError("TypeError", "no items for cycling given")
                    }
                    return arguments.positional[max(index0, 0) % arguments.positional.count]
                })
        case "changed":
            return .callable(
                Callable("changed", typeName: "method") { [self] _, arguments in
                    let new = arguments.positional
                    if let lastChanged,
                        PythonCompare.equal(
                            .tuple(ValueItems(lastChanged)), .tuple(ValueItems(new)))
                    {
                        return .bool(false)
                    }
                    lastChanged = new
                    return .bool(true)
                })
        default: return nil
        }
    }
}
