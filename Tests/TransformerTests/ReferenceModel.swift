import Kernels
import LoRA
import ModelFiles

@testable import Transformer

/// One of the tiny models under Fixtures, with what transformers and PEFT compute.
struct ReferenceModel {
    static let variants = [
        "plain", "rslora", "patterns", "some-layers", "dora", "embedding", "head-saved",
    ]

    let folder: String
    let decoder: Decoder
    let compute: Compute
    let expected: SafetensorsFile
    /// `[2, T]`
    let ids: [[Int32]]

    init(
        _ name: String, _ elementType: Kernels.ElementType = .float32, threads: Int = 2,
        instructionSet: InstructionSet? = nil
    ) throws {
        folder =
            #filePath.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" }
            + "/Fixtures/" + name
        compute = try Compute(
            pool: ThreadPool(threads: threads), instructionSet: instructionSet)
        let config = try ModelConfigReader.read(folder: folder + "/model")
        decoder = try Decoder(
            config: config,
            source: CheckpointSource.open(folder: folder + "/model", config: config),
            elementType: elementType, compute: compute)
        expected = try SafetensorsFile(path: folder + "/expected.safetensors")
        let flat = try expected.integers("input_ids").map { Int32($0) }
        ids = [Array(flat[..<(flat.count / 2)]), Array(flat[(flat.count / 2)...])]
    }

    var labels: [[Int32]] {
        get throws {
            let flat = try expected.integers("labels").map { Int32($0) }
            return [Array(flat[..<(flat.count / 2)]), Array(flat[(flat.count / 2)...])]
        }
    }

    func adapter(_ variant: String) throws -> Adapter {
        try AdapterFolder.read("\(folder)/adapter/\(variant)", for: decoder)
    }

    func served(_ variant: String) throws -> ServedAdapter {
        try decoder.serve(adapter(variant), compute: compute)
    }

    func pass(rows: Int = 256, pages: Int = 64, positions: Int = 256) throws -> InferencePass {
        try InferencePass(
            decoder: decoder, compute: compute, maximumRows: rows, maximumLogitRows: rows,
            maximumPositions: positions, pageCount: pages)
    }
}

extension InferencePass {
    /// New pages for so many positions.
    func take(positions: Int) throws -> [Int32] {
        try (0..<PageAllocator.pages(forPositions: positions)).map { _ in
            guard let page = pages.allocate() else {
                throw TransformerError(.memory, "no page")
            }
            return page
        }
    }

    /// The logits of one row.
    func row(span: Int, row: Int = 0) throws -> [Float] {
        try logits.withFloats(row: logitRow(span: span, row: row)) { Array($0) }
    }

    /// All logits of one sequence, alone, in chunks of the given sizes.
    func alone(_ ids: [Int32], _ adapter: ServedAdapter?, chunks: [Int]? = nil) throws -> [[Float]]
    {
        let own = try take(positions: ids.count)
        defer { for page in own { pages.release(page) } }
        var result: [[Float]] = []
        var position = 0
        for size in chunks ?? [ids.count] {
            var batch = RaggedBatch()
            batch.append(
                tokens: ids[position..<position + size], startPosition: position, pages: own,
                adapter: adapter, logits: .all)
            try run(batch)
            for index in 0..<size { result.append(try row(span: 0, row: index)) }
            position += size
        }
        return result
    }
}

/// max|a - b| / max|b|; NaN when there is one.
func relativeError(_ computed: [Float], _ expected: [Float]) -> Double {
    guard computed.count == expected.count else { return .infinity }
    var difference = 0.0
    var largest = 0.0
    for (a, b) in zip(computed, expected) {
        let distance = abs(Double(a) - Double(b))
        if distance.isNaN { return .nan }
        difference = max(difference, distance)
        largest = max(largest, abs(Double(b)))
    }
    return difference / largest
}
