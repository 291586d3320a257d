import JSONModel

/// A component object of `tokenizer.json` (`{"type": …}`) with checked access to its options.
struct Component {
    enum Pattern {
        case literal(String)
        case expression(String)
    }

    let json: JSONValue
    /// Where it stands, for messages: "normalizer", "pre_tokenizer", …
    let place: String

    init(_ json: JSONValue, _ place: String) {
        self.json = json
        self.place = place
    }

    var type: String { json["type"]?.string ?? "" }

    func unknownType() -> TokenizerError {
        TokenizerError(
            .unsupported,
            type.isEmpty
                ? "\(place): a component without \"type\""
                : "\(place): the component \"\(type)\" is not supported")
    }

    func refused(_ what: String) -> TokenizerError {
        TokenizerError(.unsupported, "\(place) \(type): \(what) is not supported")
    }

    private func wrong(_ key: String, _ expected: String) -> TokenizerError {
        TokenizerError(
            .malformed,
            "\(place) \(type): \"\(key)\" is \(json[key]?.kindName ?? "missing"), not \(expected)")
    }

    func bool(_ key: String, default value: Bool? = nil) throws(TokenizerError) -> Bool {
        guard let found = json[key], !found.isNull else {
            if let value { return value }
            throw wrong(key, "a boolean")
        }
        guard let flag = found.bool else { throw wrong(key, "a boolean") }
        return flag
    }

    func integer(_ key: String, default value: Int? = nil) throws(TokenizerError) -> Int {
        guard let found = json[key], !found.isNull else {
            if let value { return value }
            throw wrong(key, "a whole number")
        }
        guard let number = found.integer else { throw wrong(key, "a whole number") }
        return number
    }

    func string(_ key: String, default value: String? = nil) throws(TokenizerError) -> String {
        guard let found = json[key], !found.isNull else {
            if let value { return value }
            throw wrong(key, "a string")
        }
        guard let text = found.string else { throw wrong(key, "a string") }
        return text
    }

    func optionalString(_ key: String) throws(TokenizerError) -> String? {
        guard let found = json[key], !found.isNull else { return nil }
        guard let text = found.string else { throw wrong(key, "a string or null") }
        return text
    }

    /// A string of exactly one character (one scalar).
    func character(_ key: String, default value: String) throws(TokenizerError) -> [UInt8] {
        let text = try string(key, default: value)
        guard text.unicodeScalars.count == 1 else { throw wrong(key, "one character") }
        return Array(text.utf8)
    }

    func array(_ key: String) throws(TokenizerError) -> [JSONValue] {
        guard let array = json[key]?.array else { throw wrong(key, "an array") }
        return array
    }

    /// `{"String": …}` or `{"Regex": …}` under "pattern".
    func pattern() throws(TokenizerError) -> Pattern {
        if let literal = json["pattern"]?["String"]?.string { return .literal(literal) }
        if let source = json["pattern"]?["Regex"]?.string { return .expression(source) }
        throw wrong("pattern", "{\"String\": …} or {\"Regex\": …}")
    }
}
