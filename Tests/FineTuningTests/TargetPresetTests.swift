import LoRA
import Testing

@testable import FineTuning

@Suite struct TargetPresetTests {
    /// Modules by path alone.
    private struct Model: ModuleInventory {
        let paths: [(String, AdaptableModule.Kind)]
        var hasTiedHead = false
        var modules: [AdaptableModule] {
            paths.map { AdaptableModule(path: $0.0, kind: $0.1, outputs: 4, inputs: 4) }
        }
        func baseWeights(of path: String) throws -> [Float] { [] }
    }

    private let llama = Model(
        paths: [("model.embed_tokens", .embedding)]
            + (0..<2).flatMap { layer in
                [
                    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
                ].map { ("model.layers.\(layer).\($0)", AdaptableModule.Kind.linear) }
                    + [("model.layers.\(layer).self_attn.q_norm", .other)]
            } + [("lm_head", .head)])

    @Test func presetsNameTheModulesOfALlama() {
        func entries(_ preset: TargetPreset) -> [String] { preset.entries(for: llama) }
        #expect(entries(.attention) == ["q_proj", "k_proj", "v_proj", "o_proj"])
        #expect(entries(.qkv) == ["q_proj", "k_proj", "v_proj"])
        #expect(entries(.mlp) == ["gate_proj", "up_proj", "down_proj"])
        #expect(entries(.allLinear) == entries(.attention) + entries(.mlp))
        #expect(entries(.embeddings) == ["embed_tokens", "lm_head"])
        #expect(entries(.all) == ["embed_tokens"] + entries(.allLinear) + ["lm_head"])
        var tied = llama
        tied.hasTiedHead = true
        #expect(TargetPreset.embeddings.entries(for: tied) == ["embed_tokens"])
    }

    /// Where attention and feed-forward share a name, the part before it tells them apart.
    @Test func sharedNamesAreToldApart() throws {
        let model = Model(
            paths: ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"].map {
                ("transformer.h.0.\($0)", .linear)
            })
        #expect(TargetPreset.attention.entries(for: model) == ["c_attn", "attn.c_proj"])
        #expect(TargetPreset.qkv.entries(for: model) == ["c_attn"])
        #expect(TargetPreset.mlp.entries(for: model) == ["c_fc", "mlp.c_proj"])
        #expect(TargetPreset.allLinear.entries(for: model) == ["c_attn", "c_proj", "c_fc"])
    }

    /// Each preset, as a list, selects what it stands for and nothing else.
    @Test(arguments: TargetPreset.allCases)
    func aListSelectsWhatThePresetDoes(_ preset: TargetPreset) throws {
        let config = LoRAConfig(rank: 2, alpha: 4, targets: .list(preset.entries(for: llama)))
        let paths = try AdapterPlan(config, for: llama).modules.map(\.module.path)
        let perLayer =
            switch preset {
            case .attention: 4
            case .qkv, .mlp: 3
            case .allLinear, .all: 7
            case .embeddings: 0
            }
        let ends = preset == .all || preset == .embeddings ? 2 : 0
        #expect(paths.count == 2 * perLayer + ends)
    }
}
