import JSONModel
import ModelFiles

/// Adapters in llama.cpp's form: one GGUF file with `general.type` `adapter` and `adapter.type` `lora`.
///
/// A module's matrices are `<tensor of the base>.lora_a` `[rank, in]` and `.lora_b` `[out, rank]`; of the token
/// embedding they are `[tokens, rank]` and `[width, rank]`. llama.cpp adds alpha/rank times their product with one
/// alpha for all, so rsLoRA is written as the alpha that gives the same scaling. In the llama architecture rows of q
/// and k are interleaved (see `GGUFModel`), so those of B are too.
/// Source: https://github.com/ggml-org/llama.cpp, `convert_lora_to_gguf.py` and `src/llama-adapter.cpp`.
public enum GGUFAdapter {
    /// What the file's names and row order depend on.
    public struct Layout: Sendable {
        public let architecture: String
        public let headCount: Int
        public let keyValueHeadCount: Int

        public init(architecture: String, headCount: Int, keyValueHeadCount: Int) {
            self.architecture = architecture
            self.headCount = headCount
            self.keyValueHeadCount = keyValueHeadCount
        }

        /// The layout of adapters of this base.
        ///
        /// - Throws: `LoRAError.unsupported` for an architecture whose names are not known.
        public init(_ config: ModelConfig) throws(LoRAError) {
            guard config.family == .llama else {
                throw LoRAError(
                    .unsupported,
                    "adapters of \(config.family.rawValue) models have no GGUF form here; llama's have",
                    subject: "general.architecture")
            }
            self.init(
                architecture: "llama", headCount: config.headCount,
                keyValueHeadCount: config.keyValueHeadCount)
        }

        /// Heads whose rows are interleaved in the file.
        func interleavedHeads(_ path: String) -> Int? {
            if path.hasSuffix(".self_attn.q_proj") { return headCount }
            if path.hasSuffix(".self_attn.k_proj") { return keyValueHeadCount }
            return nil
        }
    }

    private static let blocks: KeyValuePairs = [
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    ]

    /// The base tensor's name in GGUF, by the module's path.
    static func tensorName(_ path: String) -> String? {
        if path == "model.embed_tokens" { return "token_embd.weight" }
        if path == "lm_head" { return "output.weight" }
        let parts = path.split(separator: ".", maxSplits: 3).map(String.init)
        guard parts.count == 4, parts[0] == "model", parts[1] == "layers",
            let block = blocks.first(where: { $0.value == parts[3] })
        else { return nil }
        return "blk.\(parts[2]).\(block.key).weight"
    }
}

extension GGUFAdapter {
    /// The bytes of a file with this adapter, float32.
    ///
    /// - Throws: `LoRAError.unsupported` for what the form cannot say.
    public static func bytes(_ adapter: Adapter, layout: Layout) throws -> [UInt8] {
        func refuse(_ reason: String, _ subject: String) -> LoRAError {
            LoRAError(
                .unsupported, "\(reason), which the GGUF form cannot say; export a PEFT folder",
                subject: subject)
        }
        if let module = adapter.saved.first {
            throw refuse("\(module.module.path) is carried whole", "modules_to_save")
        }
        if let bias = adapter.biases.first {
            throw refuse("the bias of \(bias.plan.module.path) is trained", "bias")
        }
        guard let first = adapter.plans.first else {
            throw refuse("no module is adapted", "target_modules")
        }
        let alpha = first.scaling * Double(first.rank)
        var tensors: [GGUFWriter.Tensor] = []
        for module in adapter.modules {
            let plan = module.plan
            let path = plan.module.path
            if plan.usesDoRA { throw refuse("\(path) has magnitudes", "use_dora") }
            let effective = plan.scaling * Double(plan.rank)
            guard Float(effective) == Float(alpha) else {
                throw refuse(
                    "\(first.module.path) has scaling × rank \(alpha) and \(path) \(effective)",
                    "lora_alpha")
            }
            guard let name = tensorName(path) else { throw refuse("\(path) is adapted", path) }
            var a = GGUFWriter.Tensor(name: name + ".lora_a", shape: plan.aShape, values: module.a)
            if plan.module.kind == .embedding {
                a = GGUFWriter.Tensor(
                    name: a.name, shape: [plan.module.inputs, plan.rank],
                    values: transposed(module.a, rows: plan.rank))
            }
            tensors.append(a)
            let b = layout.interleavedHeads(path).map {
                reordered(module.b, rank: plan.rank, heads: $0, toFile: true)
            }
            tensors.append(
                GGUFWriter.Tensor(
                    name: name + ".lora_b", shape: plan.bShape, values: b ?? module.b))
        }
        return try GGUFWriter.bytes(
            metadata: [
                ("general.architecture", .string(layout.architecture)),
                ("general.type", .string("adapter")), ("adapter.type", .string("lora")),
                ("adapter.lora.alpha", .number(Float(alpha))),
            ], tensors: tensors)
    }

    static func transposed(_ values: [Float], rows: Int) -> [Float] {
        let columns = rows == 0 ? 0 : values.count / rows
        return (0..<values.count).map { values[$0 % rows * columns + $0 / rows] }
    }

    /// Rows of B of q or k between the file's order (row `2·i + j` of a head) and Hugging Face's (row `j·(d/2) + i`).
    static func reordered(_ b: [Float], rank: Int, heads: Int, toFile: Bool) -> [Float] {
        let rows = b.count / rank
        let headRows = rows / heads
        let half = headRows / 2
        var result = [Float](repeating: 0, count: b.count)
        for row in 0..<rows {
            let inHead = row % headRows
            let stored = row - inHead + 2 * (inHead % half) + inHead / half
            let (from, to) = toFile ? (row, stored) : (stored, row)
            for component in 0..<rank { result[to * rank + component] = b[from * rank + component] }
        }
        return result
    }
}

extension GGUFAdapter {
    /// Reads an adapter file and checks it whole against its base model, as a PEFT folder is checked.
    ///
    /// - Throws: `LoRAError`, naming tensor or key; `ModelFileError` for a damaged file.
    public static func read(
        _ path: String, for inventory: some ModuleInventory, layout: Layout
    ) throws -> Adapter {
        try read(GGUFFile(path: path), for: inventory, layout: layout)
    }

    static func read(
        _ file: GGUFFile, for inventory: some ModuleInventory, layout: Layout
    ) throws -> Adapter {
        try checkMetadata(file, layout)
        guard let alpha = file.value("adapter.lora.alpha")?.double, alpha.isFinite else {
            throw LoRAError(.config, "is missing or no number", subject: "adapter.lora.alpha")
        }
        var left = Set(file.tensors.map(\.name))
        var found: [(module: AdaptableModule, rank: Int, a: [Float], b: [Float])] = []
        for module in inventory.modules {
            guard let name = tensorName(module.path), let a = file.tensor(name + ".lora_a"),
                let b = file.tensor(name + ".lora_b")
            else { continue }
            left.subtract([a.name, b.name])
            found.append(try matrices(module, a, b, file, layout))
        }
        if let name = left.min() {
            throw LoRAError(
                .tensors, "has no place in the model, or its partner (lora_a, lora_b) is missing",
                subject: name)
        }
        guard let first = found.first else {
            throw LoRAError(.tensors, "the file holds no adapter matrix", subject: path(of: file))
        }
        // llama.cpp scales by alpha/rank, and by 1 where alpha is 0.
        var config = LoRAConfig(
            rank: first.rank, alpha: alpha == 0 ? Double(first.rank) : alpha,
            targets: .list(targets(found.map(\.module), inventory)))
        for (module, rank, _, _) in found where rank != first.rank {
            let pattern = module.path.split(separator: ".").joined(separator: "\\.")
            config.rankPattern.append(.init(pattern, rank))
            if alpha == 0 { config.alphaPattern.append(.init(pattern, Double(rank))) }
        }
        // Through the same checks as a folder: ranks, finite values, targets.
        let checked = try LoRAConfig(parsing: config.peftObject())
        let plan = try AdapterPlan(checked, for: inventory)
        guard plan.modules.map(\.module) == found.map(\.module),
            plan.modules.map(\.rank) == found.map(\.rank)
        else {
            throw LoRAError(.targets, "the file's modules cannot be named", subject: path(of: file))
        }
        return Adapter(
            config: checked,
            modules: zip(plan.modules, found).map { AdaptedModule(plan: $0, a: $1.a, b: $1.b) },
            saved: [])
    }

    private static func path(of file: GGUFFile) -> String { file.path }

    private static func checkMetadata(_ file: GGUFFile, _ layout: Layout) throws(LoRAError) {
        for (key, wanted) in [
            ("general.type", "adapter"), ("adapter.type", "lora"),
            ("general.architecture", layout.architecture),
        ] {
            let value = file.value(key)?.string
            guard value == wanted else {
                throw LoRAError(
                    .unsupported,
                    "is \(value ?? "missing"), an adapter of this base has \(wanted)", subject: key)
            }
        }
        if file.value("adapter.alora.invocation_tokens") != nil {
            throw LoRAError(
                .unsupported, "activated LoRA is not supported",
                subject: "adapter.alora.invocation_tokens")
        }
    }

    private static func matrices(
        _ module: AdaptableModule, _ aTensor: GGUFTensor, _ bTensor: GGUFTensor, _ file: GGUFFile,
        _ layout: Layout
    ) throws -> (module: AdaptableModule, rank: Int, a: [Float], b: [Float]) {
        let isEmbedding = module.kind == .embedding
        let rank = bTensor.shape.last ?? 0
        let aShape = isEmbedding ? [module.inputs, rank] : [rank, module.inputs]
        for (tensor, shape) in [(aTensor, aShape), (bTensor, [module.outputs, rank])] {
            guard tensor.shape == shape else {
                throw LoRAError(
                    .shape, "has shape \(tensor.shape), the model needs \(shape)",
                    subject: tensor.name)
            }
        }
        guard rank >= 1, rank <= LoRAConfig.maximumRank else {
            throw LoRAError(
                .shape, "rank \(rank) does not lie in 1…\(LoRAConfig.maximumRank)",
                subject: bTensor.name)
        }
        var a = try file.floats(aTensor)
        var b = try file.floats(bTensor)
        for (values, tensor) in [(a, aTensor), (b, bTensor)]
        where !values.allSatisfy(\.isFinite) {
            throw LoRAError(.nonFinite, "holds a value that is not finite", subject: tensor.name)
        }
        if isEmbedding { a = transposed(a, rows: module.inputs) }
        if let heads = layout.interleavedHeads(module.path) {
            guard module.outputs % (2 * heads) == 0 else {
                throw LoRAError(
                    .shape, "\(module.outputs) rows are not \(heads) heads of an even size",
                    subject: bTensor.name)
            }
            b = reordered(b, rank: rank, heads: heads, toFile: false)
        }
        return (module, rank, a, b)
    }

    /// Last names where all modules of that name are adapted, else whole paths.
    private static func targets(
        _ modules: [AdaptableModule], _ inventory: some ModuleInventory
    ) -> [String] {
        var result: [String] = []
        for module in modules {
            let name = String(module.name)
            let all = inventory.modules.filter { $0.name == module.name }
            let entry = all.allSatisfy(modules.contains) ? name : module.path
            if !result.contains(entry) { result.append(entry) }
        }
        return result
    }
}
