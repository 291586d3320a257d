import JSONModel

/// A GGUF file seen as a Hugging Face checkpoint: names, row order and configuration of the folder that it was made from.
///
/// llama.cpp keeps the rows of q and k so that the rotation joins adjacent rows; Hugging Face joins the two halves of
/// a head. Row `2·i + j` of a head in the file is row `j·(d/2) + i` here.
struct GGUFModel: TensorSource {
    let file: GGUFFile
    let config: ModelConfig
    /// A `config.json` that says the same, readable by transformers.
    let configJSON: JSONValue
    /// The type given out: `bfloat16`, or `float32` for unrounded weights.
    let elementType: ElementType
    let tensors: [TensorDescription]
    private let entries: [String: Entry]

    private struct Entry {
        var tensor: GGUFTensor
        var description: TensorDescription
        /// Heads whose rows are interleaved in the file; nil where the order is the same.
        var interleavedHeads: Int?
    }

    var path: String { file.path }

    init(file: GGUFFile, elementType: ElementType) throws {
        guard elementType == .bfloat16 || elementType == .float32 else {
            throw ModelFileError(
                .unsupported, file: file.path,
                "weights can be read as BF16 or F32, not \(elementType.rawValue)")
        }
        self.file = file
        self.elementType = elementType
        config = try GGUFConfigReader.read(file)
        configJSON = GGUFConfigReader.configJSON(config, elementType: elementType)
        var entries: [String: Entry] = [:]
        for tensor in file.tensors {
            guard let name = try Self.name(tensor.name, path: file.path) else { continue }
            guard tensor.shape.count > 1 || tensor.type.blockElements == 1 else {
                throw ModelFileError(
                    .unsupported, file: file.path, item: tensor.name,
                    "a quantized vector is not read")
            }
            var heads: Int?
            if name.contains("self_attn.q_proj.") { heads = config.headCount }
            if name.contains("self_attn.k_proj.") { heads = config.keyValueHeadCount }
            if let heads, tensor.shape.first != heads * config.headDimension {
                throw ModelFileError(
                    .shapeMismatch, file: file.path, item: tensor.name,
                    "has shape \(tensor.shape) for \(heads) heads of \(config.headDimension)")
            }
            let entry = Entry(
                tensor: tensor,
                description: TensorDescription(
                    name: name, elementType: elementType, shape: tensor.shape),
                interleavedHeads: heads)
            guard entries.updateValue(entry, forKey: name) == nil else {
                throw ModelFileError(
                    .duplicateTensor, file: file.path, item: tensor.name, "occurs twice as \(name)")
            }
        }
        self.entries = entries
        tensors = entries.values.map(\.description).sorted { bytewisePrecedes($0.name, $1.name) }
    }

    var generationConfigJSON: JSONValue {
        let special = config.specialTokens
        var members: [(key: String, value: JSONValue)] = []
        if let id = special.beginning { members.append(("bos_token_id", .integer(Int64(id)))) }
        if special.end.count == 1 {
            members.append(("eos_token_id", .integer(Int64(special.end[0]))))
        } else if !special.end.isEmpty {
            members.append(("eos_token_id", .array(special.end.map { .integer(Int64($0)) })))
        }
        if let id = special.padding { members.append(("pad_token_id", .integer(Int64(id)))) }
        return .object(JSONObject(members))
    }

    /// Where a file carries the `tokenizer.json` that its tokenizer came from.
    static let tokenizerJSONKey = "tokenizer.huggingface.json"

    /// The tokenizer itself: `tokenizer.json` where the file carries it, otherwise what llama.cpp's keys say.
    var tokenizerSource: TokenizerSource? {
        get throws {
            if let value = file.value(Self.tokenizerJSONKey) {
                guard let text = value.string else {
                    throw ModelFileError(
                        .malformed, file: path, item: Self.tokenizerJSONKey, "is no UTF-8 text")
                }
                return .tokenizerJSON(Array(text.utf8))
            }
            return try tokenizer.map(TokenizerSource.gguf)
        }
    }

    var tokenizer: GGUFTokenizerData? { get throws { try GGUFTokenizerData(file: file) } }

    /// A `tokenizer_config.json` with the special tokens and the template; nil without a tokenizer.
    var tokenizerConfigJSON: JSONValue? {
        get throws {
            guard let data = try tokenizer else { return nil }
            var members: [(key: String, value: JSONValue)] = [
                ("tokenizer_class", "PreTrainedTokenizerFast"),
                ("add_prefix_space", false), ("clean_up_tokenization_spaces", false),
                ("model_max_length", .integer(Int64(config.maximumPositions))),
            ]
            func token(_ key: String, _ id: Int?) {
                guard let id, let text = String(validating: data.tokens[id], as: UTF8.self) else {
                    return
                }
                members.append((key, .string(text)))
            }
            token("bos_token", data.beginning)
            token("eos_token", data.end)
            token("pad_token", data.padding)
            token("unk_token", data.unknown)
            if let flag = data.addsBeginning { members.append(("add_bos_token", .bool(flag))) }
            if let flag = data.addsEnd { members.append(("add_eos_token", .bool(flag))) }
            if let template = data.chatTemplate {
                members.append(("chat_template", .string(template)))
            }
            return .object(JSONObject(members))
        }
    }

    /// The Hugging Face name; nil for a tensor that is read into the configuration.
    private static func name(_ name: String, path: String) throws -> String? {
        switch name {
        case "token_embd.weight": return "model.embed_tokens.weight"
        case "output_norm.weight": return "model.norm.weight"
        case "output.weight": return "lm_head.weight"
        case "rope_freqs.weight": return nil
        default: break
        }
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4, parts[0] == "blk", let layer = Int(parts[1]), layer >= 0,
            let place = blockNames[String(parts[2])], parts[3] == "weight" || parts[3] == "bias"
        else {
            throw ModelFileError(
                .unknownTensor, file: path, item: name, "has no place in this architecture")
        }
        return "model.layers.\(layer).\(place).\(parts[3])"
    }

    private static let blockNames = [
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    ]

    func description(of name: String) -> TensorDescription? { entries[name]?.description }

    func readFloats(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<Float>
    ) throws {
        let entry = try find(name)
        try checkRows(entry.description, rows, capacity: output.count)
        try readUnrounded(entry, rows, output)
        if elementType == .bfloat16 {
            for i in output.indices {
                output[i] = FloatFormat.float(bfloat16: FloatFormat.bfloat16(output[i]))
            }
        }
    }

    func readBFloat16(
        _ name: String, rows: Range<Int>, into output: UnsafeMutableBufferPointer<UInt16>
    ) throws {
        let entry = try find(name)
        try checkRows(entry.description, rows, capacity: output.count)
        let width = entry.description.rowElementCount
        // A band of rows at a time, so that the float32 form stays small.
        let band = max(1, (1 << 16) / max(1, width))
        var values = [Float](repeating: 0, count: min(band, rows.count) * width)
        var row = rows.lowerBound
        while row < rows.upperBound {
            let part = row..<min(row + band, rows.upperBound)
            try values.withUnsafeMutableBufferPointer { buffer in
                let used = UnsafeMutableBufferPointer(rebasing: buffer[0..<part.count * width])
                try readUnrounded(entry, part, used)
                let start = (row - rows.lowerBound) * width
                for i in used.indices { output[start + i] = FloatFormat.bfloat16(used[i]) }
            }
            row = part.upperBound
        }
    }

    private func readUnrounded(
        _ entry: Entry, _ rows: Range<Int>, _ output: UnsafeMutableBufferPointer<Float>
    ) throws {
        let tensor = entry.tensor
        let width = entry.description.rowElementCount
        guard let heads = entry.interleavedHeads else {
            return try file.readFloats(tensor, rows: rows, into: output)
        }
        let headRows = tensor.shape[0] / heads
        let half = headRows / 2
        for row in rows {
            let inHead = row % headRows
            let stored = row - inHead + 2 * (inHead % half) + inHead / half
            let first = (row - rows.lowerBound) * width
            try file.readFloats(
                tensor, rows: stored..<stored + 1,
                into: UnsafeMutableBufferPointer(rebasing: output[first..<first + width]))
        }
    }

    func checkUnchanged() throws { try file.file.checkUnchanged() }

    private func find(_ name: String) throws -> Entry {
        guard let entry = entries[name] else {
            throw ModelFileError(.missingTensor, file: path, item: name, "no such tensor")
        }
        return entry
    }
}
