/// Writes a model of the llama architecture as the GGUF file that llama.cpp runs and `GGUFModel` reads.
///
/// The inverse of `GGUFModel`: names, the interleaved rows of q and k, and metadata. Vectors are float32, as llama.cpp wants them;
/// a tied head is left out, an untied one is `output.weight`.
/// Source: https://github.com/ggml-org/llama.cpp, `convert_hf_to_gguf.py` and `gguf-py/gguf/constants.py`.
public enum GGUFModelWriter {
    /// - Parameters:
    ///   - source: Tensors by their Hugging Face names.
    ///   - elementType: Of the matrices: `F32`, `F16` or `BF16`.
    ///   - tokenizerJSON: The whole `tokenizer.json`, where the tokenizer came as one; goes along as `tokenizer.huggingface.json`.
    ///   - name: What llama.cpp shows.
    /// - Returns: Bytes of the file.
    /// - Throws: `ModelFileError.unsupported` for a model that this architecture cannot say, by what it is.
    @discardableResult
    public static func write(
        _ source: any TensorSource, config: ModelConfig, tokenizer: GGUFTokenizerData,
        tokenizerJSON: [UInt8]?, name: String, elementType: ElementType, to path: String,
        progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
    ) throws -> Int {
        let rope = try check(config, path)
        guard tokenizer.tokens.count == config.vocabularySize else {
            throw ModelFileError(
                .shapeMismatch, file: path, item: "tokenizer.ggml.tokens",
                "\(tokenizer.tokens.count) tokens for \(config.vocabularySize) rows of the embedding"
            )
        }
        var tensors: [GGUFStreamWriter.Tensor] = []
        if let factors = frequencyFactors(rope) {
            tensors.append(
                .init(name: "rope_freqs.weight", shape: [factors.count], elementType: .float32) {
                    for (index, row) in $0.enumerated() { $1[index] = factors[row] }
                })
        }
        for expected in config.expectedTensors {
            tensors.append(try tensor(expected.name, source, config, elementType, path))
        }
        return try GGUFStreamWriter.write(
            metadata: metadata(config, rope, name: name, elementType)
                + tokenizerMetadata(tokenizer)
                + (tokenizerJSON.map { [(GGUFModel.tokenizerJSONKey, .string($0))] } ?? []),
            tensors: tensors, to: path, progress: progress)
    }

    // MARK: What can be said

    private static func check(_ config: ModelConfig, _ path: String) throws -> RopeConfig {
        func refuse(_ what: String) -> ModelFileError {
            ModelFileError(
                .unsupported, file: path, item: "general.architecture",
                "\(what) is not written as GGUF; export a Hugging Face folder and convert it with llama.cpp's "
                    + "convert_hf_to_gguf.py")
        }
        guard config.family == .llama else { throw refuse("a \(config.family.rawValue) model") }
        guard let first = config.layers.first, let rope = first.rope,
            config.layers.allSatisfy({ $0 == first }), first.slidingWindow == nil
        else { throw refuse("a model whose layers differ in their positions") }
        guard rope.rotaryDimension == config.headDimension, rope.attentionFactor == 1 else {
            throw refuse("a partial or scaled rotation")
        }
        switch rope.scaling {
        case .none, .linear, .llama3, .factors: return rope
        case .yarn: throw refuse("yarn scaling")
        case .longRope: throw refuse("longrope scaling")
        }
    }

    /// Llama 3.1's scaling goes as one divisor for each frequency.
    private static func frequencyFactors(_ rope: RopeConfig) -> [Float]? {
        switch rope.scaling {
        case .factors(let factors): return factors
        case .llama3:
            let plain = RopeConfig(theta: rope.theta, rotaryDimension: rope.rotaryDimension)
            return zip(plain.inverseFrequencies, rope.inverseFrequencies).map { $0 / $1 }
        default: return nil
        }
    }

    // MARK: Tensors

    private static let blocks: KeyValuePairs = [
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    ]

    /// The name in the file; nil where the architecture has no such tensor.
    static func name(_ name: String) -> String? {
        switch name {
        case "model.embed_tokens.weight": return "token_embd.weight"
        case "model.norm.weight": return "output_norm.weight"
        case "lm_head.weight": return "output.weight"
        default: break
        }
        let parts = name.split(separator: ".")
        guard parts.count >= 5, parts[0] == "model", parts[1] == "layers", let ending = parts.last
        else { return nil }
        let place = parts[3..<parts.count - 1].joined(separator: ".")
        return blocks.first { $0.key == place }.map { "blk.\(parts[2]).\($0.value).\(ending)" }
    }

    private static func tensor(
        _ name: String, _ source: any TensorSource, _ config: ModelConfig,
        _ elementType: ElementType, _ path: String
    ) throws -> GGUFStreamWriter.Tensor {
        let stored = try source.require(name)
        guard let target = self.name(name) else {
            throw ModelFileError(
                .unsupported, file: path, item: name, "has no place in the llama architecture")
        }
        var heads: Int?
        if name.contains("self_attn.q_proj.") { heads = config.headCount }
        if name.contains("self_attn.k_proj.") { heads = config.keyValueHeadCount }
        let headRows = heads.map { stored.rowCount / $0 }
        return .init(
            name: target, shape: stored.shape,
            elementType: stored.shape.count > 1 ? elementType : .float32
        ) { rows, output in
            guard let headRows else { return try source.readFloats(name, rows: rows, into: output) }
            let width = stored.rowElementCount
            for row in rows {
                // Row 2i + j of a head in the file is row j·(d/2) + i of the checkpoint.
                let inHead = row % headRows
                let from = row - inHead + inHead % 2 * (headRows / 2) + inHead / 2
                let first = (row - rows.lowerBound) * width
                try source.readFloats(
                    name, rows: from..<from + 1,
                    into: UnsafeMutableBufferPointer(rebasing: output[first..<first + width]))
            }
        }
    }

    // MARK: Metadata

    private typealias Entry = (key: String, value: GGUFStreamWriter.Value)

    private static func metadata(
        _ config: ModelConfig, _ rope: RopeConfig, name: String, _ type: ElementType
    ) -> [(key: String, value: GGUFStreamWriter.Value)] {
        func size(_ value: Int) -> GGUFStreamWriter.Value { .unsigned(UInt32(clamping: value)) }
        // llama.cpp's `llama_ftype`.
        let fileType = type == .float32 ? 0 : type == .float16 ? 1 : 32
        var entries: [Entry] = [
            ("general.architecture", .text("llama")), ("general.type", .text("model")),
            ("general.name", .text(name)), ("general.file_type", size(fileType)),
            ("llama.block_count", size(config.layerCount)),
            ("llama.context_length", size(config.maximumPositions)),
            ("llama.embedding_length", size(config.hiddenSize)),
            ("llama.feed_forward_length", size(config.intermediateSize)),
            ("llama.attention.head_count", size(config.headCount)),
            ("llama.attention.head_count_kv", size(config.keyValueHeadCount)),
            ("llama.attention.key_length", size(config.headDimension)),
            ("llama.attention.value_length", size(config.headDimension)),
            ("llama.attention.layer_norm_rms_epsilon", .number(Float(config.normEpsilon))),
            ("llama.rope.freq_base", .number(Float(rope.theta))),
            ("llama.rope.dimension_count", size(rope.rotaryDimension)),
            ("llama.vocab_size", size(config.vocabularySize)),
        ]
        if case .linear(let factor) = rope.scaling {
            entries += [
                ("llama.rope.scaling.type", .text("linear")),
                ("llama.rope.scaling.factor", .number(Float(factor))),
            ]
        }
        return entries
    }

    private static func tokenizerMetadata(
        _ data: GGUFTokenizerData
    ) -> [(key: String, value: GGUFStreamWriter.Value)] {
        var entries: [Entry] = [("tokenizer.ggml.model", .text(data.model))]
        if let name = data.preTokenizer { entries.append(("tokenizer.ggml.pre", .text(name))) }
        entries += [
            ("tokenizer.ggml.tokens", .strings(data.tokens)),
            ("tokenizer.ggml.token_type", .integers(data.kinds.map { Int32($0.rawValue) })),
        ]
        if let scores = data.scores { entries.append(("tokenizer.ggml.scores", .numbers(scores))) }
        if !data.merges.isEmpty {
            entries.append(("tokenizer.ggml.merges", .strings(data.merges)))
        }
        for (key, id) in [
            ("bos", data.beginning), ("eos", data.end), ("eot", data.endOfTurn),
            ("unknown", data.unknown), ("padding", data.padding),
        ] {
            guard let id else { continue }
            entries.append(("tokenizer.ggml.\(key)_token_id", .unsigned(UInt32(clamping: id))))
        }
        for (key, flag) in [
            ("add_bos_token", data.addsBeginning), ("add_eos_token", data.addsEnd),
            ("add_space_prefix", data.addsSpacePrefix),
        ] {
            if let flag { entries.append(("tokenizer.ggml.\(key)", .flag(flag))) }
        }
        if let template = data.chatTemplate {
            entries.append(("tokenizer.chat_template", .text(template)))
        }
        return entries
    }
}
