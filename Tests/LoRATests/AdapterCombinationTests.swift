import Foundation
import JSONModel
import ModelFiles
import Testing

@testable import LoRA

/// What PEFT 0.21 computed: `Tests/Fixtures/LoRA/make_combination.py`.
private struct Reference {
    let value: JSONValue

    init() throws {
        let file = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Fixtures/LoRA/combination.json")
        value = try JSONValue.parse(String(contentsOf: file, encoding: .utf8))
    }

    func adapter(_ name: String) throws -> Adapter {
        let entry = try #require(value["adapters"]?[name])
        let config = try LoRAConfig(parsing: #require(entry["config"]))
        let tensors = try #require(entry["tensors"]?.object).entries.map { tensor in
            (
                name: tensor.key,
                shape: (tensor.value["shape"]?.array ?? []).compactMap(\.integer),
                values: (tensor.value["values"]?.array ?? []).compactMap(\.double).map(Float.init)
            )
        }
        return try AdapterLoader.load(
            config: config, tensors: MemoryTensors(stored: tensors), for: TestModel())
    }

    func parts(of name: String) throws -> [AdapterCombination.Part] {
        let entry = try #require(value["cases"]?[name])
        let names = (entry["adapters"]?.array ?? []).compactMap(\.string)
        let weights = (entry["weights"]?.array ?? []).compactMap(\.double)
        return try zip(names, weights).map {
            AdapterCombination.Part(adapter: try adapter($0), weight: $1, name: $0)
        }
    }

    func updates(of name: String) throws -> [(path: String, values: [Double])] {
        try #require(value["cases"]?[name]?["updates"]?.object).entries.map {
            ($0.key, ($0.value.array ?? []).compactMap(\.double))
        }
    }
}

/// The update of each matrix as PEFT's `get_delta_weight` lays it out: `[outputs, inputs]`, `[tokens, width]`.
private func updates(_ adapter: Adapter) -> [String: [Double]] {
    var result: [String: [Double]] = [:]
    for module in adapter.modules {
        let plan = module.plan
        let (outputs, inputs) = (plan.module.outputs, plan.module.inputs)
        var values = [Double](repeating: 0, count: outputs * inputs)
        for row in 0..<outputs {
            for column in 0..<inputs {
                var sum = 0.0
                for k in 0..<plan.rank {
                    sum +=
                        Double(module.b[row * plan.rank + k])
                        * Double(module.a[k * inputs + column])
                }
                let place =
                    plan.module.kind == .embedding ? column * outputs + row : row * inputs + column
                values[place] = sum * plan.scaling
            }
        }
        result[plan.module.path] = values
    }
    return result
}

/// The adapter as it comes back from its own files.
private func reread(_ adapter: Adapter) throws -> Adapter {
    try AdapterLoader.load(
        config: LoRAConfig(parsing: adapter.config.peftObject()),
        tensors: MemoryTensors(stored: adapter.tensors), for: TestModel())
}

@Suite struct AdapterCombinationTests {
    private func expectUpdates(_ adapter: Adapter, _ name: String) throws {
        let ours = updates(try reread(adapter))
        let theirs = try Reference().updates(of: name)
        #expect(ours.count == theirs.count)
        for (path, values) in theirs {
            let found = try #require(ours[path], "\(path)")
            let size = values.map(abs).max() ?? 0
            #expect(found.count == values.count)
            let error = zip(found, values).map { abs($0 - $1) }.max() ?? .infinity
            // The fixture keeps six decimals.
            #expect(error <= 2e-6 + 1e-5 * size, "\(path): \(error) of \(size)")
        }
    }

    @Test func aSumIsWhatPEFTsConcatenationGives() throws {
        let parts = try Reference().parts(of: "cat")
        let (adapter, energy) = try AdapterCombination(parts).run(for: TestModel())
        #expect(energy == nil)
        try expectUpdates(adapter, "cat")
        // q_proj of layer 0: 3 + 2, of layer 1: 3 + 4, o_proj 2, the others 3.
        let ranks = adapter.modules.map(\.plan.rank)
        #expect(ranks == [3, 5, 2, 3, 7, 2, 3])
        #expect(adapter.config.rank == 3)
        #expect(
            adapter.config.rankPattern == [
                .init("model.layers.0.self_attn.q_proj", 5), .init("o_proj", 2),
                .init("model.layers.1.self_attn.q_proj", 7),
            ])
        #expect(adapter.modules.allSatisfy { $0.plan.scaling == 1 })
    }

    @Test func aReducedSumIsWhatPEFTsSVDGives() throws {
        let parts = try Reference().parts(of: "svd")
        let (adapter, energy) = try AdapterCombination(parts, reduction: .rank(2)).run(
            for: TestModel())
        try expectUpdates(adapter, "svd")
        #expect(adapter.modules.allSatisfy { $0.plan.rank == 2 })
        let kept = try #require(energy)
        #expect(kept.kept > 0.5 && kept.kept < 1 && kept.lowest <= kept.kept)
        #expect(!kept.lowestPath.isEmpty)
        // The same numbers give the same factors.
        let again = try AdapterCombination(parts, reduction: .rank(2)).run(for: TestModel())
        #expect(again.adapter.digest() == adapter.digest())
    }

    @Test func oneAdapterIsScaledAsPEFTDoesItAndKeepsItsConfiguration() throws {
        let parts = try Reference().parts(of: "linear")
        let scaled = try AdapterCombination(parts).run(for: TestModel()).adapter
        try expectUpdates(scaled, "linear")
        #expect(scaled.config == parts[0].adapter.config)
        let negated = try AdapterCombination([
            .init(adapter: parts[0].adapter, weight: -1, name: "a")
        ]).run(for: TestModel()).adapter
        #expect(negated.digest() != parts[0].adapter.digest())
        #expect(try negated.scaled(by: -1).digest() == parts[0].adapter.digest())
    }

    @Test func energyGivesEachMatrixItsOwnRank() throws {
        let part = AdapterCombination.Part(
            adapter: try Reference().adapter("b"), weight: 1, name: "b")
        let (adapter, energy) = try AdapterCombination([part], reduction: .energy(0.8)).run(
            for: TestModel())
        let kept = try #require(energy)
        #expect(kept.lowest >= 0.8 && kept.kept >= kept.lowest && kept.kept < 1)
        let before = updates(part.adapter)
        for (path, values) in updates(try reread(adapter)) {
            let whole = try #require(before[path])
            func square(_ numbers: [Double]) -> Double { numbers.reduce(0) { $0 + $1 * $1 } }
            // What is left out is orthogonal to what is kept.
            #expect(square(values) / square(whole) >= 0.8 - 1e-6)
            #expect(
                abs(square(values) + square(zip(whole, values).map { $0 - $1 }) - square(whole))
                    < 1e-5 * square(whole))
        }
        #expect(Set(adapter.modules.map(\.plan.rank)).count > 1)
        let all = try AdapterCombination([part], reduction: .energy(1)).run(for: TestModel())
        #expect(all.energy?.kept == 1)
        #expect(all.adapter.modules.map(\.plan.rank) == part.adapter.modules.map(\.plan.rank))
    }

    @Test func aMatrixWiderThanItsRankAllowsIsNoTrouble() throws {
        // Rank 20 on matrices of 4 × 8 and 8 × 8: no more than 4 and 8 singular values.
        let config = LoRAConfig(rank: 20, alpha: 20, targets: .list(["k_proj", "q_proj"]))
        let plan = try AdapterPlan(config, for: TestModel())
        func values(_ count: Int) -> [Float] { (0..<count).map { Float(($0 * 37) % 64 - 32) / 64 } }
        let adapter = Adapter(
            config: config,
            modules: plan.modules.map {
                AdaptedModule(
                    plan: $0, a: values(20 * $0.module.inputs), b: values(20 * $0.module.outputs))
            }, saved: [])
        let part = AdapterCombination.Part(adapter: adapter, weight: 1, name: "wide")
        let reduced = try AdapterCombination([part], reduction: .energy(1)).run(for: TestModel())
        for (path, values) in updates(try reread(reduced.adapter)) {
            let whole = try #require(updates(adapter)[path])
            #expect(zip(whole, values).allSatisfy { abs($0 - $1) < 1e-4 }, "\(path)")
        }
        #expect(reduced.adapter.modules.allSatisfy { $0.plan.rank <= $0.plan.module.outputs })
    }

    @Test func anAdapterThatDoesNothingStaysOne() throws {
        let fresh = try Adapter(
            new: LoRAConfig(rank: 4, alpha: 8, targets: .list(["q_proj"])), for: TestModel(),
            seed: 1)
        let part = AdapterCombination.Part(adapter: fresh, weight: 1, name: "fresh")
        let reduced = try AdapterCombination([part], reduction: .energy(0.9)).run(for: TestModel())
        #expect(reduced.energy?.kept == 1)
        #expect(reduced.adapter.modules.allSatisfy { $0.plan.rank == 1 })
        #expect(updates(reduced.adapter).values.allSatisfy { $0.allSatisfy { $0 == 0 } })
    }

    private func refusal(_ parts: [AdapterCombination.Part]) -> LoRAError? {
        #expect(throws: LoRAError.self) { try AdapterCombination(parts) }
    }

    @Test func whatDoesNotAddUpIsRefusedByName() throws {
        let plain = try Reference().adapter("a")
        var config = plain.config
        config.usesDoRA = true
        let dora = Adapter(config: config, modules: plain.modules, saved: [])
        let error = refusal([
            .init(adapter: plain, weight: 1, name: "tiny:a@1"),
            .init(adapter: dora, weight: 1, name: "tiny:d@1"),
        ])
        #expect(error?.subject == "tiny:d@1")
        #expect(error?.message.contains("DoRA") == true)

        let head = try #require(TestModel().modules.last)
        let whole = Adapter(
            config: plain.config, modules: plain.modules,
            saved: [SavedModule(module: head, weights: [Float](repeating: 0, count: 96))])
        #expect(
            refusal([.init(adapter: whole, weight: 0.5, name: "tiny:w@1")])?.message.contains(
                "modules_to_save") == true)
        for weight in [0, .nan, .infinity, 1e7] {
            #expect(refusal([.init(adapter: plain, weight: weight, name: "a")])?.code == .config)
        }
        #expect(throws: LoRAError.self) {
            try AdapterCombination([.init(adapter: plain, weight: 1e6, name: "a")])
                .run(for: TestModel()).adapter.scaled(by: 1e38)
        }
    }

    @Test func savedModulesOutliveATruncation() throws {
        var config = try Reference().adapter("a").config
        config.targets = .list(["q_proj"])
        config.savedModules = ["lm_head"]
        let plan = try AdapterPlan(config, for: TestModel())
        let adapter = Adapter(
            config: config,
            modules: plan.modules.map {
                AdaptedModule(
                    plan: $0, a: (0..<24).map { Float($0 * $0 % 7) },
                    b: (0..<24).map { Float($0 * $0 % 5) })
            },
            saved: plan.saved.map {
                SavedModule(module: $0, weights: (0..<96).map { Float($0) })
            })
        let part = AdapterCombination.Part(adapter: adapter, weight: 1, name: "a")
        let reduced = try AdapterCombination([part], reduction: .rank(1)).run(for: TestModel())
        let again = try reread(reduced.adapter)
        #expect(again.saved.map(\.weights) == adapter.saved.map(\.weights))
        #expect(again.modules.allSatisfy { $0.plan.rank == 1 })
    }
}
