import Foundation
import JSONModel
import Kernels
import LoRA
import ModelFiles
import Testing
import Transformer

@testable import FineTuning

@Suite struct AdapterStartTests {
    static let families = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("TransformerTests/Fixtures/families")

    func decoder(_ family: String) throws -> Decoder {
        let folder = Self.families.appendingPathComponent(family + "/model").path
        let config = try ModelConfigReader.read(folder: folder)
        return try Decoder(
            config: config, source: CheckpointSource.open(folder: folder, config: config),
            elementType: .float32, compute: Compute(pool: ThreadPool(threads: 1)))
    }

    /// A name that both blocks have is told apart; what GPT-2's config must say is said.
    @Test(
        arguments: [
            ("gpt2", "attention", ["c_attn", "attn.c_proj"], 4),
            ("gpt2", "mlp", ["c_fc", "mlp.c_proj"], 4),
            ("gpt2", "all-linear", ["c_attn", "c_proj", "c_fc"], 8),
            ("llama-bias", "attention", ["q_proj", "k_proj", "v_proj", "o_proj"], 8),
            ("llama-bias", "mlp", ["gate_proj", "up_proj", "down_proj"], 6),
        ])
    func presetsAreNames(
        family: String, preset: String, expected: [String], matrices: Int
    ) throws {
        let decoder = try decoder(family)
        let config = try AdapterStart.config(
            ["target_modules": .string(preset)], decoder: decoder)
        #expect(config.targets == .list(expected))
        #expect(config.fanInFanOut == (family == "gpt2"))
        #expect(try AdapterPlan(config, for: decoder).modules.count == matrices)
        let written = config.peftObject()
        #expect(written["fan_in_fan_out"]?.bool == (family == "gpt2"))
    }
}
