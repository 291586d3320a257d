import JSONModel

/// The questions and answers of `lora-worker tokenize --jsonl`: one JSON object a line, both ways.
///
/// - `{"text", "add_special_tokens"?}` → `{"ids"}`
/// - `{"ids", "skip_special_tokens"?}` → `{"text"}`
/// - `{"ids", "stream": true}` → `{"pieces"}`: one string an id and one for the final flush, special
///   tokens left out
///
/// Both flags are true if absent. What cannot be answered gives `{"error": {"code", "message"}}`.
public struct TokenizeCommand: Sendable {
    public let tokenizer: Tokenizer

    public init(tokenizer: Tokenizer) { self.tokenizer = tokenizer }

    /// The answer to one line, without a line break.
    public func answer(_ line: [UInt8]) -> [UInt8] {
        let result: JSONValue
        do {
            result = try answer(try question(line))
        } catch {
            result = [
                "error": ["code": .string(error.code.rawValue), "message": .string(error.message)]
            ]
        }
        return result.serialized()
    }

    private func question(_ line: [UInt8]) throws(TokenizerError) -> JSONValue {
        let value: JSONValue
        do {
            value = try JSONValue.parse(line)
        } catch {
            throw TokenizerError(.badRequest, "the line is no JSON: \(error)")
        }
        guard value.object != nil else {
            throw TokenizerError(.badRequest, "the line is \(value.kindName), not an object")
        }
        return value
    }

    private func answer(_ question: JSONValue) throws(TokenizerError) -> JSONValue {
        if let text = question["text"] {
            guard let text = text.string else {
                throw TokenizerError(.badRequest, "\"text\" is \(text.kindName), not a string")
            }
            let ids = try tokenizer.encode(
                text, addSpecialTokens: try flag(question, "add_special_tokens", default: true))
            return ["ids": .array(ids.map { .integer(Int64($0)) })]
        }
        guard let list = question["ids"]?.array else {
            throw TokenizerError(.badRequest, "there is neither \"text\" nor a list \"ids\"")
        }
        var ids: [Int32] = []
        for (place, value) in list.enumerated() {
            guard let number = value.integer, let id = Int32(exactly: number), id >= 0 else {
                throw TokenizerError(.badRequest, "\"ids\"[\(place)] is no token id")
            }
            ids.append(id)
        }
        if try flag(question, "stream", default: false) {
            var stream = StreamingDecoder(tokenizer)
            var pieces = ids.map { JSONValue.string(stream.push($0)) }
            pieces.append(.string(stream.finish()))
            return ["pieces": .array(pieces)]
        }
        let skips = try flag(question, "skip_special_tokens", default: true)
        return ["text": .string(tokenizer.decode(ids, skipSpecialTokens: skips))]
    }

    private func flag(
        _ question: JSONValue, _ key: String, default value: Bool
    ) throws(TokenizerError) -> Bool {
        guard let found = question[key], !found.isNull else { return value }
        guard let flag = found.bool else {
            throw TokenizerError(.badRequest, "\"\(key)\" is \(found.kindName), not a boolean")
        }
        return flag
    }
}
