/// Reads the statements of a template; the grammar is that of Jinja 3.1's `parser.py`.
struct TemplateParser {
    private var tokens: [TemplateToken]
    private var index = 0
    /// Names of the blocks that are open, for messages.
    private var openTags: [[String]] = []
    /// Uses of unknown filters and tests: those in conditions may stay until they are met.
    private var pendingUnknown: [TemplateError] = []
    private var fatalUnknown: TemplateError?
    private var depth = 0
    /// Loops around the place at hand, within the function that Jinja makes of a macro's or block's body.
    private var loopDepth = 0
    /// The first `break` or `continue` outside of a loop: Python refuses it once all else is read.
    private var strayJump: TemplateError?
    /// What the macro body at hand speaks of.
    private var special: [Set<String>] = []

    private static let maximumDepth = 120

    /// - Parameter source: normalized template bytes.
    static func parse(_ source: [UInt8]) throws(TemplateError) -> [Statement] {
        var lexer = TemplateLexer(source)
        var parser = TemplateParser(tokens: try lexer.tokenize())
        let statements = try parser.statements(until: [])
        if let unknown = parser.fatalUnknown ?? parser.pendingUnknown.first { throw unknown }
        if let stray = parser.strayJump { throw stray }
        return statements
    }

    private init(tokens: [TemplateToken]) { self.tokens = tokens }

    // MARK: Tokens

    var current: TemplateToken { tokens[index] }
    var following: TemplateToken { tokens[min(index + 1, tokens.count - 1)] }

    mutating func advance() { if index < tokens.count - 1 { index += 1 } }

    func isName(_ word: String) -> Bool { current.kind == .name && current.string == word }
    func isSymbol(_ text: String) -> Bool { current.kind == .symbol && current.string == text }

    mutating func skipName(_ word: String) -> Bool {
        guard isName(word) else { return false }
        advance()
        return true
    }

    mutating func skipSymbol(_ text: String) -> Bool {
        guard isSymbol(text) else { return false }
        advance()
        return true
    }

    func fault(_ message: String, at offset: Int? = nil) -> TemplateError {
        TemplateError("TemplateSyntaxError", message, at: offset ?? current.offset)
    }

    private func unexpected(_ wanted: String) -> TemplateError {
        current.kind == .end
            ? fault("unexpected end of template, expected '\(wanted)'.")
            : fault("expected token '\(wanted)', got '\(current.description)'")
    }

    mutating func expect(_ kind: TemplateToken.Kind, _ wanted: String) throws(TemplateError) {
        guard current.kind == kind else { throw unexpected(wanted) }
        advance()
    }

    mutating func expectSymbol(_ text: String) throws(TemplateError) {
        guard skipSymbol(text) else { throw unexpected(text) }
    }

    mutating func expectName(_ word: String? = nil) throws(TemplateError) -> String {
        guard current.kind == .name, word == nil || current.string == word else {
            throw unexpected(word ?? "name")
        }
        defer { advance() }
        return current.string
    }

    /// Bounds the nesting of blocks and expressions.
    mutating func nested<Result>(
        _ body: (inout TemplateParser) throws(TemplateError) -> Result
    ) throws(TemplateError) -> Result {
        depth += 1
        defer { depth -= 1 }
        guard depth <= Self.maximumDepth else {
            throw TemplateError(
                "LimitError", "nested deeper than \(Self.maximumDepth) levels", at: current.offset)
        }
        return try body(&self)
    }

    // MARK: Unknown filters and tests

    mutating func noteUnknown(_ kind: String, _ name: String, at offset: Int) {
        pendingUnknown.append(
            TemplateError("TemplateAssertionError", "No \(kind) named '\(name)'.", at: offset))
    }

    mutating func noteUse(_ name: String) {
        for index in special.indices { special[index].insert(name) }
    }

    var unknownCount: Int { pendingUnknown.count }

    /// In the branches of a condition an unknown name fails only when it is met.
    mutating func forgiveUnknown(since count: Int) {
        pendingUnknown.removeLast(max(0, pendingUnknown.count - count))
    }

    /// Inside of a scope of its own it fails at once, even within a condition.
    private mutating func hardenUnknown(since count: Int) {
        if fatalUnknown == nil, pendingUnknown.count > count {
            fatalUnknown = pendingUnknown[count]
        }
    }

    // MARK: Statements

    private mutating func statements(
        until endTags: [String]
    ) throws(TemplateError) -> [Statement] {
        var result: [Statement] = []
        if !endTags.isEmpty { openTags.append(endTags) }
        defer { if !endTags.isEmpty { openTags.removeLast() } }
        while true {
            let token = current
            switch token.kind {
            case .data:
                result.append(Statement(kind: .text(token.text), offset: token.offset))
                advance()
            case .variableBegin:
                advance()
                let expression = try tuple()
                result.append(Statement(kind: .output(expression), offset: token.offset))
                try expect(.variableEnd, "end of print statement")
            case .blockBegin:
                advance()
                if current.kind == .name, endTags.contains(current.string) { return result }
                let statement = try nested { parser throws(TemplateError) in
                    try parser.statement()
                }
                result.append(contentsOf: statement)
                try expect(.blockEnd, "end of statement block")
            default:
                guard endTags.isEmpty else { throw endOfTemplate(endTags) }
                return result
            }
        }
    }

    private func endOfTemplate(_ endTags: [String]) -> TemplateError {
        let tags = endTags.map { "'\($0)'" }.joined(separator: " or ")
        let block = (endTags.last ?? "").replacing("end", with: "", maxReplacements: 1)
        return fault(
            "Unexpected end of template. Jinja was looking for the following tags: \(tags). "
                + "The innermost block that needs to be closed is '\(block)'.")
    }

    /// `:`? `%}` body, up to one of the end tags; the last of them is passed.
    private mutating func body(
        until endTags: [String], passEnd: Bool = true
    ) throws(TemplateError) -> [Statement] {
        _ = skipSymbol(":")
        try expect(.blockEnd, "end of statement block")
        let result = try statements(until: endTags)
        if passEnd { advance() }
        return result
    }

    private mutating func scopedBody(until end: String) throws(TemplateError) -> [Statement] {
        let count = unknownCount
        let result = try body(until: [end])
        hardenUnknown(since: count)
        return result
    }

    private mutating func functionBody(until end: String) throws(TemplateError) -> [Statement] {
        let loops = loopDepth
        loopDepth = 0
        defer { loopDepth = loops }
        return try scopedBody(until: end)
    }

    private mutating func statement() throws(TemplateError) -> [Statement] {
        let token = current
        guard token.kind == .name else { throw fault("tag name expected") }
        let tag = token.string
        advance()
        func make(_ kind: Statement.Kind) -> [Statement] {
            [Statement(kind: kind, offset: token.offset)]
        }
        switch tag {
        case "if": return make(try condition())
        case "for": return make(.loop(try loop()))
        case "set": return make(try assignment())
        case "macro":
            let name = try expectName()
            let (signature, body) = try macro(end: "endmacro")
            return make(.macro(name, signature, body))
        case "call": return make(try callBlock())
        case "filter":
            let filter = try filters(
                of: try Expression(kind: .blockText, offset: token.offset), startsInline: true)
            return make(.filterBlock(filter, try scopedBody(until: "endfilter")))
        case "with": return make(try with())
        case "block":
            _ = try expectName()
            _ = skipName("scoped")
            _ = skipName("required")
            let body = try functionBody(until: "endblock")
            if current.kind == .name { advance() }
            return make(.block(body))
        case "autoescape":
            let flag = try expression()
            return make(.autoescape(flag, try scopedBody(until: "endautoescape")))
        case "generation": return make(.generation(try functionBody(until: "endgeneration")))
        case "break", "continue":
            if loopDepth == 0, strayJump == nil {
                let message =
                    tag == "break" ? "'break' outside loop" : "'continue' not properly in loop"
                strayJump = TemplateError("SyntaxError", message, at: token.offset)
            }
            return make(tag == "break" ? .breakLoop : .continueLoop)
        case "print":
            var outputs: [Statement] = []
            while current.kind != .blockEnd {
                if !outputs.isEmpty { try expectSymbol(",") }
                outputs += make(.output(try expression()))
            }
            return outputs
        case "include", "import", "from", "extends":
            while current.kind != .blockEnd, current.kind != .end { advance() }
            return make(.load)
        default: throw unknownTag(tag, at: token.offset)
        }
    }

    private func unknownTag(_ tag: String, at offset: Int) -> TemplateError {
        var message = "Encountered unknown tag '\(tag)'."
        if let tags = openTags.last {
            let wanted = tags.map { "'\($0)'" }.joined(separator: " or ")
            message +=
                " Jinja was looking for the following tags: \(wanted). The innermost block that "
                + "needs to be closed is '"
                + (tags.last ?? "").replacing("end", with: "", maxReplacements: 1) + "'."
        }
        return fault(message, at: offset)
    }

    private mutating func condition() throws(TemplateError) -> Statement.Kind {
        var branches: [(test: Expression, body: [Statement])] = []
        let count = unknownCount
        while true {
            let test = try tuple(withCondition: false)
            let body = try body(until: ["elif", "else", "endif"], passEnd: false)
            branches.append((test, body))
            if skipName("elif") { continue }
            var otherwise: [Statement] = []
            if skipName("else") {
                otherwise = try self.body(until: ["endif"])
            } else {
                advance()
            }
            forgiveUnknown(since: count)
            return .condition(branches, otherwise: otherwise)
        }
    }

    private mutating func loop() throws(TemplateError) -> ForLoop {
        let target = try assignmentTarget(endsAtIn: true)
        _ = try expectName("in")
        let iterable = try tuple(withCondition: false, endName: "recursive")
        let condition = skipName("if") ? try expression() : nil
        let isRecursive = skipName("recursive")
        let count = unknownCount
        loopDepth += 1
        let body = try body(until: ["endfor", "else"], passEnd: false)
        loopDepth -= 1
        var otherwise: [Statement] = []
        if skipName("else") {
            otherwise = try self.body(until: ["endfor"])
        } else {
            advance()
        }
        hardenUnknown(since: count)
        return ForLoop(
            target: target, iterable: iterable, condition: condition, isRecursive: isRecursive,
            body: body, otherwise: otherwise)
    }

    private mutating func assignment() throws(TemplateError) -> Statement.Kind {
        let target = try assignmentTarget(withNamespace: true)
        if skipSymbol("=") { return .set(target, try tuple()) }
        var filter: Expression?
        if isSymbol("|") {
            filter = try filters(of: try Expression(kind: .blockText, offset: current.offset))
        }
        return .setBlock(target, filter: filter, body: try scopedBody(until: "endset"))
    }

    private mutating func with() throws(TemplateError) -> Statement.Kind {
        var assignments: [(AssignmentTarget, Expression)] = []
        while current.kind != .blockEnd {
            if !assignments.isEmpty { try expectSymbol(",") }
            let target = try assignmentTarget()
            try expectSymbol("=")
            assignments.append((target, try expression()))
        }
        return .with(assignments, try scopedBody(until: "endwith"))
    }

    private mutating func macro(
        end: String
    ) throws(TemplateError) -> (MacroSignature, [Statement]) {
        var signature = try signature()
        special.append([])
        let body = try functionBody(until: end)
        let used = special.removeLast()
        signature.usesVarargs = used.contains("varargs")
        signature.usesKwargs = used.contains("kwargs")
        signature.usesCaller = used.contains("caller")
        return (signature, body)
    }

    private mutating func signature() throws(TemplateError) -> MacroSignature {
        var signature = MacroSignature()
        try expectSymbol("(")
        while !isSymbol(")") {
            if !signature.parameters.isEmpty { try expectSymbol(",") }
            signature.parameters.append(try expectName())
            if skipSymbol("=") {
                signature.defaults.append(try expression())
            } else if !signature.defaults.isEmpty {
                throw fault("non-default argument follows default argument")
            }
        }
        try expectSymbol(")")
        return signature
    }

    private mutating func callBlock() throws(TemplateError) -> Statement.Kind {
        var signature = isSymbol("(") ? try signature() : MacroSignature()
        let call = try expression()
        guard case .call = call.kind else { throw fault("expected call", at: call.offset) }
        special.append([])
        let body = try functionBody(until: "endcall")
        let used = special.removeLast()
        signature.usesVarargs = used.contains("varargs")
        signature.usesKwargs = used.contains("kwargs")
        signature.usesCaller = used.contains("caller")
        return .callBlock(signature, call, body)
    }

    // MARK: Targets

    private mutating func assignmentTarget(
        withNamespace: Bool = false, endsAtIn: Bool = false
    ) throws(TemplateError) -> AssignmentTarget {
        var targets: [AssignmentTarget] = []
        var isTuple = false
        while true {
            if !targets.isEmpty {
                guard skipSymbol(",") else { break }
                isTuple = true
                if endsTarget(endsAtIn) { break }
            }
            targets.append(try singleTarget(withNamespace: withNamespace))
            guard isSymbol(",") else { break }
        }
        return targets.count == 1 && !isTuple ? targets[0] : .tuple(targets)
    }

    private func endsTarget(_ endsAtIn: Bool) -> Bool {
        current.kind == .blockEnd || isSymbol(")") || isSymbol("=") || (endsAtIn && isName("in"))
    }

    private mutating func singleTarget(
        withNamespace: Bool
    ) throws(TemplateError) -> AssignmentTarget {
        let token = current
        if skipSymbol("(") {
            let inner = try nested { parser throws(TemplateError) in
                try parser.assignmentTarget(withNamespace: withNamespace)
            }
            try expectSymbol(")")
            return inner
        }
        switch token.kind {
        case .name:
            let name = token.string
            let reserved = ["true", "false", "none", "True", "False", "None"]
            guard !reserved.contains(name) else { throw fault("can't assign to 'const'") }
            advance()
            if withNamespace, skipSymbol(".") { return .attribute(name, try expectName()) }
            return .name(name)
        case .string, .integer, .float: throw fault("can't assign to 'const'")
        case .symbol where token.string == "[": throw fault("can't assign to 'list'")
        case .symbol where token.string == "{": throw fault("can't assign to 'dict'")
        default: throw fault("Expected an expression, got '\(token.description)'")
        }
    }
}
