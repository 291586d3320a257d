import Foundation
import JSONModel
import LoRA
import Testing
import Transformer

@testable import FineTuning

@Suite struct AdapterWideningTests {
    private let decoder: Decoder

    init() throws { decoder = try AdapterStartTests().decoder("llama-bias") }

    private func start(_ fields: JSONObject, from adapter: Adapter? = nil) throws -> Adapter {
        var recipe = try FineTuneRecipe(.object(fields))
        if adapter != nil { recipe.startingAdapter = "m:a" }
        return try AdapterStart.make(
            recipe: recipe, startingAdapter: adapter, decoder: decoder, baseModelName: "m"
        ).adapter
    }

    /// An adapter on the attention of rank 2 whose B is not zero any more.
    private func trained(
        _ fields: JSONObject = ["r": 2, "lora_alpha": 4, "target_modules": "attention"]
    ) throws -> Adapter {
        var adapter = try start(fields)
        for index in adapter.modules.indices {
            for place in adapter.modules[index].b.indices {
                adapter.modules[index].b[place] = Float((place * 7 + index) % 11) / 16 - 0.25
            }
        }
        return adapter
    }

    /// scaling · B A, row-major `[outputs, inputs]`.
    private func update(_ module: AdaptedModule) -> [Float] {
        let (rank, inputs) = (module.plan.rank, module.plan.module.inputs)
        var result = [Float](repeating: 0, count: module.plan.module.outputs * inputs)
        for row in 0..<module.plan.module.outputs {
            for column in 0..<inputs {
                var sum: Float = 0
                for k in 0..<rank {
                    sum += module.b[row * rank + k] * module.a[k * inputs + column]
                }
                result[row * inputs + column] = Float(module.plan.scaling) * sum
            }
        }
        return result
    }

    @Test func whatIsNotWidenedIsTheSameAdapter() throws {
        let adapter = try trained()
        #expect(try start([:], from: adapter).digest() == adapter.digest())
        let same: JSONObject = [
            "r": 2, "target_modules": ["o_proj", "k_proj", "v_proj", "q_proj"], "seed": 9,
        ]
        #expect(try start(same, from: adapter).digest() == adapter.digest())
        let dropping = try start(["lora_dropout": 0.25], from: adapter)
        #expect(dropping.digest() == adapter.digest() && dropping.config.dropout == 0.25)
    }

    @Test(
        arguments: [
            ["r": 5, "lora_alpha": 10, "target_modules": "attention"],
            ["r": 4, "target_modules": ["attention", "mlp"]],
            ["r": 3, "target_modules": ["attention", "embeddings"]],
            ["r": 2, "use_rslora": true, "target_modules": "all-linear"],
        ] as [JSONObject])
    func aWidenedAdapterComputesTheSame(fields: JSONObject) throws {
        let adapter = try trained()
        let widened = try start(fields, from: adapter)
        let old = Dictionary(
            uniqueKeysWithValues: adapter.modules.map { ($0.plan.module.path, $0) })
        #expect(widened.modules.count >= adapter.modules.count)
        for module in widened.modules {
            let path = module.plan.module.path
            #expect(module.plan.rank == fields["r"]?.integer)
            #expect((module.a + module.b).contains { $0 != 0 } && module.a.allSatisfy(\.isFinite))
            guard let known = old[path] else {
                #expect(update(module).allSatisfy { $0 == 0 }, "\(path) is new")
                continue
            }
            for (a, b) in zip(update(module), update(known)) { #expect(abs(a - b) <= 1e-6) }
            #expect(Array(module.a[..<known.a.count]) == known.a, "what was learned goes on")
        }
        #expect(Set(old.keys).isSubset(of: widened.modules.map(\.plan.module.path)))
        #expect(try start(fields, from: adapter).digest() == widened.digest(), "the same again")
    }

    @Test func factorsOfTwoInTheScalingCostNoBit() throws {
        let adapter = try trained()
        let widened = try start(["r": 4, "target_modules": "attention"], from: adapter)
        for (module, known) in zip(widened.modules, adapter.modules) {
            #expect(module.plan.scaling == 1 && known.plan.scaling == 2)
            for row in 0..<module.plan.module.outputs {
                #expect(module.b[row * 4] == 2 * known.b[row * 2])
                #expect(module.b[row * 4 + 2] == 0 && module.b[row * 4 + 3] == 0)
            }
        }
    }

    @Test(
        arguments: [
            (["target_modules": ["q_proj"]], "target_modules", "leaves out"),
            (["target_modules": "mlp"], "target_modules", "leaves out"),
            (["r": 1], "r", "truncate"),
            (["rank_pattern": ["k_proj": 1]], "r", "k_proj"),
            (["layers_to_transform": [0]], "target_modules", "layers.1"),
        ] as [(JSONObject, String, String)])
    func whatWouldBeLostIsRefused(fields: JSONObject, field: String, word: String) throws {
        let adapter = try trained()
        let error = #expect(throws: FineTuneError.self) { _ = try start(fields, from: adapter) }
        #expect(error?.code == .recipe && error?.field == field)
        #expect(error?.description.contains(word) == true)
    }
}
