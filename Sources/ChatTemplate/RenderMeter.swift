/// Bounds on what one rendering may use.
public struct TemplateLimits: Sendable {
    /// Expressions and statements evaluated, values printed or compared, and 32 bytes of text read.
    public var steps = 5_000_000
    /// Bytes of the text and of all values made on the way. Memory in use stays below a few times this.
    public var bytes = 64 << 20
    /// Expressions, statements and macro calls within each other.
    public var depth = 500
    /// Lists, tuples and dicts within each other.
    public var valueDepth = 200
    public init() {}
}

/// Counts what a rendering uses, and ends it at its limits.
final class RenderMeter {
    /// What printing or comparing a value goes through.
    struct Extent {
        var values = 0
        /// Bytes of all strings in it.
        var bytes = 0
        var depth = 0
    }

    let limits: TemplateLimits
    private var steps = 0
    private var bytesMade = 0
    private var depth = 0

    init(_ limits: TemplateLimits) { self.limits = limits }

    private func stepLimit(_ offset: Int?) -> TemplateError {
        TemplateError("LimitError", "more than \(limits.steps) steps", at: offset)
    }

    func step(_ offset: Int? = nil) throws {
        steps += 1
        guard steps <= limits.steps else { throw stepLimit(offset) }
    }

    /// Counts the reading of text: one step for 32 bytes.
    func read(bytes: Int) throws {
        steps += bytes / 32
        guard steps <= limits.steps else { throw stepLimit(nil) }
    }

    /// Counts the memory of values; call it before making a large one.
    func account(_ bytes: Int) throws {
        try room(bytes)
        bytesMade += max(bytes, 0)
    }

    /// Checks that so many bytes could be made, without counting them.
    func room(_ bytes: Int) throws {
        let (total, overflow) = bytesMade.addingReportingOverflow(max(bytes, 0))
        guard !overflow, total <= limits.bytes else {
            throw TemplateError("LimitError", "more than \(limits.bytes) bytes of text and values")
        }
    }

    /// As `room` for `count` times `size` bytes.
    func room(_ count: Int, times size: Int) throws {
        let (total, overflow) = count.multipliedReportingOverflow(by: size)
        try room(overflow ? .max : total)
    }

    func nested<Result>(_ offset: Int, _ body: () throws -> Result) throws -> Result {
        try step(offset)
        depth += 1
        defer { depth -= 1 }
        guard depth <= limits.depth else {
            throw TemplateError(
                "RecursionError", "nested deeper than \(limits.depth) levels", at: offset)
        }
        do {
            return try body()
        } catch var error as TemplateError {
            if error.offset == nil { error.offset = offset }
            throw error
        }
    }

    func checkDepth(of value: Value) throws {
        guard value.depth <= limits.valueDepth else {
            throw TemplateError(
                "LimitError", "a value nests deeper than \(limits.valueDepth) levels")
        }
    }

    /// Counts each value that printing, comparing or hashing this one would come to, as often as it
    /// would; call it before.
    @discardableResult func walk(_ value: Value) throws -> Extent {
        var extent = Extent()
        switch value {
        case .string(let text):
            try read(bytes: text.bytes.count)
            extent.bytes = text.bytes.count
            return extent
        case .list, .tuple, .dictionary, .view, .namespace, .generator: break
        default: return extent
        }
        var rest: [(value: Value, depth: Int)] = [(value, 1)]
        while let (value, depth) = rest.popLast() {
            try step()
            guard depth <= limits.valueDepth else {
                throw TemplateError(
                    "LimitError", "a value nests deeper than \(limits.valueDepth) levels")
            }
            extent.values += 1
            extent.depth = max(extent.depth, depth)
            switch value {
            case .string(let text):
                extent.bytes += text.bytes.count
                try read(bytes: text.bytes.count)
            case .bytes(let bytes): extent.bytes += bytes.count
            case .list(let items), .tuple(let items):
                for item in items { rest.append((item, depth + 1)) }
            case .dictionary(let dictionary), .view(_, let dictionary):
                for entry in dictionary.entries {
                    rest.append((entry.key, depth + 1))
                    rest.append((entry.value, depth + 1))
                }
            case .namespace(let namespace):
                for attribute in namespace.attributes { rest.append((attribute.value, depth + 1)) }
            case .generator(let generator):
                for item in generator.waiting { rest.append((item, depth + 1)) }
            default: break
            }
        }
        try room(extent.bytes)
        return extent
    }

    /// What a loop or a filter runs over; the memory of items that are made for it is counted.
    func items(_ value: Value) throws -> [Value] {
        let made =
            switch value {
            case .string(let text): (text.bytes.count, 80)
            case .bytes(let bytes): (bytes.count, 32)
            case .range, .view: (value.length ?? 0, 64)
            default: (0, 0)
            }
        try room(made.0, times: made.1)
        try account(made.0 * made.1)
        let items = try value.iterated()
        try read(bytes: items.count * 8)
        return items
    }
}
