import JSONModel

/// What differs from layer to layer: `sliding_window` with its switches, `layer_types`, `no_rope_layers`.
enum LayerConfigReader {
    static func read(
        _ fields: inout ConfigFields, family: ModelFamily, count: Int, rope: RopeConfig
    ) throws -> [LayerConfig] {
        switch family {
        case .llama, .granite, .olmo2, .gemma2, .gemma3, .gpt2:
            if try layerTypes(&fields, count: count)?.contains(true) == true {
                throw fields.fault(
                    "layer_types", "names sliding_attention, which \(family.rawValue) does not have"
                )
            }
            return Array(repeating: LayerConfig(rope: rope), count: count)
        case .mistral, .phi3:
            // transformers' default where the key is absent; null turns the window off.
            let absent = family == .mistral && !fields.has("sliding_window")
            let window = try fields.optionalSize("sliding_window", limit: 1 << 30)
            return Array(
                repeating: LayerConfig(rope: rope, slidingWindow: absent ? 4096 : window),
                count: count)
        case .qwen2, .qwen3:
            let first = try fields.optionalNumber("max_window_layers") ?? 28
            let windows = try switchedWindows(
                &fields, count: count, defaultSize: 4096, slides: { Double($0) >= first })
            try fields.expect("use_mrope", false)
            return windows.map { LayerConfig(rope: rope, slidingWindow: $0) }
        case .smollm3:
            let rotated = try rotatedLayers(&fields, count: count)
            let windows = try switchedWindows(
                &fields, count: count, defaultSize: nil, slides: { !rotated[$0] })
            // Qwen's field, which SmolLM3's files hold and its code does not read.
            fields.ignore(["max_window_layers"])
            return zip(windows, rotated).map {
                LayerConfig(rope: $1 ? rope : nil, slidingWindow: $0)
            }
        }
    }

    /// A window stands only where `use_sliding_window` is true and `sliding_window` is not null, in the layers that
    /// `layer_types` names or, without that list, in those that `slides` does.
    private static func switchedWindows(
        _ fields: inout ConfigFields, count: Int, defaultSize: Int?, slides: (Int) -> Bool
    ) throws -> [Int?] {
        let used = try fields.optionalFlag("use_sliding_window") ?? false
        let stated = try fields.optionalSize("sliding_window", limit: 1 << 30)
        let types = try layerTypes(&fields, count: count)
        guard used, let size = fields.has("sliding_window") ? stated : defaultSize else {
            if types?.contains(true) == true {
                throw fields.fault(
                    "layer_types",
                    "names sliding_attention, but use_sliding_window is not true or there is no "
                        + "sliding_window")
            }
            return Array(repeating: nil, count: count)
        }
        return (0..<count).map { types?[$0] ?? slides($0) ? size : nil }
    }

    /// Whether each layer slides; nil where the list is absent.
    static func layerTypes(
        _ fields: inout ConfigFields, count: Int
    ) throws -> [Bool]? {
        let names = try fields.strings("layer_types")
        if names.isEmpty { return nil }
        guard names.count == count else {
            throw fields.fault(
                "layer_types", "has \(names.count) entries for \(count) layers")
        }
        return try names.map { name in
            switch name {
            case "full_attention": return false
            case "sliding_attention": return true
            default:
                throw ModelFileError(
                    .unsupported, file: fields.path, item: "layer_types",
                    "\(name) is not supported; full_attention and sliding_attention are")
            }
        }
    }

    /// SmolLM3: 1 where a layer rotates, 0 where it does not; without the list every n-th layer does not.
    private static func rotatedLayers(
        _ fields: inout ConfigFields, count: Int
    ) throws -> [Bool] {
        let interval =
            try fields.optionalSize("no_rope_layer_interval", limit: 1 << 12) ?? 4
        guard let value = fields.value("no_rope_layers") else {
            return (0..<count).map { ($0 + 1) % interval != 0 }
        }
        let flags = (value.array ?? []).compactMap(\.integer).filter { $0 == 0 || $0 == 1 }
        guard flags.count == count, value.array?.count == count else {
            throw fields.fault("no_rope_layers", "must be \(count) numbers, each 0 or 1")
        }
        return flags.map { $0 == 1 }
    }
}
