import Testing

@testable import LoRA

@Suite struct AdapterPlanTests {
    func plan(_ change: (inout LoRAConfig) -> Void) throws -> AdapterPlan {
        var config = LoRAConfig(rank: 8, alpha: 16, targets: .list(["q_proj", "down_proj"]))
        change(&config)
        return try AdapterPlan(config, for: TestModel())
    }

    func refused(_ change: (inout LoRAConfig) -> Void) -> LoRAError? {
        #expect(throws: LoRAError.self) { try plan(change) }
    }

    @Test("KINDS 10: a list selects by whole names, and counts what it selects")
    func listSelectsByEnding() throws {
        let plan = try plan { _ in }
        #expect(
            plan.modules.map(\.module.path) == [
                "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj",
                "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.down_proj",
            ])
        #expect(plan.modules.allSatisfy { $0.scaling == 2 && $0.rank == 8 })
        #expect(plan.matchCounts.map(\.count) == [2, 2])
    }

    @Test("KINDS 11: patterns and rsLoRA become one scaling per module")
    func patternsFirstMatchWinsAndScalingIsOneNumber() throws {
        let plan = try plan {
            $0.usesRankStabilizedScaling = true
            $0.rankPattern = [.init("layers\\.1\\.mlp\\.down_proj", 2), .init("down_proj", 4)]
            $0.alphaPattern = [.init("q_proj", 32)]
        }
        #expect(plan.modules.map(\.rank) == [8, 4, 8, 2])
        #expect(
            plan.modules.map(\.scaling) == [
                32 / 8.0.squareRoot(), 16 / 4.0.squareRoot(), 32 / 8.0.squareRoot(),
                16 / 2.0.squareRoot(),
            ])
    }

    @Test func aPatternMustMatchToTheEndAndAfterADot() throws {
        #expect(refused { $0.rankPattern = [.init("proj", 4)] }?.subject == "rank_pattern")
        #expect(refused { $0.rankPattern = [.init("mlp", 4)] }?.subject == "rank_pattern")
    }

    @Test func layersFilter() throws {
        let plan = try plan { $0.layers = [1] }
        #expect(plan.modules.allSatisfy { $0.module.path.contains("layers.1.") })
        #expect(refused { $0.layers = [1, 7] }?.subject == "layers_to_transform")
        // The targets are there, only not in that layer.
        #expect(refused { $0.layers = [7] }?.subject == "layers_to_transform")
        #expect(
            refused {
                $0.layers = [1]
                $0.layersPatterns = ["h"]
            }?.subject == "target_modules")
    }

    @Test func aWholePathGoesBeforeTheLayerFilter() throws {
        let plan = try plan {
            $0.targets = .list(["q_proj", "model.layers.0.mlp.up_proj"])
            $0.layers = [1]
        }
        #expect(
            plan.modules.map(\.module.path) == [
                "model.layers.0.mlp.up_proj", "model.layers.1.self_attn.q_proj",
            ])
    }

    @Test func allLinearLeavesTheHeadOut() throws {
        let plan = try plan { $0.targets = .allLinear }
        #expect(plan.modules.count == 14)
        #expect(!plan.modules.contains { $0.module.kind == .head })
    }

    @Test func regularExpressionMatchesTheWholePath() throws {
        let plan = try plan { $0.targets = .pattern(".*\\.[01]\\.self_attn\\.(q|k)_proj") }
        #expect(plan.modules.count == 4)
        #expect(refused { $0.targets = .pattern("q_proj") }?.code == .targets)
        #expect(
            refused { $0.targets = .pattern(".*self_attn.*") }?.message.contains("no linear")
                == true)
        #expect(refused { $0.targets = .pattern("(") }?.code == .config)
    }

    @Test("KINDS 6: an entry that matches nothing is refused, with what there is")
    func entriesWithoutMatchAreRefusedAndListWhatThereIs() {
        let error = refused { $0.targets = .list(["q_proj", "c_attn"]) }
        #expect(error?.code == .targets)
        #expect(error?.message.contains("c_attn") == true)
        #expect(error?.message.contains("gate_proj") == true)
        #expect(refused { $0.excluded = .list(["nothing"]) }?.subject == "exclude_modules")
        #expect(refused { $0.savedModules = ["score"] }?.subject == "modules_to_save")
    }

    /// PEFT writes `all-linear` as the list of all names, whatever is excluded.
    @Test func anEntryMayBeExcludedWhole() throws {
        let plan = try plan { $0.excluded = .pattern(".*\\.mlp\\..*") }
        #expect(plan.modules.map(\.module.name) == ["q_proj", "q_proj"])
        #expect(refused { $0.excluded = .pattern(".*_proj") }?.code == .targets)
    }

    @Test("KINDS 12: ensure_weight_tying reaches the head of a tied base only")
    func weightTying() throws {
        var config = LoRAConfig(rank: 2, alpha: 4, targets: .list(["embed_tokens"]))
        config.ensuresWeightTying = true
        config.alphaPattern = [.init("embed_tokens", 8)]
        let untied = try AdapterPlan(config, for: TestModel())
        #expect(untied.modules.map(\.module.path) == ["model.embed_tokens"])
        let tied = try AdapterPlan(config, for: TestModel(hasTiedHead: true))
        #expect(tied.modules.map(\.module.path) == ["model.embed_tokens", "lm_head"])
        #expect(tied.modules.map(\.scaling) == [4, 4])
        config.ensuresWeightTying = false
        let apart = try AdapterPlan(config, for: TestModel(hasTiedHead: true))
        #expect(apart.modules.map(\.module.path) == ["model.embed_tokens"])
    }

    @Test func excludedModulesAreLeftOut() throws {
        let plan = try plan { $0.excluded = .list(["model.layers.0.self_attn.q_proj"]) }
        #expect(plan.modules.count == 3)
    }

    @Test func savedModulesAreNotAdapted() throws {
        let plan = try plan {
            $0.targets = .list(["q_proj"])
            $0.savedModules = ["lm_head"]
        }
        #expect(plan.saved.map(\.path) == ["lm_head"])
        #expect(refused { $0.savedModules = ["mlp"] }?.code == .unsupported)
        #expect(refused { $0.savedModules = ["input_layernorm"] }?.code == .unsupported)
    }

    @Test func groupsAndNormsCannotBeTargets() {
        #expect(refused { $0.targets = .list(["mlp"]) }?.code == .targets)
        #expect(refused { $0.targets = .list(["input_layernorm"]) }?.code == .targets)
    }

    @Test func doraOnTheEmbeddingIsRefused() {
        let error = refused {
            $0.targets = .list(["embed_tokens"])
            $0.usesDoRA = true
        }
        #expect(error?.code == .unsupported)
        #expect(error?.subject == "use_dora")
    }
}
