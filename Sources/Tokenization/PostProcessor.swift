import JSONModel

/// The special tokens put before and after a sequence.
///
/// `ByteLevel` changes only offsets, so nothing remains of it here.
struct PostProcessor: Sendable, Equatable {
    var before: [Int32] = []
    var after: [Int32] = []

    init(before: [Int32] = [], after: [Int32] = []) {
        self.before = before
        self.after = after
    }

    init(_ json: JSONValue) throws(TokenizerError) {
        let component = Component(json, "post_processor")
        switch component.type {
        case "ByteLevel": break
        case "Sequence":
            for part in try component.array("processors") {
                let inner = try PostProcessor(part)
                before = inner.before + before
                after += inner.after
            }
        case "TemplateProcessing": try readTemplate(component)
        case "BertProcessing", "RobertaProcessing":
            before = [try Self.pair(component, "cls")]
            after = [try Self.pair(component, "sep")]
        default: throw component.unknownType()
        }
    }

    private mutating func readTemplate(_ component: Component) throws(TokenizerError) {
        var seenSequence = false
        for item in try component.array("single") {
            if let sequence = item["Sequence"] {
                guard !seenSequence, sequence["id"]?.string == "A" else {
                    throw component.refused("a template that holds other than one sequence A")
                }
                seenSequence = true
            } else if let name = item["SpecialToken"]?["id"]?.string {
                guard let ids = component.json["special_tokens"]?[name]?["ids"]?.array else {
                    throw TokenizerError(
                        .malformed,
                        "post_processor TemplateProcessing: no special token '\(name)'")
                }
                for id in ids {
                    guard let id = id.integer, let id = Int32(exactly: id), id >= 0 else {
                        throw TokenizerError(
                            .malformed,
                            "post_processor TemplateProcessing: '\(name)' has a wrong id")
                    }
                    if seenSequence { after.append(id) } else { before.append(id) }
                }
            } else {
                throw component.refused("an item other than Sequence and SpecialToken")
            }
        }
        guard seenSequence else { throw component.refused("a template without the sequence A") }
    }

    private static func pair(
        _ component: Component, _ key: String
    ) throws(TokenizerError) -> Int32 {
        guard let id = component.json[key]?.array?.last?.integer, let id = Int32(exactly: id),
            id >= 0
        else {
            throw TokenizerError(
                .malformed, "post_processor \(component.type): \"\(key)\" is not [text, id]")
        }
        return id
    }
}
