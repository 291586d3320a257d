/// The functions that every template has, as transformers gives them.
enum Globals {
    /// As Jinja's sandbox: the longest range.
    private static let maximumRange = 100_000

    static var all: [(name: String, value: Value)] {
        [
            ("range", .callable(Callable("range", typeName: "type") { try range($0, $1) })),
            ("dict", .callable(Callable("dict", typeName: "TemplateDict") { try dict($0, $1) })),
            (
                "namespace",
                .callable(Callable("namespace", typeName: "type") { try namespace($0, $1) })
            ),
            ("raise_exception", .callable(Callable("raise_exception") { try raise($0, $1) })),
            ("strftime_now", .callable(Callable("strftime_now") { try strftime($0, $1) })),
            ("cycler", .callable(Callable("cycler", typeName: "type") { try cycler($0, $1) })),
            ("joiner", .callable(Callable("joiner", typeName: "type") { try joiner($0, $1) })),
            (
                "lipsum",
                .callable(
                    Callable("lipsum") { _, _ in
                        throw TemplateError("NotSupportedError", "lipsum is not supported")
                    })
            ),
        ]
    }

    private static func range(_ interpreter: Interpreter, _ arguments: Arguments) throws -> Value {
        let numbers = try arguments.positional.map { value -> Int in
            guard let index = try value.defined().index else {
                throw TemplateError(
                    "TypeError",
                    "'\(value.typeName)' object cannot be interpreted as an integer")
            }
            return index
        }
        guard (1...3).contains(numbers.count), arguments.keyword.isEmpty else {
            throw TemplateError("TypeError", "range expects 1 to 3 arguments")
        }
        let start = numbers.count == 1 ? 0 : numbers[0]
        let stop = numbers.count == 1 ? numbers[0] : numbers[1]
        let step = numbers.count == 3 ? numbers[2] : 1
        guard step != 0 else {
            throw TemplateError("ValueError", "range() arg 3 must not be zero")
        }
        let bound = 1 << 62
        guard numbers.allSatisfy({ abs($0 == .min ? .max : $0) < bound / 2 }),
            PythonRange.count(start, stop, step) <= maximumRange
        else {
            throw TemplateError(
                "OverflowError",
                "Range too big. The sandbox blocks ranges larger than MAX_RANGE (\(maximumRange)).")
        }
        return .range(start: start, stop: stop, step: step)
    }

    private static func members(
        _ interpreter: Interpreter, _ arguments: Arguments, _ name: String
    ) throws -> PythonDict {
        guard arguments.positional.count <= 1 else {
            throw TemplateError(
                "TypeError",
                "\(name) expected at most 1 argument, got \(arguments.positional.count)")
        }
        var result = PythonDict()
        switch arguments.positional.first {
        case nil: break
        case .dictionary(let other): result = PythonDict(other)
        case let value?:
            for item in try interpreter.meter.items(try value.defined()) {
                let pair = try interpreter.meter.items(item)
                guard pair.count == 2 else {
                    throw TemplateError(
                        "ValueError",
                        "dictionary update sequence element has length \(pair.count); "
                            + "2 is required")
                }
                result.set(try interpreter.hashed(pair[0]), pair[0], pair[1])
            }
        }
        for (name, value) in arguments.keyword {
            result.set(.text(Text(name)), .text(name), value)
        }
        return result
    }

    private static func dict(_ interpreter: Interpreter, _ arguments: Arguments) throws -> Value {
        .dictionary(try members(interpreter, arguments, "dict"))
    }

    private static func namespace(
        _ interpreter: Interpreter, _ arguments: Arguments
    ) throws -> Value {
        let namespace = Namespace()
        try interpreter.register(namespace)
        for (key, value) in try members(interpreter, arguments, "namespace").entries {
            guard case .string(let name) = key else { continue }
            try checkNamespaceName(name.string)
            namespace[name] = value
        }
        return .namespace(namespace)
    }

    static func checkNamespaceName(_ name: String) throws {
        guard !name.hasPrefix("_") else {
            throw TemplateError(
                "SecurityError",
                "Chat templates cannot store underscore-prefixed attributes on a namespace, but "
                    + "got '\(name)'. Please rename the attribute.")
        }
    }

    private static func raise(_ interpreter: Interpreter, _ arguments: Arguments) throws -> Value {
        let values = try arguments.bind("raise_exception", ["message"], required: 1)
        let message = String(
            decoding: PythonRepr.string(values[0] ?? .none), as: UTF8.self)
        throw TemplateError("TemplateError", message)
    }

    private static func strftime(
        _ interpreter: Interpreter, _ arguments: Arguments
    ) throws -> Value {
        let values = try arguments.bind("strftime_now", ["format"], required: 1)
        guard case .string(let format) = values[0] else {
            throw TemplateError(
                "TypeError",
                "strftime() argument 1 must be str, not \((values[0] ?? .none).typeName)")
        }
        return .text(interpreter.now.formatted(format.bytes))
    }

    private static func cycler(_ interpreter: Interpreter, _ arguments: Arguments) throws -> Value {
        let items = arguments.positional
        guard !items.isEmpty else {
            throw TemplateError("RuntimeError", "at least one item has to be provided")
        }
        final class State { var position = 0 }
        let state = State()
        return .callable(
            Callable(
                "cycler", typeName: "Cycler",
                attributes: [
                    "next": .callable(
                        Callable("next", typeName: "method") { _, _ in
                            defer { state.position = (state.position + 1) % items.count }
                            return items[state.position]
                        }),
                    "reset": .callable(
                        Callable("reset", typeName: "method") { _, _ in
                            state.position = 0
                            return .none
                        }),
                ], depth: ValueItems(items).depth
            ) { _, _ in throw TemplateError("TypeError", "'Cycler' object is not callable") })
    }

    private static func joiner(_ interpreter: Interpreter, _ arguments: Arguments) throws -> Value {
        let separator = try arguments.bind("joiner", ["sep"])[0] ?? .text(", ")
        final class State { var isUsed = false }
        let state = State()
        return .callable(
            Callable("joiner", typeName: "Joiner", depth: separator.depth + 1) { _, _ in
                defer { state.isUsed = true }
                return state.isUsed ? separator : .text("")
            })
    }
}
