import JSONModel

/// Reads the fields of `adapter_config.json` with checked types.
struct ConfigFields {
    let object: JSONObject

    init(_ object: JSONObject) { self.object = object }

    func refuseWhatMatters() throws(LoRAError) {
        let type = object["peft_type"]?.string
        guard type == "LORA" else {
            throw LoRAError(
                .unsupported, "is \(type ?? "missing"); only LORA adapters are supported",
                subject: "peft_type")
        }
        if let task = object["task_type"], task != .null, task.string != "CAUSAL_LM" {
            throw LoRAError(
                .unsupported, "is \(task.text()); only CAUSAL_LM is supported", subject: "task_type"
            )
        }
        for (key, value) in object.entries {
            if ConfigFieldList.honoured.contains(key) || ConfigFieldList.inert[key] != nil {
                continue
            }
            if Self.isUnset(value) { continue }
            let reason = ConfigFieldList.refused[key] ?? "this field is not understood"
            throw LoRAError(.unsupported, "is \(value.text().prefix(80)); \(reason)", subject: key)
        }
    }

    /// Null, false, zero-length: the field is present but off.
    static func isUnset(_ value: JSONValue) -> Bool {
        switch value {
        case .null, .bool(false): true
        case .array(let items): items.isEmpty
        case .object(let object): object.entries.isEmpty
        case .string(let text): text.isEmpty
        default: false
        }
    }

    func initialization() throws(LoRAError) -> LoRAConfig.Initialization {
        switch object["init_lora_weights"] {
        case nil, .bool(true): return .kaiming
        case .bool(false), .null: return .other
        case .string(let name):
            let lowered = name.lowercased()
            if lowered == "gaussian" { return .gaussian }
            if ["eva", "orthogonal", "mica"].contains(lowered) { return .other }
            throw LoRAError(
                .unsupported,
                "is \"\(name)\", which changes the base weights; convert the adapter with "
                    + "path_initial_model_for_weight_conversion of PEFT's save_pretrained",
                subject: "init_lora_weights")
        case .some(let value):
            throw LoRAError(.config, "is \(value.text())", subject: "init_lora_weights")
        }
    }

    func bias() throws(LoRAError) -> LoRAConfig.Bias {
        guard let value = object["bias"], value != .null else { return .none }
        guard let bias = value.string.flatMap(LoRAConfig.Bias.init(rawValue:)) else {
            throw LoRAError(
                .config, "is \(value.text().prefix(80)); there are none, all and lora_only",
                subject: "bias")
        }
        return bias
    }

    func integer(_ key: String) throws(LoRAError) -> Int {
        guard let value = object[key] else { throw LoRAError(.config, "missing", subject: key) }
        return try integer(value, key)
    }

    func integer(_ value: JSONValue, _ key: String) throws(LoRAError) -> Int {
        if case .bool = value {} else if let number = value.integer { return number }
        throw LoRAError(.config, "must be an integer, not \(value.text().prefix(80))", subject: key)
    }

    func number(_ key: String, default fallback: Double? = nil) throws(LoRAError) -> Double {
        guard let value = object[key], value != .null else {
            if let fallback { return fallback }
            throw LoRAError(.config, "missing", subject: key)
        }
        return try number(value, key)
    }

    func number(_ value: JSONValue, _ key: String) throws(LoRAError) -> Double {
        if case .bool = value {
        } else if let number = value.double, number.isFinite {
            return number
        }
        throw LoRAError(.config, "must be a number, not \(value.text().prefix(80))", subject: key)
    }

    func rank(_ key: String, _ value: Int) throws(LoRAError) -> Int {
        guard value >= 1, value <= LoRAConfig.maximumRank else {
            throw LoRAError(
                .config, "is \(value); a rank lies in 1…\(LoRAConfig.maximumRank)", subject: key)
        }
        return value
    }

    func scale(_ key: String, _ value: Double) throws(LoRAError) -> Double {
        guard value != 0, abs(value) <= 1e6 else {
            throw LoRAError(
                .config, "is \(value); it must be neither zero nor beyond a million", subject: key)
        }
        return value
    }

    func bool(_ key: String) throws(LoRAError) -> Bool {
        guard let value = object[key], value != .null else { return false }
        guard let flag = value.bool else {
            throw LoRAError(.config, "must be true or false", subject: key)
        }
        return flag
    }

    /// A string, a list of strings, or nothing.
    func strings(_ key: String) throws(LoRAError) -> [String] {
        switch object[key] {
        case nil, .null: return []
        case .string(let text): return text.isEmpty ? [] : [text]
        case .array(let items):
            var result: [String] = []
            for item in items {
                guard let text = item.string, !text.isEmpty else {
                    throw LoRAError(.config, "must hold non-empty strings", subject: key)
                }
                if !result.contains(where: { $0.utf8.elementsEqual(text.utf8) }) {
                    result.append(text)
                }
            }
            return result
        default: throw LoRAError(.config, "must be a list of strings", subject: key)
        }
    }

    func selection(_ key: String) throws(LoRAError) -> LoRAConfig.Selection? {
        switch object[key] {
        case nil, .null: return nil
        case .string(let text):
            if text.isEmpty { return nil }
            return text.lowercased() == "all-linear" ? .allLinear : .pattern(text)
        default:
            let names = try strings(key)
            return names.isEmpty && key != "target_modules" ? nil : .list(names)
        }
    }

    func patterns(_ key: String) throws(LoRAError) -> [(String, JSONValue)] {
        switch object[key] {
        case nil, .null: return []
        case .object(let object): return object.entries.map { ($0.key, $0.value) }
        default: throw LoRAError(.config, "must be an object", subject: key)
        }
    }

    func layers(_ key: String) throws(LoRAError) -> [Int]? {
        switch object[key] {
        case nil, .null: return nil
        case .array(let items):
            if items.isEmpty { return nil }
            var result: [Int] = []
            for item in items { result.append(try integer(item, key)) }
            return result
        case .some(let value): return [try integer(value, key)]
        }
    }
}
