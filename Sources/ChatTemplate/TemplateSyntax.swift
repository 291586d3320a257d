/// An expression with its place in the source.
struct Expression {
    let kind: Kind
    let offset: Int

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
