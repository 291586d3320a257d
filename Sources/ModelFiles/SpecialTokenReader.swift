import JSONModel

/// Brings the token ids of `config.json` and `generation_config.json` together.
enum SpecialTokenReader {
    static func read(
        _ fields: inout ConfigFields, generation: JSONValue?
    ) throws -> SpecialTokenIDs {
        let beginning = try ids(fields.value("bos_token_id"), "bos_token_id", fields)
        let end = try ids(fields.value("eos_token_id"), "eos_token_id", fields)
        let padding = try ids(fields.value("pad_token_id"), "pad_token_id", fields)
        guard let generation else {
            return SpecialTokenIDs(beginning: beginning.first, end: end, padding: padding.first)
        }
        func other(_ key: String) throws -> [Int] {
            guard let value = generation[key], !value.isNull else { return [] }
            return try ids(value, "generation_config.json \(key)", fields)
        }
        let otherBeginning = try other("bos_token_id")
        let otherEnd = try other("eos_token_id")
        let otherPadding = try other("pad_token_id")
        var disagreements: [String] = []
        func compare(_ key: String, _ a: [Int], _ b: [Int]) {
            guard !a.isEmpty, !b.isEmpty, Set(a) != Set(b) else { return }
            disagreements.append("\(key): config.json says \(a), generation_config.json says \(b)")
        }
        compare("bos_token_id", beginning, otherBeginning)
        compare("eos_token_id", end, otherEnd)
        compare("pad_token_id", padding, otherPadding)
        // Generation settings come first: they are what the model's authors stop at.
        var all: [Int] = []
        for id in otherEnd + end where !all.contains(id) { all.append(id) }
        return SpecialTokenIDs(
            beginning: beginning.first ?? otherBeginning.first, end: all,
            padding: padding.first ?? otherPadding.first, disagreements: disagreements)
    }

    /// One id or a list of ids; -1 and null mean none.
    private static func ids(
        _ value: JSONValue?, _ key: String, _ fields: ConfigFields
    ) throws -> [Int] {
        guard let value else { return [] }
        let items = value.array ?? [value]
        return try items.compactMap { item in
            guard let id = item.integer, id >= -1, id < 1 << 31 else {
                throw fields.fault(key, "\(value.text()) is not a token id")
            }
            return id == -1 ? nil : id
        }
    }
}
