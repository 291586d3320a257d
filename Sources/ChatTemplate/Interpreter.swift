/// The names that are visible at a place, and where to look further.
final class Scope {
    let parent: Scope?
    private var variables: [String: Value] = [:]
    var isRegistered = false

    init(_ parent: Scope?) { self.parent = parent }

    func clear() { variables = [:] }

    subscript(name: String) -> Value? {
        get {
            var scope: Scope? = self
            while let current = scope {
                if let value = current.variables[name] { return value }
                scope = current.parent
            }
            return nil
        }
        set { variables[name] = newValue }
    }
}

/// Renders one template once, within its limits.
final class Interpreter {
    enum Flow { case normal, breakLoop, continueLoop }

    let meter: RenderMeter
    let now: LocalTime
    let globals: Scope
    private(set) var root: Scope
    /// The innermost buffer is last; the first one is the text itself.
    private var buffers: [[UInt8]] = [[]]
    /// UTF-8 ranges of the text inside of `{% generation %}`.
    private(set) var generationSpans: [Range<Int>] = []
    private(set) var autoescapes = false
    /// What may refer to itself: taken apart at the end, since no count of references would.
    private var namespaces: [Namespace] = []
    private var macroScopes: [Scope] = []
    private var loops: [LoopState] = []

    init(limits: TemplateLimits, now: LocalTime, variables: [(name: String, value: Value)]) {
        meter = RenderMeter(limits)
        self.now = now
        globals = Scope(nil)
        root = Scope(globals)
        for (name, value) in Globals.all { globals[name] = value }
        for (name, value) in variables { root[name] = value }
    }

    func render(_ statements: [Statement]) throws -> [UInt8] {
        defer { takeApart() }
        _ = try run(statements, root)
        return buffers[0]
    }

    // MARK: References

    func register(_ namespace: Namespace) throws {
        try account(128)
        namespaces.append(namespace)
    }

    private func register(_ scope: Scope) throws {
        guard !scope.isRegistered else { return }
        try account(256)
        scope.isRegistered = true
        macroScopes.append(scope)
    }

    private func takeApart() {
        for namespace in namespaces { namespace.attributes = [] }
        for scope in macroScopes { scope.clear() }
        for loop in loops { loop.clear() }
        namespaces = []
        macroScopes = []
        loops = []
    }

    // MARK: Limits

    func account(_ bytes: Int) throws { try meter.account(bytes) }

    func nested<Result>(_ offset: Int, _ body: () throws -> Result) throws -> Result {
        try meter.nested(offset, body)
    }

    // MARK: Output

    func write(_ bytes: some Collection<UInt8>) throws {
        try account(bytes.count)
        buffers[buffers.count - 1].append(contentsOf: bytes)
    }

    /// What `body` writes.
    func captured(_ body: () throws -> Void) throws -> [UInt8] {
        buffers.append([])
        var finished = false
        defer { if !finished { buffers.removeLast() } }
        try body()
        finished = true
        return buffers.removeLast()
    }

    /// Text as the output shows it: escaped where `autoescape` is on.
    func outputBytes(_ value: Value) throws -> [UInt8] {
        let extent = try meter.walk(value)
        guard autoescapes else { return PythonRepr.string(value) }
        try meter.room(extent.bytes, times: 6)
        return HTMLText.escape(value).bytes
    }

    // MARK: Statements

    func run(_ statements: [Statement], _ scope: Scope) throws -> Flow {
        for statement in statements {
            let flow = try nested(statement.offset) { try run(statement, scope) }
            if flow != .normal { return flow }
        }
        return .normal
    }

    private func run(_ statement: Statement, _ scope: Scope) throws -> Flow {
        switch statement.kind {
        case .text(let bytes): try write(bytes)
        case .output(let expression): try write(try outputBytes(try evaluate(expression, scope)))
        case .condition(let branches, let otherwise):
            for (test, body) in branches where try evaluate(test, scope).isTrue {
                return try run(body, scope)
            }
            return try run(otherwise, scope)
        case .loop(let loop):
            try self.loop(loop, over: try evaluate(loop.iterable, scope), scope, depth0: 0)
        case .set(let target, let expression):
            try assign(try evaluate(expression, scope), to: target, scope)
        case .setBlock(let target, let filter, let body):
            var flow = Flow.normal
            let text = try captured { flow = try run(body, Scope(scope)) }
            // A break or continue leaves the block before it is assigned.
            guard flow == .normal else { return flow }
            var value = Value.string(Text(text, isSafe: autoescapes))
            if let filter { value = try evaluateFilter(filter, of: value, scope) }
            try assign(value, to: target, scope)
        case .macro(let name, let signature, let body):
            try register(scope)
            scope[name] = .callable(macro(name, signature, body, scope))
        case .callBlock(let signature, let call, let body):
            let caller = Value.callable(macro("caller", signature, body, scope))
            guard case .call(let function, let arguments) = call.kind else { return .normal }
            var given = try evaluate(arguments, scope)
            given.keyword.append(("caller", caller))
            let result = try self.call(try evaluate(function, scope), given)
            try write(try outputBytes(result))
        case .filterBlock(let filter, let body):
            var flow = Flow.normal
            let text = try captured { flow = try run(body, Scope(scope)) }
            guard flow == .normal else { return flow }
            let value = try evaluateFilter(
                filter, of: .string(Text(text, isSafe: autoescapes)), scope)
            try write(try outputBytes(value))
        case .with(let assignments, let body):
            let inner = Scope(scope)
            for (target, expression) in assignments {
                try assign(try evaluate(expression, scope), to: target, inner)
            }
            return try run(body, inner)
        case .block(let body): _ = try run(body, Scope(root))
        case .autoescape(let flag, let body):
            let before = autoescapes
            autoescapes = try evaluate(flag, scope).isTrue
            defer { autoescapes = before }
            return try run(body, Scope(scope))
        case .generation(let body):
            let text = try captured { _ = try run(body, Scope(scope)) }
            let start = buffers[0].count
            generationSpans.append(start..<(start + text.count))
            try write(text)
        case .breakLoop: return .breakLoop
        case .continueLoop: return .continueLoop
        case .load:
            throw TemplateError("TypeError", "no loader for this environment specified")
        }
        return .normal
    }

    private func loop(_ loop: ForLoop, over iterable: Value, _ scope: Scope, depth0: Int) throws {
        let items = try meter.items(iterable)
        var position = 0
        let draw: () throws -> Value? = { [self] in
            while position < items.count {
                let item = items[position]
                position += 1
                guard let condition = loop.condition else { return item }
                let inner = Scope(scope)
                try assign(item, to: loop.target, inner)
                if try evaluate(condition, inner).isTrue { return item }
            }
            return nil
        }
        var recurse: ((Value, Int) throws -> Value)?
        if loop.isRecursive {
            recurse = { [self] value, depth in
                let text = try nested(loop.iterable.offset) {
                    try captured { try self.loop(loop, over: value, scope, depth0: depth) }
                }
                return .string(Text(text, isSafe: autoescapes))
            }
        }
        let state = LoopState(
            depth0: depth0, knownLength: loop.condition == nil ? items.count : nil,
            recurse: recurse, draw: draw)
        try account(256)
        loops.append(state)
        // As in Jinja, `else` runs unless some round came to its end (past `break` and `continue`).
        var isCompleted = false
        while let item = try state.next() {
            let inner = Scope(scope)
            inner["loop"] = .loop(state)
            try assign(item, to: loop.target, inner)
            let flow = try run(loop.body, inner)
            if flow == .breakLoop { break }
            if flow == .normal { isCompleted = true }
        }
        if !isCompleted { _ = try run(loop.otherwise, Scope(scope)) }
    }

    func assign(_ value: Value, to target: AssignmentTarget, _ scope: Scope) throws {
        switch target {
        case .name(let name): scope[name] = value
        case .attribute(let name, let attribute):
            guard case .namespace(let namespace) = scope[name] else {
                throw TemplateError(
                    "TemplateRuntimeError", "cannot assign attribute on non-namespace object")
            }
            try Globals.checkNamespaceName(attribute)
            namespace[Text(attribute)] = value
        case .tuple(let targets):
            if case .undefined = value { _ = try value.defined() }
            let items = try meter.items(value)
            guard items.count == targets.count else {
                throw TemplateError(
                    "ValueError",
                    items.count > targets.count
                        ? "too many values to unpack (expected \(targets.count))"
                        : "not enough values to unpack (expected \(targets.count), "
                            + "got \(items.count))")
            }
            for (target, item) in zip(targets, items) { try assign(item, to: target, scope) }
        }
    }

    // MARK: Macros

    private func macro(
        _ name: String, _ signature: MacroSignature, _ body: [Statement], _ scope: Scope
    ) -> Callable {
        let parameters = signature.parameters
        let attributes: [String: Value] = [
            "name": .text(name), "arguments": .tuple(ValueItems(parameters.map { .text($0) })),
            "catch_kwargs": .bool(signature.usesKwargs),
            "catch_varargs": .bool(signature.usesVarargs), "caller": .bool(signature.usesCaller),
        ]
        return Callable(name, typeName: "Macro", attributes: attributes) {
            interpreter, arguments in
            let inner = Scope(scope)
            try interpreter.bind(arguments, name, signature, inner)
            let text = try interpreter.nested(0) {
                try interpreter.captured { _ = try interpreter.run(body, inner) }
            }
            return .string(Text(text, isSafe: interpreter.autoescapes))
        }
    }

    private func bind(
        _ arguments: Arguments, _ name: String, _ signature: MacroSignature, _ scope: Scope
    ) throws {
        let parameters = signature.parameters
        var keyword = arguments.keyword
        let firstDefault = parameters.count - signature.defaults.count
        for (index, parameter) in parameters.enumerated() {
            if index < arguments.positional.count {
                scope[parameter] = arguments.positional[index]
            } else if let place = keyword.firstIndex(where: { $0.name == parameter }) {
                scope[parameter] = keyword.remove(at: place).value
            } else if index >= firstDefault {
                scope[parameter] = try evaluate(signature.defaults[index - firstDefault], scope)
            } else {
                scope[parameter] = .undefined(
                    Undefined("parameter '\(parameter)' was not provided"))
            }
        }
        if signature.usesCaller, !parameters.contains("caller") {
            let place = keyword.firstIndex { $0.name == "caller" }
            scope["caller"] =
                place.map { keyword.remove(at: $0).value }
                ?? .undefined(Undefined("No caller defined"))
        }
        if signature.usesKwargs {
            scope["kwargs"] = .dictionary(
                PythonDict(keyword.map { (key: Text($0.name), value: $0.value) }))
        } else if let first = keyword.first {
            throw TemplateError(
                "TypeError",
                first.name == "caller"
                    ? "macro '\(name)' was invoked with two values for the special caller "
                        + "argument. This is most likely a bug."
                    : "macro '\(name)' takes no keyword argument '\(first.name)'")
        }
        let extra = arguments.positional.dropFirst(parameters.count)
        if signature.usesVarargs {
            scope["varargs"] = .tuple(ValueItems(Array(extra)))
        } else if !extra.isEmpty {
            throw TemplateError(
                "TypeError",
                "macro '\(name)' takes not more than \(parameters.count) argument(s)")
        }
    }
}
