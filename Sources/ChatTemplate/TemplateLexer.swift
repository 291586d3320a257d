/// A piece of template text or of a tag.
struct TemplateToken {
    enum Kind: Equatable {
        case data
        case blockBegin
        case blockEnd
        case variableBegin
        case variableEnd
        case name
        case string
        case integer
        case float
        case symbol
        case end
    }

    var kind: Kind
    /// The text of a name, symbol or number, the value of a string, or the data.
    var text: [UInt8]
    /// Bytes from the start of the source.
    var offset: Int

    var string: String { String(decoding: text, as: UTF8.self) }

    /// How Jinja names the token in its messages.
    var description: String {
        switch kind {
        case .data: "template data / text"
        case .blockBegin: "begin of statement block"
        case .blockEnd: "end of statement block"
        case .variableBegin: "begin of print statement"
        case .variableEnd: "end of print statement"
        case .end: "end of template"
        default: string
        }
    }
}

/// Cuts a template into tokens as Jinja does with `trim_blocks` and `lstrip_blocks` set and
/// `keep_trailing_newline` not set.
struct TemplateLexer {
    private let source: [UInt8]
    private var position = 0
    private var tokens: [TemplateToken] = []
    /// Whether what came before ended a line, for `lstrip_blocks`.
    private var lineStarting = true

    /// - Parameter source: with line ends normalized, see `normalized`.
    init(_ source: [UInt8]) { self.source = source }

    /// Line ends become `\n`, and one at the very end is dropped.
    static func normalized(_ text: String) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(text.utf8.count)
        var previous: UInt8 = 0
        for byte in text.utf8 {
            if byte == 0x0D {
                result.append(0x0A)
            } else if byte != 0x0A || previous != 0x0D {
                result.append(byte)
            }
            previous = byte
        }
        if result.last == 0x0A { result.removeLast() }
        return result
    }

    mutating func tokenize() throws(TemplateError) -> [TemplateToken] {
        while position < source.count {
            guard let begin = nextTag() else {
                add(.data, Array(source[position...]), at: position)
                break
            }
            let sign = begin + 2 < source.count ? source[begin + 2] : 0
            let kind = source[begin + 1]
            let signed = sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+")
            addData(
                until: begin, strips: sign == UInt8(ascii: "-"),
                keeps: sign == UInt8(ascii: "+") || kind == UInt8(ascii: "{"))
            position = begin + 2 + (signed ? 1 : 0)
            switch kind {
            case UInt8(ascii: "#"): try skipComment(from: begin)
            case UInt8(ascii: "%"):
                if let start = rawStart() {
                    try addRaw(from: start, begin: begin)
                } else {
                    add(.blockBegin, [], at: begin)
                    try lexTag(isBlock: true)
                }
            default:
                add(.variableBegin, [], at: begin)
                try lexTag(isBlock: false)
            }
        }
        add(.end, [], at: source.count)
        return tokens
    }

    private mutating func add(_ kind: TemplateToken.Kind, _ text: [UInt8], at offset: Int) {
        if kind == .data, text.isEmpty { return }
        tokens.append(TemplateToken(kind: kind, text: text, offset: offset))
    }

    private func nextTag() -> Int? {
        var index = position
        while index + 1 < source.count {
            if source[index] == UInt8(ascii: "{") {
                let next = source[index + 1]
                if next == UInt8(ascii: "%") || next == UInt8(ascii: "{")
                    || next == UInt8(ascii: "#")
                {
                    return index
                }
            }
            index += 1
        }
        return nil
    }

    private mutating func addData(until end: Int, strips: Bool, keeps: Bool) {
        var text = source[position..<end]
        if strips {
            text = PythonText.trimmedEnd(text)
        } else if !keeps {
            let lineStart = text.lastIndex(of: 0x0A).map { $0 + 1 }
            if let start = lineStart ?? (lineStarting ? text.startIndex : nil),
                PythonText.isWhitespace(text[start...])
            {
                text = text[..<start]
            }
        }
        add(.data, Array(text), at: position)
    }

    /// Skips what follows a tag's end: all white space after `-`, one newline after a block's end.
    private mutating func skipAfterEnd(sign: UInt8, trimsNewline: Bool) {
        let start = position
        if sign == UInt8(ascii: "-") {
            position = source.count - PythonText.trimmedStart(source[position...]).count
        } else if trimsNewline, sign != UInt8(ascii: "+"), position < source.count,
            source[position] == 0x0A
        {
            position += 1
        }
        lineStarting = position > start && source[position - 1] == 0x0A
    }

    private mutating func skipComment(from begin: Int) throws(TemplateError) {
        var index = position
        while index + 1 < source.count {
            if source[index] == UInt8(ascii: "#"), source[index + 1] == UInt8(ascii: "}") {
                let sign = index > position ? source[index - 1] : 0
                position = index + 2
                skipAfterEnd(sign: sign, trimsNewline: true)
                return
            }
            index += 1
        }
        throw TemplateError("TemplateSyntaxError", "Missing end of comment tag", at: begin)
    }

    // MARK: Raw blocks

    /// If the tag at hand is `raw`, where its text starts.
    private func rawStart() -> Int? {
        guard let (end, sign) = simpleTagEnd("raw", from: position) else { return nil }
        return sign == UInt8(ascii: "-")
            ? source.count - PythonText.trimmedStart(source[end...]).count : end
    }

    /// The end of a tag that holds only `word`, and the sign before `%}`.
    private func simpleTagEnd(_ word: String, from start: Int) -> (end: Int, sign: UInt8)? {
        var index = source.count - PythonText.trimmedStart(source[start...]).count
        guard source[index...].starts(with: word.utf8) else { return nil }
        index += word.utf8.count
        index = source.count - PythonText.trimmedStart(source[index...]).count
        var sign: UInt8 = 0
        if index < source.count,
            source[index] == UInt8(ascii: "-") || source[index] == UInt8(ascii: "+")
        {
            sign = source[index]
            index += 1
        }
        guard source[index...].starts(with: "%}".utf8) else { return nil }
        return (index + 2, sign)
    }

    private mutating func addRaw(from start: Int, begin: Int) throws(TemplateError) {
        var index = start
        while index + 1 < source.count {
            if source[index] == UInt8(ascii: "{"), source[index + 1] == UInt8(ascii: "%") {
                var inner = index + 2
                let sign = inner < source.count ? source[inner] : 0
                if sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") { inner += 1 }
                if let (end, endSign) = simpleTagEnd("endraw", from: inner) {
                    position = start
                    lineStarting = false
                    addData(
                        until: index, strips: sign == UInt8(ascii: "-"),
                        keeps: sign == UInt8(ascii: "+"))
                    position = end
                    skipAfterEnd(sign: endSign, trimsNewline: true)
                    return
                }
            }
            index += 1
        }
        throw TemplateError("TemplateSyntaxError", "Missing end of raw directive", at: begin)
    }

    // MARK: Inside of tags

    private static let closing: [UInt8: UInt8] = [
        UInt8(ascii: "("): UInt8(ascii: ")"), UInt8(ascii: "["): UInt8(ascii: "]"),
        UInt8(ascii: "{"): UInt8(ascii: "}"),
    ]

    private mutating func lexTag(isBlock: Bool) throws(TemplateError) {
        let endMark = isBlock ? UInt8(ascii: "%") : UInt8(ascii: "}")
        var open: [UInt8] = []
        while position < source.count {
            let byte = source[position]
            let next = position + 1 < source.count ? source[position + 1] : 0
            let afterNext = position + 2 < source.count ? source[position + 2] : 0
            if open.isEmpty {
                var sign: UInt8 = 0
                var length = 0
                if byte == endMark, next == UInt8(ascii: "}") {
                    length = 2
                } else if byte == UInt8(ascii: "-") || (byte == UInt8(ascii: "+") && isBlock),
                    next == endMark, afterNext == UInt8(ascii: "}")
                {
                    (sign, length) = (byte, 3)
                }
                if length > 0 {
                    add(isBlock ? .blockEnd : .variableEnd, [], at: position)
                    position += length
                    skipAfterEnd(sign: sign, trimsNewline: isBlock)
                    return
                }
            }
            let rest = source[position...]
            let spaces = rest.count - PythonText.trimmedStart(rest).count
            if spaces > 0 {
                position += spaces
                continue
            }
            if lexNumber() { continue }
            if lexName() { continue }
            if try lexString() { continue }
            try lexSymbol(&open)
        }
    }

    private mutating func lexSymbol(_ open: inout [UInt8]) throws(TemplateError) {
        let byte = source[position]
        let next = position + 1 < source.count ? source[position + 1] : 0
        let pair = [byte, next]
        for symbol in ["//", "**", "==", "!=", ">=", "<="] where pair == Array(symbol.utf8) {
            add(.symbol, pair, at: position)
            position += 2
            return
        }
        guard "+-/*%~[](){}><=.:|,;".utf8.contains(byte) else {
            let (character, _) = PythonText.scalar(in: source, at: position)
            let shown = PythonRepr.text(of: Text(scalars: [character]))
            throw TemplateError(
                "TemplateSyntaxError", "unexpected char \(shown) at \(position)", at: position)
        }
        if let close = Self.closing[byte] {
            open.append(close)
        } else if byte == UInt8(ascii: ")") || byte == UInt8(ascii: "]")
            || byte == UInt8(ascii: "}")
        {
            guard let expected = open.popLast() else {
                throw TemplateError(
                    "TemplateSyntaxError",
                    "unexpected '\(String(decoding: [byte], as: UTF8.self))'", at: position)
            }
            guard expected == byte else {
                throw TemplateError(
                    "TemplateSyntaxError",
                    "unexpected '\(String(decoding: [byte], as: UTF8.self))', expected "
                        + "'\(String(decoding: [expected], as: UTF8.self))'", at: position)
            }
        }
        add(.symbol, [byte], at: position)
        position += 1
    }

    private func isDigit(_ index: Int, radix: UInt8 = 10) -> Bool {
        guard index < source.count else { return false }
        switch source[index] {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): return source[index] - 48 < radix
        case UInt8(ascii: "a")...UInt8(ascii: "f"), UInt8(ascii: "A")...UInt8(ascii: "F"):
            return radix == 16
        default: return false
        }
    }

    /// The end of digits with single underscores between them.
    private func digitsEnd(_ start: Int, radix: UInt8 = 10) -> Int {
        var index = start
        while true {
            if isDigit(index, radix: radix) {
                index += 1
            } else if index > start, index < source.count, source[index] == UInt8(ascii: "_"),
                isDigit(index + 1, radix: radix)
            {
                index += 2
            } else {
                return index
            }
        }
    }

    private mutating func lexNumber() -> Bool {
        guard isDigit(position) else { return false }
        let start = position
        if source[start] == UInt8(ascii: "0"), start + 1 < source.count {
            let radix: UInt8? =
                switch source[start + 1] | 0x20 {
                case UInt8(ascii: "x"): 16
                case UInt8(ascii: "b"): 2
                case UInt8(ascii: "o"): 8
                default: nil
                }
            if let radix {
                let end = digitsEnd(start + 2, radix: radix)
                if end > start + 2 {
                    addNumber(.integer, start, end)
                    return true
                }
            }
        }
        var end = digitsEnd(start)
        var isFloat = false
        let afterDot = start > 0 && source[start - 1] == UInt8(ascii: ".")
        if !afterDot {
            if end < source.count, source[end] == UInt8(ascii: "."), isDigit(end + 1) {
                end = digitsEnd(end + 1)
                isFloat = true
            }
            if end < source.count, source[end] | 0x20 == UInt8(ascii: "e") {
                var digits = end + 1
                if digits < source.count,
                    source[digits] == UInt8(ascii: "+") || source[digits] == UInt8(ascii: "-")
                {
                    digits += 1
                }
                if isDigit(digits) {
                    end = digitsEnd(digits)
                    isFloat = true
                }
            }
        }
        addNumber(isFloat ? .float : .integer, start, end)
        return true
    }

    private mutating func addNumber(_ kind: TemplateToken.Kind, _ start: Int, _ end: Int) {
        add(kind, source[start..<end].filter { $0 != UInt8(ascii: "_") }, at: start)
        position = end
    }

    private mutating func lexName() -> Bool {
        let start = position
        while position < source.count {
            let (scalar, length) = PythonText.scalar(in: source, at: position)
            let isWord =
                scalar == 0x5F || (scalar < 0x80 && PythonText.isASCIIAlphanumeric(scalar))
                || (scalar >= 0x80 && PythonText.isIdentifier(scalar))
            guard isWord else { break }
            position += length
        }
        guard position > start else { return false }
        add(.name, Array(source[start..<position]), at: start)
        return true
    }

    private mutating func lexString() throws(TemplateError) -> Bool {
        let quote = source[position]
        guard quote == UInt8(ascii: "'") || quote == UInt8(ascii: "\"") else { return false }
        var index = position + 1
        while index < source.count, source[index] != quote {
            index += source[index] == UInt8(ascii: "\\") ? 2 : 1
        }
        guard index < source.count else {
            let shown = quote == UInt8(ascii: "'") ? "\"'\"" : "'\"'"
            throw TemplateError(
                "TemplateSyntaxError", "unexpected char \(shown) at \(position)", at: position)
        }
        add(.string, try unescaped(source[(position + 1)..<index]), at: position)
        position = index + 1
        return true
    }

    /// Python's escapes, as its codec `unicode-escape` reads them.
    private func unescaped(_ text: ArraySlice<UInt8>) throws(TemplateError) -> [UInt8] {
        guard text.contains(UInt8(ascii: "\\")) else { return Array(text) }
        var result: [UInt8] = []
        var index = text.startIndex
        func broken() -> TemplateError {
            TemplateError("TemplateSyntaxError", "a broken escape in a string", at: index)
        }
        while index < text.endIndex {
            guard text[index] == UInt8(ascii: "\\"), index + 1 < text.endIndex else {
                result.append(text[index])
                index += 1
                continue
            }
            let letter = text[index + 1]
            index += 2
            switch letter {
            case UInt8(ascii: "\n"): break
            case UInt8(ascii: "n"): result.append(0x0A)
            case UInt8(ascii: "t"): result.append(0x09)
            case UInt8(ascii: "r"): result.append(0x0D)
            case UInt8(ascii: "a"): result.append(0x07)
            case UInt8(ascii: "b"): result.append(0x08)
            case UInt8(ascii: "f"): result.append(0x0C)
            case UInt8(ascii: "v"): result.append(0x0B)
            case UInt8(ascii: "\\"), UInt8(ascii: "'"), UInt8(ascii: "\""): result.append(letter)
            case UInt8(ascii: "x"), UInt8(ascii: "u"), UInt8(ascii: "U"):
                let digits = letter == UInt8(ascii: "x") ? 2 : letter == UInt8(ascii: "u") ? 4 : 8
                guard index + digits <= text.endIndex,
                    let value = UInt32(
                        String(decoding: text[index..<(index + digits)], as: UTF8.self), radix: 16),
                    Unicode.Scalar(value) != nil
                else { throw broken() }
                PythonText.append(value, to: &result)
                index += digits
            case UInt8(ascii: "0")...UInt8(ascii: "7"):
                var value = UInt32(letter - 48)
                var count = 1
                while count < 3, index < text.endIndex,
                    (UInt8(ascii: "0")...UInt8(ascii: "7")).contains(text[index])
                {
                    value = value * 8 + UInt32(text[index] - 48)
                    index += 1
                    count += 1
                }
                PythonText.append(value, to: &result)
            default: result.append(contentsOf: [UInt8(ascii: "\\"), letter])
            }
        }
        return result
    }
}
