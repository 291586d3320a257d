/// Why a template could not be read or rendered, in the terms of Jinja and Python.
public struct TemplateError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The exception that transformers raises here: `TemplateSyntaxError`, `UndefinedError`,
    /// `TypeError`, `TemplateError` (by `raise_exception`), …; `LimitError` when a bound is met.
    public let type: String
    public let message: String
    /// Where in the template, from 1; columns count code points.
    public var line: Int?
    public var column: Int?
    /// The byte offset of the place, until line and column are known.
    var offset: Int?

    public init(type: String, message: String, line: Int? = nil, column: Int? = nil) {
        self.type = type
        self.message = message
        self.line = line
        self.column = column
    }

    init(_ type: String, _ message: String, at offset: Int? = nil) {
        self.type = type
        self.message = message
        self.offset = offset
    }

    public var description: String {
        guard let line, let column else { return "\(type): \(message)" }
        return "chat template, line \(line), column \(column): \(type): \(message)"
    }

    /// The same error with line and column of its offset in `source`.
    func located(in source: [UInt8]) -> TemplateError {
        guard let offset, line == nil else { return self }
        var located = self
        let before = source[..<min(offset, source.count)]
        located.line = 1 + before.count { $0 == 0x0A }
        let lineStart = before.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
        located.column = 1 + before[lineStart...].count { $0 & 0xC0 != 0x80 }
        return located
    }

    public static func == (left: TemplateError, right: TemplateError) -> Bool {
        left.type == right.type && left.message == right.message && left.line == right.line
            && left.column == right.column
    }
}
