import Foundation
import JSONModel
import ModelFiles
import Testing

@testable import LoRA

@Suite struct GGUFAdapterTests {
    let layout = GGUFAdapter.Layout(architecture: "llama", headCount: 2, keyValueHeadCount: 1)

    func adapter(_ change: (inout LoRAConfig) -> Void = { _ in }) throws -> Adapter {
        var config = LoRAConfig(
            rank: 2, alpha: 6, targets: .list(["embed_tokens", "q_proj", "k_proj", "down_proj"]))
        change(&config)
        let plan = try AdapterPlan(config, for: TestModel())
        var counter: Float = 0
        func values(_ shape: [Int]) -> [Float] {
            (0..<shape.reduce(1, *)).map { _ in
                counter += 1
                return counter / 8
            }
        }
        return Adapter(
            config: config,
            modules: plan.modules.map {
                AdaptedModule(
                    plan: $0, a: values($0.aShape), b: values($0.bShape),
                    magnitude: $0.usesDoRA ? values([$0.module.outputs]) : nil)
            },
            saved: plan.saved.map {
                SavedModule(module: $0, weights: values([$0.outputs, $0.inputs]))
            })
    }

    func withFile<Result>(_ bytes: [UInt8], _ body: (String) throws -> Result) throws -> Result {
        let path = NSTemporaryDirectory() + "loraq-lora-\(UUID().uuidString).gguf"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        return try body(path)
    }

    @Test("KINDS 11: what is written reads back with the same scaling, ranks and values")
    func readsItsOwnWriting() throws {
        let changes: [(inout LoRAConfig) -> Void] = [
            { _ in },
            { $0.usesRankStabilizedScaling = true },
            { $0.rankPattern = [.init("q_proj", 3)] },
            { $0.targets = .list(["model.layers.1.mlp.up_proj", "lm_head"]) },
        ]
        for change in changes {
            let original = try adapter(change)
            let read = try withFile(GGUFAdapter.bytes(original, layout: layout)) {
                try GGUFAdapter.read($0, for: TestModel(), layout: layout)
            }
            #expect(read.modules.map(\.a) == original.modules.map(\.a))
            #expect(read.modules.map(\.b) == original.modules.map(\.b))
            #expect(read.plans.map(\.module) == original.plans.map(\.module))
            for (a, b) in zip(read.plans, original.plans) {
                #expect(abs(a.scaling - b.scaling) <= 1e-6 * abs(b.scaling))
            }
        }
    }

    @Test("KINDS 10: what the GGUF form cannot say is refused")
    func whatCannotBeSaid() throws {
        func subject(_ change: (inout LoRAConfig) -> Void) throws -> String? {
            let adapter = try adapter(change)
            return #expect(throws: LoRAError.self) {
                try GGUFAdapter.bytes(adapter, layout: layout)
            }?.subject
        }
        #expect(try subject { $0.alphaPattern = [.init("q_proj", 5)] } == "lora_alpha")
        #expect(try subject { $0.savedModules = ["lm_head"] } == "modules_to_save")
        #expect(
            try subject {
                $0.targets = .list(["q_proj"])
                $0.usesDoRA = true
            } == "use_dora")
        // Different ranks of rsLoRA have different alphas.
        #expect(
            try subject {
                $0.usesRankStabilizedScaling = true
                $0.rankPattern = [.init("q_proj", 3)]
            } == "lora_alpha")
    }

    @Test("KINDS 10: a tensor without place or partner is refused")
    func everyTensorHasItsPlace() throws {
        func refused(_ tensors: [GGUFWriter.Tensor]) throws -> LoRAError? {
            let bytes = try GGUFWriter.bytes(
                metadata: [
                    ("general.architecture", .string("llama")),
                    ("general.type", .string("adapter")), ("adapter.type", .string("lora")),
                    ("adapter.lora.alpha", .number(4)),
                ], tensors: tensors)
            return try withFile(bytes) { path in
                #expect(throws: LoRAError.self) {
                    try GGUFAdapter.read(path, for: TestModel(), layout: layout)
                }
            }
        }
        func tensor(_ name: String, _ shape: [Int], _ value: Float = 1) -> GGUFWriter.Tensor {
            .init(
                name: name, shape: shape,
                values: [Float](repeating: value, count: shape.reduce(1, *)))
        }
        let q = "blk.0.attn_q.weight"
        #expect(try refused([tensor(q + ".lora_a", [2, 8])])?.subject == q + ".lora_a")
        let pair = [tensor(q + ".lora_a", [2, 8]), tensor(q + ".lora_b", [8, 2])]
        #expect(try refused(pair + [tensor("blk.0.attn_norm.weight", [8])])?.code == .tensors)
        #expect(try refused([pair[0], tensor(q + ".lora_b", [8, 3])])?.code == .shape)
        #expect(try refused([pair[0], tensor(q + ".lora_b", [8, 2], .nan)])?.code == .nonFinite)
    }
}
