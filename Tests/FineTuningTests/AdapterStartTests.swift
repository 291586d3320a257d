import Datasets
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

    /// A run of a dropout, a whole head and an embedding's update, stopped after any step and gone on with in a new
    /// process' objects, ends in the same bits; its checkpoints and its result load as adapters.
    @Test("KINDS 8: masks, whole matrices and embeddings resume to the bit")
    func resumeIsBitEqual() throws {
        let decoder = try decoder("llama-saved")
        let compute = try Compute(pool: ThreadPool(threads: 1))
        var recipe = try FineTuneRecipe([
            "r": 2, "target_modules": ["v_proj", "embed_tokens"], "modules_to_save": ["lm_head"],
            "lora_dropout": 0.3, "learning_rate": 0.01, "max_steps": 4, "seed": 9,
            "per_device_train_batch_size": 2,
        ])
        recipe.shuffle = true
        let rows = (0..<5).map { row in
            TrainingExample(
                line: row + 1, tokens: (0..<7).map { Int32(($0 * 11 + row * 17) % 96) },
                labelled: [2..<7])
        }
        func start() throws -> Adapter {
            try AdapterStart.make(
                recipe: recipe, startingAdapter: nil, decoder: decoder, baseModelName: "m"
            ).adapter
        }
        func run(_ folder: String, stopAfter last: Int?) throws -> TrainingStep {
            let adapter = try start()
            let model = try TrainingStep(
                decoder: decoder, adapter: adapter, compute: compute, maximumRows: 16,
                dropoutSeed: recipe.seed)
            let run = try FineTuneRun(
                model: model, recipe: recipe, training: rows,
                identity: RunIdentity(
                    base: "", recipe: "", data: "", start: "", numerics: "", threads: 1,
                    passTokens: 16), folder: folder, compute: compute,
                adapterConfig: adapter.config.peftObject().serialized(pretty: true))
            var steps = 0
            let ending = try run.run(
                FineTuneControl(
                    stopRequested: { last.map { steps >= $0 } == true ? .preempted : nil },
                    report: { if $0.phase == .training { steps += 1 } }))
            if let last { #expect(ending == .stopped(.preempted, step: last)) }
            return model
        }
        try withTemporaryFolder { folder in
            let whole = try run(folder + "/whole", stopAfter: nil)
            #expect(whole.parameters.values != (try start()).flatValues(whole))
            for last in 1...3 {
                _ = try run("\(folder)/\(last)", stopAfter: last)
                let checkpoint = "\(folder)/\(last)/checkpoints/step-0000000\(last)"
                let kept = try AdapterFolder.read(checkpoint, for: decoder)
                #expect(kept.saved.map(\.module.path) == ["lm_head"])
                let second = try run("\(folder)/\(last)", stopAfter: nil)
                #expect(second.parameters.values == whole.parameters.values)
            }
            try AdapterFolder.write(whole.adapter(), to: folder + "/adapter")
            let read = try AdapterFolder.read(folder + "/adapter", for: decoder)
            #expect(read.digest() == whole.adapter().digest())
            #expect(read.config.dropout == 0.3)
        }
    }
}

extension Adapter {
    /// Its numbers in the order of a step's flat buffer.
    fileprivate func flatValues(_ step: TrainingStep) -> [Float] {
        var values = [Float](repeating: 0, count: step.parameters.columns)
        for tensor in tensors {
            guard let place = step.tensors.first(where: { $0.name == tensor.name }) else {
                continue
            }
            values.replaceSubrange(place.range, with: tensor.values)
        }
        return values
    }
}
