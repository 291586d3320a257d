import JSONModel
import Kernels
import LinuxSystem
import LoRA
import ModelFiles
import Transformer

/// One reference case: a tiny model, adapters on it, and what transformers and PEFT compute.
struct VerificationCase {
    let folder: String
    let decoder: Decoder
    let compute: Compute
    let report: VerificationReport
    let expected: SafetensorsFile
    let tolerances: VerificationTolerances
    /// `[2, T]`
    let inputIDs: [[Int32]]

    init(
        folder: String, elementType: Kernels.ElementType, compute: Compute,
        report: VerificationReport
    ) throws {
        self.folder = folder
        self.compute = compute
        self.report = report
        let config = try ModelConfigReader.read(folder: folder + "/model")
        tolerances = .of(elementType, config.family)
        let checkpoint = try CheckpointSource.open(folder: folder + "/model", config: config)
        try TensorInventory.check(checkpoint, against: config)
        decoder = try Decoder(
            config: config, source: checkpoint, elementType: elementType, compute: compute)
        expected = try SafetensorsFile(path: folder + "/expected.safetensors")
        let shape = try expected.require("input_ids").shape
        guard shape.count == 2, shape[0] > 0, shape[1] > 1 else {
            throw ModelFileError(
                .shapeMismatch, file: expected.path, item: "input_ids", "has shape \(shape)")
        }
        inputIDs = try Self.rows(expected.integers("input_ids"), columns: shape[1])
    }

    static func rows(_ values: [Int64], columns: Int) -> [[Int32]] {
        stride(from: 0, to: values.count, by: columns).map { start in
            values[start..<start + columns].map { Int32(clamping: $0) }
        }
    }

    func run() throws {
        try checkForward("base", adapter: nil, logits: "logits")
        let variants = try FilePath.entries(of: folder + "/adapter").sorted()
        for variant in variants {
            let adapter = try AdapterFolder.read("\(folder)/adapter/\(variant)", for: decoder)
            let served = try decoder.serve(adapter, compute: compute)
            try checkForward(variant, adapter: served, logits: "logits." + variant)
        }
        try checkGradients()
        try checkTraining()
    }

    // MARK: Forward

    private func checkForward(
        _ variant: String, adapter: ServedAdapter?, logits name: String
    ) throws {
        let length = inputIDs[0].count
        let pass = try InferencePass(
            decoder: decoder, compute: compute, maximumRows: inputIDs.count * length,
            maximumLogitRows: inputIDs.count * length,
            maximumPositions: min(decoder.config.maximumPositions, length + 32),
            pageCount: inputIDs.count * PageAllocator.pages(forPositions: length + 32))
        var computed: [Float] = []
        var batch = RaggedBatch()
        var pages: [[Int32]] = []
        for ids in inputIDs {
            let own = try takePages(pass, positions: length)
            batch.append(tokens: ids, startPosition: 0, pages: own, adapter: adapter, logits: .all)
            pages.append(own)
        }
        try pass.run(batch)
        for span in inputIDs.indices {
            for row in 0..<length {
                try pass.logits.withFloats(row: pass.logitRow(span: span, row: row)) {
                    computed.append(contentsOf: $0)
                }
            }
        }
        for page in pages.joined() { pass.pages.release(page) }
        report.compare(
            "logits \(variant)", computed, try expected.floats(name), tolerance: tolerances.logits)
        try checkGreedy(variant, adapter, pass)
    }

    private func takePages(_ pass: InferencePass, positions: Int) throws -> [Int32] {
        try (0..<PageAllocator.pages(forPositions: positions)).map { _ in
            guard let page = pass.pages.allocate() else {
                throw TransformerError(.memory, "no free page of KV memory")
            }
            return page
        }
    }

    /// Greedy tokens after the first half of each row, one step at a time over the cache.
    private func checkGreedy(
        _ variant: String, _ adapter: ServedAdapter?, _ pass: InferencePass
    ) throws {
        let name = "greedy." + variant
        let shape = try expected.require(name).shape
        let count = shape[1]
        let half = inputIDs[0].count / 2
        let pages = try inputIDs.map { _ in try takePages(pass, positions: half + count) }
        // Whole sequences: where their length changes the rotation, all positions are computed anew.
        var tokens = inputIDs.map { Array($0[..<half]) }
        var generated = [[Int64]](repeating: [], count: inputIDs.count)
        var position = 0
        for _ in 0..<count {
            var batch = RaggedBatch()
            if decoder.config.rotationDiffers(position, tokens[0].count) { position = 0 }
            for row in inputIDs.indices {
                batch.append(
                    tokens: tokens[row][position...], startPosition: position, pages: pages[row],
                    adapter: adapter, logits: .last)
            }
            try pass.run(batch)
            position = tokens[0].count
            for row in inputIDs.indices {
                let best = try pass.logits.withFloats(row: pass.logitRow(span: row)) { logits in
                    logits.indices.reduce(0) { logits[$1] > logits[$0] ? $1 : $0 }
                }
                generated[row].append(Int64(best))
                tokens[row].append(Int32(best))
            }
        }
        for page in pages.joined() { pass.pages.release(page) }
        report.expectEqual(
            "greedy \(variant)", generated.flatMap { $0 }, try expected.integers(name),
            mustAgree: tolerances.exactTokens)
    }
}
