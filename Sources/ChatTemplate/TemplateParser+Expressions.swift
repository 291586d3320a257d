/// Expressions, from the loosest binding to the tightest.
extension TemplateParser {
    mutating func expression(withCondition: Bool = true) throws(TemplateError) -> Expression {
        try nested { parser throws(TemplateError) in
            withCondition ? try parser.conditional() : try parser.or()
        }
    }

    /// One expression, or several with commas between them as a tuple.
    mutating func tuple(
        withCondition: Bool = true, endName: String? = nil, isParenthesized: Bool = false
    ) throws(TemplateError) -> Expression {
        let offset = current.offset
        var parts: [Expression] = []
        var isTuple = false
        while true {
            if !parts.isEmpty { try expectSymbol(",") }
            if endsTuple(endName) { break }
            parts.append(try expression(withCondition: withCondition))
            guard isSymbol(",") else { break }
            isTuple = true
        }
        if !isTuple {
            if let only = parts.first { return only }
            guard isParenthesized else {
                throw fault("Expected an expression, got '\(current.description)'")
            }
        }
        return try Expression(kind: .tuple(parts), offset: offset)
    }

    private func endsTuple(_ endName: String?) -> Bool {
        switch current.kind {
        case .variableEnd, .blockEnd: true
        case .symbol: current.string == ")"
        case .name: endName == current.string
        default: false
        }
    }

    private mutating func conditional() throws(TemplateError) -> Expression {
        let offset = current.offset
        let count = unknownCount
        var result = try or()
        while skipName("if") {
            let test = try or()
            let otherwise = skipName("else") ? try nestedConditional() : nil
            forgiveUnknown(since: count)
            result = try Expression(
                kind: .conditional(test: test, then: result, otherwise: otherwise), offset: offset)
        }
        return result
    }

    private mutating func nestedConditional() throws(TemplateError) -> Expression {
        try nested { parser throws(TemplateError) in try parser.conditional() }
    }

    private mutating func or() throws(TemplateError) -> Expression {
        let offset = current.offset
        var left = try and()
        while skipName("or") {
            left = try Expression(kind: .or(left, try and()), offset: offset)
        }
        return left
    }

    private mutating func and() throws(TemplateError) -> Expression {
        let offset = current.offset
        var left = try not()
        while skipName("and") {
            left = try Expression(kind: .and(left, try not()), offset: offset)
        }
        return left
    }

    private mutating func not() throws(TemplateError) -> Expression {
        let offset = current.offset
        if skipName("not") {
            let operand = try nested { parser throws(TemplateError) in try parser.not() }
            return try Expression(kind: .not(operand), offset: offset)
        }
        return try comparison()
    }

    private mutating func comparison() throws(TemplateError) -> Expression {
        let offset = current.offset
        let left = try sum()
        var parts: [(ComparisonOperator, Expression)] = []
        while true {
            if current.kind == .symbol, let kind = ComparisonOperator(rawValue: current.string) {
                advance()
                parts.append((kind, try sum()))
            } else if skipName("in") {
                parts.append((.in, try sum()))
            } else if isName("not"), following.kind == .name, following.string == "in" {
                advance()
                advance()
                parts.append((.notIn, try sum()))
            } else {
                break
            }
        }
        return parts.isEmpty ? left : try Expression(kind: .comparison(left, parts), offset: offset)
    }

    private mutating func sum() throws(TemplateError) -> Expression {
        let offset = current.offset
        var left = try concatenation()
        while isSymbol("+") || isSymbol("-") {
            let kind: BinaryOperator = isSymbol("+") ? .add : .subtract
            advance()
            left = try Expression(kind: .binary(kind, left, try concatenation()), offset: offset)
        }
        return left
    }

    private mutating func concatenation() throws(TemplateError) -> Expression {
        let offset = current.offset
        var parts = [try product()]
        while skipSymbol("~") { parts.append(try product()) }
        return parts.count == 1
            ? parts[0] : try Expression(kind: .concatenation(parts), offset: offset)
    }

    private mutating func product() throws(TemplateError) -> Expression {
        let offset = current.offset
        var left = try power()
        while current.kind == .symbol, ["*", "/", "//", "%"].contains(current.string),
            let kind = BinaryOperator(rawValue: current.string)
        {
            advance()
            left = try Expression(kind: .binary(kind, left, try power()), offset: offset)
        }
        return left
    }

    private mutating func power() throws(TemplateError) -> Expression {
        let offset = current.offset
        var left = try unary()
        while skipSymbol("**") {
            left = try Expression(kind: .binary(.power, left, try unary()), offset: offset)
        }
        return left
    }

    mutating func unary(withFilter: Bool = true) throws(TemplateError) -> Expression {
        let offset = current.offset
        var node: Expression
        if isSymbol("-") || isSymbol("+") {
            let kind: UnaryOperator = isSymbol("-") ? .minus : .plus
            advance()
            let operand = try nested { parser throws(TemplateError) in
                try parser.unary(withFilter: false)
            }
            node = try Expression(kind: .unary(kind, operand), offset: offset)
        } else {
            node = try primary()
        }
        node = try postfix(node)
        return withFilter ? try filterExpression(node) : node
    }

    private mutating func primary() throws(TemplateError) -> Expression {
        let token = current
        func make(_ kind: Expression.Kind) throws(TemplateError) -> Expression {
            try Expression(kind: kind, offset: token.offset)
        }
        switch token.kind {
        case .name:
            advance()
            switch token.string {
            case "true", "True": return try make(.constant(.bool(true)))
            case "false", "False": return try make(.constant(.bool(false)))
            case "none", "None": return try make(.constant(.none))
            case let name:
                noteUse(name)
                return try make(.name(name))
            }
        case .string:
            var text = token.text
            advance()
            while current.kind == .string {
                text += current.text
                advance()
            }
            return try make(.constant(.string(Text(text))))
        case .integer:
            advance()
            guard let value = PythonNumber.integer(ofLiteral: token.string) else {
                throw fault("the number \(token.string) is too long", at: token.offset)
            }
            return try make(.constant(value))
        case .float:
            advance()
            return try make(.constant(.float(Double(token.string) ?? .nan)))
        case .symbol where token.string == "(":
            advance()
            let inner = try tuple(isParenthesized: true)
            try expectSymbol(")")
            return inner
        case .symbol where token.string == "[": return try make(.list(try listItems()))
        case .symbol where token.string == "{": return try make(.dictionary(try dictionaryItems()))
        default:
            throw token.kind == .end
                ? fault("unexpected end of template")
                : fault("unexpected '\(token.description)'")
        }
    }

    private mutating func listItems() throws(TemplateError) -> [Expression] {
        advance()
        var items: [Expression] = []
        while !isSymbol("]") {
            if !items.isEmpty { try expectSymbol(",") }
            if isSymbol("]") { break }
            items.append(try expression())
        }
        try expectSymbol("]")
        return items
    }

    private mutating func dictionaryItems() throws(TemplateError) -> [(
        key: Expression, value: Expression
    )] {
        advance()
        var items: [(key: Expression, value: Expression)] = []
        while !isSymbol("}") {
            if !items.isEmpty { try expectSymbol(",") }
            if isSymbol("}") { break }
            let key = try expression()
            try expectSymbol(":")
            items.append((key, try expression()))
        }
        try expectSymbol("}")
        return items
    }

    private mutating func postfix(_ node: Expression) throws(TemplateError) -> Expression {
        var node = node
        while true {
            if isSymbol(".") || isSymbol("[") {
                node = try subscripted(node)
            } else if isSymbol("(") {
                node = try Expression(
                    kind: .call(node, try callArguments()), offset: node.offset)
            } else {
                return node
            }
        }
    }

    private mutating func filterExpression(
        _ node: Expression
    ) throws(TemplateError) -> Expression {
        var node = node
        while true {
            if isSymbol("|") {
                node = try filters(of: node)
            } else if isName("is") {
                node = try test(of: node)
            } else if isSymbol("(") {
                node = try Expression(kind: .call(node, try callArguments()), offset: node.offset)
            } else {
                return node
            }
        }
    }

    private mutating func subscripted(_ node: Expression) throws(TemplateError) -> Expression {
        let offset = current.offset
        if skipSymbol(".") {
            let token = current
            advance()
            switch token.kind {
            case .name: return try Expression(kind: .attribute(node, token.string), offset: offset)
            case .integer:
                let index = PythonNumber.integer(ofLiteral: token.string) ?? .int(0)
                return try Expression(
                    kind: .item(node, try Expression(kind: .constant(index), offset: token.offset)),
                    offset: offset)
            default: throw fault("expected name or number", at: token.offset)
            }
        }
        advance()
        var parts: [Expression] = []
        var slice: SliceBounds?
        while !isSymbol("]") {
            if !parts.isEmpty || slice != nil { try expectSymbol(",") }
            if let bounds = try sliceOrIndex(&parts) { slice = bounds }
        }
        try expectSymbol("]")
        if let slice {
            guard parts.isEmpty else { throw fault("a slice among several indices", at: offset) }
            return try Expression(kind: .slice(node, slice), offset: offset)
        }
        let argument =
            parts.count == 1 ? parts[0] : try Expression(kind: .tuple(parts), offset: offset)
        return try Expression(kind: .item(node, argument), offset: offset)
    }

    private mutating func sliceOrIndex(
        _ parts: inout [Expression]
    ) throws(TemplateError) -> SliceBounds? {
        var bounds = SliceBounds()
        if !isSymbol(":") {
            let first = try expression()
            guard isSymbol(":") else {
                parts.append(first)
                return nil
            }
            bounds.start = first
        }
        try expectSymbol(":")
        if !isSymbol(":"), !isSymbol("]"), !isSymbol(",") { bounds.stop = try expression() }
        if skipSymbol(":"), !isSymbol("]"), !isSymbol(",") { bounds.step = try expression() }
        return bounds
    }

    mutating func callArguments() throws(TemplateError) -> CallArguments {
        var arguments = CallArguments()
        try expectSymbol("(")
        var isFirst = true
        while !isSymbol(")") {
            if !isFirst {
                try expectSymbol(",")
                if isSymbol(")") { break }
            }
            isFirst = false
            if skipSymbol("*") {
                arguments.spread = try expression()
            } else if skipSymbol("**") {
                arguments.keywordSpread = try expression()
            } else if current.kind == .name, following.kind == .symbol, following.string == "=" {
                let name = current.string
                advance()
                advance()
                arguments.keyword.append((name, try expression()))
            } else {
                guard arguments.keyword.isEmpty else {
                    throw fault("invalid syntax for function call expression")
                }
                arguments.positional.append(try expression())
            }
        }
        try expectSymbol(")")
        return arguments
    }

    /// One or more filters; a filter of a block starts without `|`.
    mutating func filters(
        of node: Expression, startsInline: Bool = false
    ) throws(TemplateError) -> Expression {
        var node = node
        var inline = startsInline
        while inline || isSymbol("|") {
            if !inline { advance() }
            inline = false
            let offset = current.offset
            var name = try expectName()
            while skipSymbol(".") { name += "." + (try expectName()) }
            let arguments = isSymbol("(") ? try callArguments() : CallArguments()
            if !Filters.names.contains(name) { noteUnknown("filter", name, at: offset) }
            node = try Expression(kind: .filter(node, name, arguments), offset: offset)
        }
        return node
    }

    private mutating func test(of node: Expression) throws(TemplateError) -> Expression {
        advance()
        let offset = current.offset
        let negated = skipName("not")
        var name = try expectName()
        while skipSymbol(".") { name += "." + (try expectName()) }
        var arguments = CallArguments()
        if isSymbol("(") {
            arguments = try callArguments()
        } else if startsTestArgument() {
            if isName("is") { throw fault("You cannot chain multiple tests with is") }
            arguments.positional = [try postfix(try primary())]
        }
        if !ValueTests.names.contains(name) { noteUnknown("test", name, at: offset) }
        return try Expression(
            kind: .test(node, name, arguments, negated: negated), offset: offset)
    }

    private func startsTestArgument() -> Bool {
        switch current.kind {
        case .name: !["else", "or", "and"].contains(current.string)
        case .string, .integer, .float: true
        case .symbol: current.string == "[" || current.string == "{"
        default: false
        }
    }
}
