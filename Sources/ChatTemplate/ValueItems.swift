/// The items of a list or tuple, with how deep values nest in them.
///
/// The depth is kept so that what is made step by step can be bounded when it is made: a value that
/// nests too deep could be neither printed nor released without running out of stack.
struct ValueItems: RandomAccessCollection, ExpressibleByArrayLiteral {
    let array: [Value]
    /// 1 for items that hold none themselves.
    let depth: Int

    init(_ array: [Value]) {
        self.array = array
        depth = 1 + (array.lazy.map(\.depth).max() ?? 0)
    }

    init(arrayLiteral elements: Value...) { self.init(elements) }

    var startIndex: Int { 0 }
    var endIndex: Int { array.count }
    subscript(index: Int) -> Value { array[index] }

    static func + (left: ValueItems, right: ValueItems) -> ValueItems {
        ValueItems(left.array + right.array)
    }
}

extension Value {
    /// How deep lists, tuples and dicts nest in the value, 0 for those that hold nothing.
    ///
    /// Namespaces, loops and macros count as 0: the interpreter takes them apart at its end.
    var depth: Int {
        switch self {
        case .list(let items), .tuple(let items): items.depth
        case .dictionary(let dictionary): dictionary.depth
        case .view(_, let dictionary): dictionary.depth + 1
        case .generator(let generator): generator.depth
        case .callable(let callable): callable.depth
        default: 0
        }
    }
}
