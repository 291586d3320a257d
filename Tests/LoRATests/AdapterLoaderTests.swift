import JSONModel
import Testing

@testable import LoRA

@Suite struct AdapterLoaderTests {
    let config: LoRAConfig = {
        var config = LoRAConfig(rank: 2, alpha: 4, targets: .list(["q_proj", "lm_head"]))
        config.savedModules = ["embed_tokens"]
        return config
    }()

    func whole() throws -> (Adapter, MemoryTensors) {
        let plan = try AdapterPlan(config, for: TestModel())
        var counter: Float = 0
        func values(_ count: Int) -> [Float] {
            (0..<count).map { _ in
                counter += 1
                return counter / 64
            }
        }
        let adapter = Adapter(
            config: config,
            modules: plan.modules.map {
                AdaptedModule(
                    plan: $0, a: values($0.aShape[0] * $0.aShape[1]),
                    b: values($0.bShape[0] * $0.bShape[1]))
            },
            saved: plan.saved.map {
                SavedModule(module: $0, weights: values($0.outputs * $0.inputs))
            })
        return (adapter, MemoryTensors(stored: adapter.tensors))
    }

    func refused(_ change: (inout MemoryTensors) -> Void) throws -> LoRAError? {
        var (_, tensors) = try whole()
        change(&tensors)
        return #expect(throws: LoRAError.self) {
            try AdapterLoader.load(config: config, tensors: tensors, for: TestModel())
        }
    }

    let q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"

    @Test func readsWhatItWrites() throws {
        let (adapter, tensors) = try whole()
        let read = try AdapterLoader.load(config: config, tensors: tensors, for: TestModel())
        #expect(read.digest() == adapter.digest())
        #expect(read.modules.map(\.a) == adapter.modules.map(\.a))
        #expect(read.saved.map(\.weights) == adapter.saved.map(\.weights))
    }

    @Test func olderNamesFindTheirPlaces() throws {
        var (adapter, tensors) = try whole()
        tensors.stored = tensors.stored.map {
            var name = $0.name
            if name.hasSuffix(".lora_A.weight") {
                name = name.dropLast(13) + "lora_A.default.weight"
            }
            if name.hasSuffix("embed_tokens.weight") {
                name = name.dropLast(6) + "modules_to_save.default.weight"
            }
            return (name, $0.shape, $0.values)
        }
        let read = try AdapterLoader.load(config: config, tensors: tensors, for: TestModel())
        #expect(read.digest() == adapter.digest())
    }

    @Test("KINDS 10: a target without its tensors is refused")
    func aMissingTensorIsRefused() throws {
        let error = try refused { $0.stored.removeAll { $0.name == q } }
        #expect(error?.code == .tensors)
        #expect(error?.subject == q)
    }

    @Test("KINDS 10: a tensor without a place is refused")
    func aTensorWithoutPlaceIsRefused() throws {
        let extra = "base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight"
        let error = try refused {
            $0.stored.append((extra, [2, 8], [Float](repeating: 0, count: 16)))
        }
        #expect(error?.code == .tensors)
        #expect(error?.subject == extra)
    }

    @Test("KINDS 9: shapes are checked when the adapter is read")
    func aWrongShapeIsRefused() throws {
        let error = try refused { $0.change(q) { $0.shape = [8, 2] } }
        #expect(error?.code == .shape)
    }

    @Test(arguments: [Float.nan, .infinity]) func notFiniteIsRefused(_ value: Float) throws {
        let error = try refused { $0.change(q) { $0.values[3] = value } }
        #expect(error?.code == .nonFinite)
        #expect(error?.subject == q)
    }

    @Test("KINDS 9: a copy of another base matrix is refused")
    func aCopyOfAnotherBaseIsRefused() throws {
        let name = "base_model.model.lm_head.base_layer.weight"
        var (_, tensors) = try whole()
        let base = try TestModel().baseWeights(of: "lm_head")
        tensors.stored.append((name, [12, 8], base))
        _ = try AdapterLoader.load(config: config, tensors: tensors, for: TestModel())
        tensors.change(name) { $0.values[5] += 1 }
        let error = #expect(throws: LoRAError.self) {
            try AdapterLoader.load(config: config, tensors: tensors, for: TestModel())
        }
        #expect(error?.code == .base)
    }

    @Test func twoNamesOfOneTensorAreRefused() throws {
        let double = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"
        let error = try refused {
            $0.stored.append((double, [2, 8], [Float](repeating: 0, count: 16)))
        }
        #expect(error?.code == .tensors)
    }

    @Test func namesWithoutPrefixAreExplained() throws {
        let error = try refused {
            $0.stored = $0.stored.map { (String($0.name.dropFirst(17)), $0.shape, $0.values) }
        }
        #expect(error?.message.contains("save_pretrained") == true)
    }

    @Test("KINDS 9: a bias that the config does not train is refused by its name")
    func biasesWithoutPlace() throws {
        let extra = "base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias"
        let error = try refused {
            $0.stored.append((extra, [8], [Float](repeating: 0, count: 8)))
        }
        #expect(error?.code == .tensors)
        #expect(error?.subject == extra)
    }

    /// PEFT's names: of a wrapped module the base layer's bias, of another its own.
    @Test("KINDS 9: trained biases are placed, or their lack is an error")
    func trainedBiases() throws {
        var model = TestModel()
        model.hasBiases = true
        var config = LoRAConfig(rank: 2, alpha: 4, targets: .list(["q_proj", "up_proj"]))
        config.layers = [1]
        let prefix = "base_model.model.model.layers."
        for (bias, names) in [
            (LoRAConfig.Bias.none, []),
            (.loraOnly, ["1.self_attn.q_proj.base_layer.bias"]),
            (
                .all,
                [
                    "0.self_attn.q_proj.bias", "0.input_layernorm.bias",
                    "1.self_attn.q_proj.base_layer.bias", "1.input_layernorm.bias",
                ]
            ),
        ] {
            config.bias = bias
            let adapter = try Adapter(new: config, for: model, seed: 1)
            #expect(adapter.biases.map(\.plan.name) == names.map { prefix + $0 })
            #expect(
                try adapter.biases.allSatisfy {
                    try $0.values == model.baseBias(of: $0.plan.module.path)
                })
            #expect(
                try AdapterPlan(config, for: model).parameterCount
                    == 2 * (8 + 8) + 2 * (8 + 16) + 8 * names.count)
            var tensors = MemoryTensors(stored: adapter.tensors)
            let loaded = try AdapterLoader.load(config: config, tensors: tensors, for: model)
            #expect(loaded.digest() == adapter.digest())
            guard let name = names.first else { continue }
            tensors.stored.removeAll { $0.name == prefix + name }
            let error = #expect(throws: LoRAError.self) {
                try AdapterLoader.load(config: config, tensors: tensors, for: model)
            }
            #expect(error?.subject == prefix + name)
            #expect(error?.message.contains("lora_only") == true)
            let half = AdapterCombination.Part(adapter: adapter, weight: 0.5, name: "m:a")
            let combined = #expect(throws: LoRAError.self) { try AdapterCombination([half]) }
            #expect(combined?.message.contains("bias") == true)
            let whole = AdapterCombination.Part(adapter: adapter, weight: 1, name: "m:a")
            let reduced = try AdapterCombination([whole], reduction: .rank(1)).run(for: model)
            #expect(reduced.adapter.biases.map(\.values) == adapter.biases.map(\.values))
            #expect(try AdapterPlan(reduced.adapter.config, for: model).biases.count == names.count)
        }
    }

    /// Magnitudes begin as the norms of the base's rows, so that the adapter starts as the base.
    @Test func newDoRAStartsAsTheBase() throws {
        var config = LoRAConfig(rank: 2, alpha: 4, targets: .list(["k_proj"]))
        config.usesDoRA = true
        let adapter = try Adapter(new: config, for: TestModel(), seed: 1)
        let module = try #require(adapter.modules.first)
        let base = try TestModel().baseWeights(of: module.plan.module.path)
        let norms = (0..<4).map { row in
            base[row * 8..<row * 8 + 8].reduce(0) { $0 + $1 * $1 }.squareRoot()
        }
        let magnitudes = try #require(module.magnitude)
        #expect(zip(magnitudes, norms).allSatisfy { abs($0 - $1) <= 1e-6 * $1 })
    }

    /// As PEFT begins: an embedding's A is zero and its B normal, a module saved whole is the base's.
    @Test func newEndsStartAsTheBase() throws {
        var config = LoRAConfig(rank: 64, alpha: 4, targets: .list(["embed_tokens", "q_proj"]))
        config.savedModules = ["lm_head"]
        let adapter = try Adapter(new: config, for: TestModel(), seed: 1)
        let embedding = try #require(adapter.modules.first { $0.plan.module.kind == .embedding })
        #expect(embedding.a.allSatisfy { $0 == 0 })
        let square = embedding.b.reduce(0) { $0 + $1 * $1 } / Float(embedding.b.count)
        #expect(abs(square - 1) < 0.3)
        #expect(adapter.saved.map(\.weights) == [try TestModel().baseWeights(of: "lm_head")])
        #expect(
            try AdapterPlan(config, for: TestModel()).parameterCount
                == adapter.tensors.reduce(0) { $0 + $1.values.count })
        let again = try AdapterLoader.load(
            config: config, tensors: MemoryTensors(stored: adapter.tensors), for: TestModel())
        #expect(again.digest() == adapter.digest())
    }

    @Test("KINDS 13: the digest names the effect")
    func theDigestNamesTheEffect() throws {
        let (adapter, _) = try whole()
        var changed = adapter
        changed.modules[0].b[0] += 1
        #expect(changed.digest() != adapter.digest())
        var rescaled = config
        rescaled.alpha = 5
        let plan = try AdapterPlan(rescaled, for: TestModel())
        let other = Adapter(
            config: rescaled,
            modules: zip(plan.modules, adapter.modules).map {
                AdaptedModule(plan: $0, a: $1.a, b: $1.b)
            },
            saved: adapter.saved)
        #expect(other.digest() != adapter.digest())
        // The same numbers by other words: alpha 4 and r 2 as a pattern.
        var spelled = config
        spelled.alpha = 9
        spelled.alphaPattern = [.init(".*", 4)]
        let samePlan = try AdapterPlan(spelled, for: TestModel())
        let same = Adapter(
            config: spelled,
            modules: zip(samePlan.modules, adapter.modules).map {
                AdaptedModule(plan: $0, a: $1.a, b: $1.b)
            }, saved: adapter.saved)
        #expect(same.digest() == adapter.digest())
    }

    @Test func newAdaptersStartAsTheBase() throws {
        let config = LoRAConfig(rank: 4, alpha: 8, targets: .list(["q_proj", "up_proj"]))
        let adapter = try Adapter(new: config, for: TestModel(), seed: 5)
        #expect(adapter.modules.allSatisfy { $0.b.allSatisfy { $0 == 0 } })
        let bound = 1 / Float(8).squareRoot()
        #expect(adapter.modules.allSatisfy { $0.a.allSatisfy { abs($0) <= bound } })
        #expect(Set(adapter.modules.flatMap(\.a)).count > 100)
        let narrow = try Adapter(
            new: LoRAConfig(rank: 4, alpha: 8, targets: .list(["up_proj"])), for: TestModel(),
            seed: 5)
        #expect(narrow.modules[0].a == adapter.modules[1].a)
        #expect(
            try Adapter(new: config, for: TestModel(), seed: 6).modules[0].a != adapter.modules[0].a
        )
    }
}
