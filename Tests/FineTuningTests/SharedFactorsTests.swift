import Datasets
import Foundation
import JSONModel
import Kernels
import LoRA
import ModelFiles
import Testing
import Transformer

@testable import FineTuning

/// `share_b` and LoRA+ beside PEFT (`Tests/Fixtures/FineTuning/make_shared.py`).
@Suite struct SharedFactorsTests {
    static let reference = Result {
        try JSONValue.parse(
            Array(
                Data(
                    contentsOf: URL(fileURLWithPath: #filePath).deletingLastPathComponent()
                        .deletingLastPathComponent()
                        .appendingPathComponent("Fixtures/FineTuning/shared.json"))))
    }

    static func floats(_ value: JSONValue?) -> [Float] {
        (value?.array ?? []).compactMap(\.double).map { Float($0) }
    }

    /// The adapter that a case starts from.
    func adapter(_ reference: JSONValue, _ decoder: Decoder) throws -> Adapter {
        let config = LoRAConfig(rank: 2, alpha: 4, targets: .list(["q_proj", "k_proj", "v_proj"]))
        var adapter = try Adapter(new: config, for: decoder, seed: 0)
        for index in adapter.modules.indices {
            let name = adapter.modules[index].plan.aName
            let values = Self.floats(reference["start"]?[name])
            #expect(values.count == adapter.modules[index].a.count)
            adapter.modules[index].a = values
        }
        return adapter
    }

    @Test(arguments: [0, 1, 2])
    func stepsEqualPEFT(index: Int) throws {
        let document = try Self.reference.get()
        let reference = try #require(document["cases"]?.array?[index])
        let decoder = try AdapterStartTests().decoder("llama-bias")
        var recipe = FineTuneRecipe()
        recipe.learningRate = document["rate"]?.double
        recipe.scheduler = .constant
        recipe.maximumSteps = document["steps"]?.integer
        recipe.batchSize = 4
        recipe.shuffle = false
        recipe.maximumGradientNorm = document["clip"]?.double ?? 0
        recipe.loraPlusRatio = reference["ratio"]?.double
        recipe.sharesB = reference["share"]?.bool ?? false
        let rows = (reference["rows"]?.array ?? []).enumerated().map { line, row in
            let tokens = (row.array ?? []).compactMap(\.integer).map { Int32($0) }
            return TrainingExample(line: line + 1, tokens: tokens, labelled: [0..<tokens.count])
        }
        let compute = try Compute(pool: ThreadPool(threads: 1))
        let model = try TrainingStep(
            decoder: decoder, adapter: adapter(reference, decoder), compute: compute,
            maximumRows: 64)
        let shared =
            recipe.sharesB
            ? try SharedFactors(model.adapter().modules, tensors: model.trainedTensors) : nil
        try withTemporaryFolder { folder in
            let run = try FineTuneRun(
                model: model, recipe: recipe, training: rows,
                identity: RunIdentity(
                    base: "b", recipe: "r", data: "d", start: "s", numerics: "n", threads: 1,
                    passTokens: 64), folder: folder, compute: compute, shared: shared)
            guard case .finished(let summary) = try run.run() else {
                Issue.record("not finished")
                return
            }
            #expect(summary.trainableParameters == reference["parameters"]?.integer)
            let bytes = try Data(contentsOf: URL(fileURLWithPath: folder + "/metrics.jsonl"))
            let lines = try Array(bytes).split(separator: 10).map { try JSONLine(Array($0)) }
            let losses = Self.floats(reference["losses"])
            let norms = Self.floats(reference["norms"])
            #expect(lines.count == losses.count)
            for (line, (loss, norm)) in zip(lines, zip(losses, norms)) {
                #expect(abs((line.loss ?? .nan) - Double(loss)) <= 2e-4)
                #expect(abs((line.norm ?? .nan) - Double(norm)) <= 2e-3 * Double(norm))
            }
        }
        for module in model.adapter().modules {
            let parts = module.plan.module.path.split(separator: ".")
            let key = parts[2] + "." + parts[parts.count - 1]
            let expected = Self.floats(reference["b"]?[String(key)])
            #expect(expected.count == module.b.count)
            // Adam's first steps are ±rate whatever the gradient: where it is next to nothing, its sign is chance.
            let near = zip(module.b, expected).count { abs($0 - $1) <= 2e-3 }
            #expect(near >= expected.count * 95 / 100, "\(key)")
        }
        if recipe.sharesB {
            let modules = model.adapter().modules
            for layer in 0..<2 {
                let pair = modules.filter {
                    $0.plan.module.path.contains("layers.\(layer).")
                        && $0.plan.module.name != "q_proj"
                }
                #expect(pair.count == 2 && pair[0].b == pair[1].b && pair[0].a != pair[1].a)
                #expect(pair[0].b.contains { $0 != 0 })
            }
        }
    }

    @Test func whatCannotShareIsRefused() throws {
        let decoder = try AdapterStartTests().decoder("llama-bias")
        func shared(_ targets: [String], _ change: (inout Adapter) -> Void = { _ in }) throws {
            var adapter = try Adapter(
                new: LoRAConfig(rank: 2, alpha: 4, targets: .list(targets)), for: decoder, seed: 0)
            change(&adapter)
            let step = try TrainingStep(
                decoder: decoder, adapter: adapter, compute: Compute(pool: ThreadPool(threads: 1)),
                maximumRows: 8)
            _ = try SharedFactors(adapter.modules, tensors: step.trainedTensors)
        }
        try shared(["k_proj", "v_proj"])
        for targets in [["q_proj", "k_proj"], ["v_proj", "o_proj"], ["down_proj"]] {
            let error = #expect(throws: FineTuneError.self) { try shared(targets) }
            #expect(error?.field == "share_b" && error?.message.contains("q_proj") == true)
        }
        let error = #expect(throws: FineTuneError.self) {
            try shared(["k_proj", "v_proj"]) { $0.modules[0].b[0] = 1 }
        }
        #expect(error?.message.contains("without share_b") == true)
    }

    /// PEFT 0.21's `create_loraplus_optimizer` on q_proj with DoRA and bias `lora_only`, down_proj and the embedding.
    @Test func groupsEqualPEFT() {
        let prefix = "base_model.model.model."
        func tensor(_ name: String, _ shape: [Int], at start: Int) -> TrainedTensor {
            TrainedTensor(
                name: prefix + name, shape: shape, range: start..<start + shape.reduce(1, *))
        }
        let groups = ParameterGroups([
            tensor("layers.0.mlp.down_proj.lora_B.weight", [8, 2], at: 16),
            tensor("layers.0.mlp.down_proj.lora_A.weight", [2, 8], at: 0),
            tensor("layers.0.self_attn.q_proj.lora_magnitude_vector", [8], at: 32),
            tensor("layers.0.self_attn.q_proj.base_layer.bias", [8], at: 48),
            tensor("embed_tokens.lora_embedding_A", [2, 8], at: 64),
            tensor("embed_tokens.lora_embedding_B", [8, 2], at: 80),
        ])
        #expect(
            groups.parts == [
                .init(range: 0..<16, group: .base, decays: true),
                .init(range: 16..<32, group: .ratio, decays: true),
                .init(range: 32..<40, group: .ratio, decays: true),
                .init(range: 48..<56, group: .ratio, decays: false),
                .init(range: 64..<80, group: .embedding, decays: true),
                .init(range: 80..<96, group: .embedding, decays: true),
            ])
    }
}
