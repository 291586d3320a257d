/// An expression with its place in the source.
struct Expression {
    let kind: Kind
    let offset: Int
    /// How deep expressions nest in it, from 1; chains such as `a + b + c` nest too.
    let depth: Int

    /// The deepest that an expression may nest: it is walked, and released, by recursion.
    static let maximumDepth = 400

    /// - Throws: `LimitError` at the offset if it nests too deep.
    init(kind: Kind, offset: Int) throws(TemplateError) {
        self.kind = kind
        self.offset = offset
        depth = 1 + kind.deepestPart
        guard depth <= Self.maximumDepth else {
            throw TemplateError(
                "LimitError",
                "an expression of more than \(Self.maximumDepth) operators within each other",
                at: offset)
        }
    }

    indirect enum Kind {
        case constant(Value)
        case name(String)
        case concatenation([Expression])
        case unary(UnaryOperator, Expression)
        case binary(BinaryOperator, Expression, Expression)
        case comparison(Expression, [(ComparisonOperator, Expression)])
        case and(Expression, Expression)
        case or(Expression, Expression)
        case not(Expression)
        case conditional(test: Expression, then: Expression, otherwise: Expression?)
        case list([Expression])
        case tuple([Expression])
        case dictionary([(key: Expression, value: Expression)])
        case attribute(Expression, String)
        case item(Expression, Expression)
        case slice(Expression, SliceBounds)
        case call(Expression, CallArguments)
        case filter(Expression, String, CallArguments)
        case test(Expression, String, CallArguments, negated: Bool)
        /// The text of the block that a filter of a block works on.
        case blockText
    }
}

extension Expression.Kind {
    fileprivate var deepestPart: Int {
        func deepest(_ parts: [Expression]) -> Int { parts.lazy.map(\.depth).max() ?? 0 }
        return switch self {
        case .constant, .name, .blockText: 0
        case .concatenation(let parts), .list(let parts), .tuple(let parts): deepest(parts)
        case .unary(_, let operand), .not(let operand), .attribute(let operand, _): operand.depth
        case .binary(_, let left, let right), .and(let left, let right), .or(let left, let right),
            .item(let left, let right):
            max(left.depth, right.depth)
        case .comparison(let first, let rest): max(first.depth, deepest(rest.map(\.1)))
        case .conditional(let test, let then, let otherwise):
            max(test.depth, then.depth, otherwise?.depth ?? 0)
        case .dictionary(let items): max(deepest(items.map(\.key)), deepest(items.map(\.value)))
        case .slice(let object, let bounds):
            max(object.depth, deepest([bounds.start, bounds.stop, bounds.step].compactMap { $0 }))
        case .call(let function, let arguments): max(function.depth, arguments.depth)
        case .filter(let operand, _, let arguments), .test(let operand, _, let arguments, _):
            max(operand.depth, arguments.depth)
        }
    }
}

struct SliceBounds {
    var start: Expression?
    var stop: Expression?
    var step: Expression?
}

struct CallArguments {
    var positional: [Expression] = []
    var keyword: [(name: String, value: Expression)] = []
    var spread: Expression?
    var keywordSpread: Expression?

    fileprivate var depth: Int {
        let all = positional + keyword.map(\.value) + [spread, keywordSpread].compactMap { $0 }
        return all.lazy.map(\.depth).max() ?? 0
    }
}

enum UnaryOperator { case minus, plus }
enum BinaryOperator: String {
    case add = "+"
    case subtract = "-"
    case multiply = "*"
    case divide = "/"
    case floorDivide = "//"
    case modulo = "%"
    case power = "**"
}
enum ComparisonOperator: String {
    case equal = "=="
    case notEqual = "!="
    case less = "<"
    case lessOrEqual = "<="
    case greater = ">"
    case greaterOrEqual = ">="
    case `in`
    case notIn = "not in"
}

/// What an assignment or a loop assigns to.
indirect enum AssignmentTarget {
    case name(String)
    case tuple([AssignmentTarget])
    case attribute(String, String)
}

/// A macro's parameters; the last ones have defaults.
struct MacroSignature {
    var parameters: [String] = []
    var defaults: [Expression] = []
    /// Whether the body speaks of `varargs`, `kwargs` and `caller`.
    var usesVarargs = false
    var usesKwargs = false
    var usesCaller = false
}

/// What a template is made of.
struct Statement {
    let kind: Kind
    let offset: Int

    indirect enum Kind {
        case text([UInt8])
        case output(Expression)
        case condition([(test: Expression, body: [Statement])], otherwise: [Statement])
        case loop(ForLoop)
        case set(AssignmentTarget, Expression)
        case setBlock(AssignmentTarget, filter: Expression?, body: [Statement])
        case macro(String, MacroSignature, [Statement])
        case callBlock(MacroSignature, Expression, [Statement])
        case filterBlock(Expression, [Statement])
        case with([(AssignmentTarget, Expression)], [Statement])
        case block([Statement])
        case autoescape(Expression, [Statement])
        case generation([Statement])
        case breakLoop
        case continueLoop
        /// `include`, `import`, `extends`: there is no loader.
        case load
    }
}

struct ForLoop {
    var target: AssignmentTarget
    var iterable: Expression
    var condition: Expression?
    var isRecursive: Bool
    var body: [Statement]
    var otherwise: [Statement]
}
