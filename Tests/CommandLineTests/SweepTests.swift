import JSONModel
import LoraqClient
import Testing
import WireProtocol

@testable import loraq

@Suite struct SweepTests {
    private func draft(_ settings: [String] = []) throws -> RecipeDraft {
        try RecipeDraft(file: nil, settings: settings)
    }

    private func fault(_ words: [String]) -> String {
        do throws(ToolError) {
            let grid = try SweepGrid(words)
            return "accepted: \(try grid.candidates(RecipeDraft(file: nil, settings: [])).count)"
        } catch {
            return error.message
        }
    }

    @Test func everyCombinationIsACandidateWithTypedValues() throws {
        let grid = try SweepGrid(["r=4,8", "target_modules=attention,q_proj+v_proj"])
        let candidates = try grid.candidates(try draft(["seed=1", "r=99"]))
        #expect(
            candidates.map(\.title) == [
                "r=4 target_modules=attention", "r=4 target_modules=q_proj+v_proj",
                "r=8 target_modules=attention", "r=8 target_modules=q_proj+v_proj",
            ])
        #expect(
            candidates[3].recipe.json
                == ["seed": 1, "r": 8, "target_modules": ["q_proj", "v_proj"]])
        #expect(
            JSONValue.object(candidates[3].settings)
                == ["r": 8, "target_modules": ["q_proj", "v_proj"]])
    }

    @Test(arguments: [
        (["rnak=4"], "did you mean `r`"), (["r"], "expected name=value"),
        (["=4"], "expected name=value"), (["r="], "a value is missing"),
        (["r=4,,8"], "a value is missing"), (["r=4", "r=8"], "r is given twice"),
        (["r=4,8,4"], "4 is given twice"), (["r=four"], "--grid r=four"),
        (["r=1,2,3,4,5,6,7,8,9,10,11", "seed=1,2,3"], "33 combinations, at most 32"),
    ])
    func aGridThatIsNoneIsRefused(words: [String], message: String) {
        let fault = fault(words)
        #expect(
            message == "did you mean `r`"
                ? fault.contains("unknown recipe field") : fault.contains(message))
    }

    private func graph(metric: String = "loss") throws -> SweepGraph {
        var common = JobRequest(
            id: "0198c2a0-0000-7000-8000-00000000a000", kind: "choose", spec: .object(JSONObject()))
        common.label = "sweep"
        common.priority = 3
        common.after = [JobRequest.Dependency(job: "0198c2a0-0000-7000-8000-000000000001")]
        return SweepGraph(
            model: "tiny@2", name: "best", metric: metric,
            train: .body(name: "train", bytes: []), evaluation: .body(name: "eval", bytes: []),
            common: common)
    }

    @Test func aGridIsPairsOfJobsAndOneThatChooses() throws {
        let candidates = try SweepGrid(["r=4,8"]).candidates(try draft())
        let jobs = try graph().jobs(candidates)
        #expect(jobs.map(\.kind) == ["finetune", "evaluate", "finetune", "evaluate", "choose"])
        #expect(Set(jobs.map(\.id)).count == 5 && jobs[4].id.hasSuffix("a000"))
        #expect(jobs.allSatisfy { $0.label == "sweep" && $0.priority == 3 })
        #expect(jobs[0].after.map(\.job) == ["0198c2a0-0000-7000-8000-000000000001"])
        #expect(jobs[3].after == [JobRequest.Dependency(job: jobs[2].id)])
        #expect(jobs[3].spec["models"] == ["tiny:best.00a000.2"])
        #expect(jobs[2].spec["name"] == "best.00a000.2" && jobs[2].spec["model"] == "tiny@2")
        #expect(jobs[4].after.map(\.job) == jobs[..<4].map(\.id))
        #expect(jobs[4].after.allSatisfy { $0.on == "finish" && $0.tell != nil })
        #expect(jobs[4].spec["goal"] == "min" && jobs[4].spec["stages"] == nil)
        #expect(
            jobs[0].inputs.count == 1,
            "a fine-tune gets the held-out rows where its recipe asks for them")
        let evaluating = try SweepGrid(["r=4"]).candidates(try draft(["eval_steps=5"]))
        #expect(try graph().jobs(evaluating)[0].inputs.count == 2)
    }

    @Test func theGreatestSweepFitsItsMessages() throws {
        let values = (1...32).map(String.init).joined(separator: ",")
        let candidates = try SweepGrid(["r=\(values)"]).candidates(
            try draft(["learning_rate=auto"]))
        let jobs = try graph(metric: "exact_match").jobs(candidates)
        #expect(jobs.count == 65)
        #expect(jobs[64].spec.serialized().count < 16 << 10)
        #expect(jobs[64].after.count { $0.tell != nil } == Dependency.maximumTellers)
    }

    @Test func stagesBeginFromTheOneBeforeUnderConditions() throws {
        let stages = try SweepStages.make(
            try draft(["r=4", "lora_alpha=8"]), embeddingsLeftOut: "not here")
        #expect(
            stages.map(\.candidate.title) == [
                "attention", "embeddings", "mlp", "rank 8", "rank 16",
            ])
        #expect(stages.map { $0.leftOut != nil } == [false, true, false, false, false])
        let recipes = stages.map(\.candidate.recipe)
        #expect(
            recipes[0].json == [
                "r": 4, "lora_alpha": 8, "target_modules": "attention", "learning_rate": "auto",
            ])
        #expect(recipes[4].value(of: "r") == 16 && recipes[4].value(of: "lora_alpha")?.double == 32)
        let rule = StageRule(metric: "exact_match", goal: .max, target: 0.9, minimumGain: 0.01)
        let jobs = try graph(metric: "exact_match").jobs(stages, rule)
        #expect(jobs.count == 9)
        #expect(jobs[0].spec["recipe"]?["adapter"] == nil)
        #expect(jobs[2].spec["recipe"]?["adapter"] == "tiny:best.00a000.1")
        #expect(jobs[4].spec["recipe"]?["adapter"] == "tiny:best.00a000.3")
        #expect(jobs[2].after.map { $0.condition?["metric"]?.string } == ["exact_match"])
        #expect(
            jobs[4].after.map { $0.condition?["metric"]?.string } == [
                "exact_match", "exact_match_gain",
            ])
        #expect(jobs[4].after.allSatisfy { $0.job == jobs[3].id && $0.on == "success" })
        #expect(jobs[3].spec["models"] == ["tiny:best.00a000.3", "tiny:best.00a000.1"])
        #expect(jobs[8].spec["stages"] == ["target": 0.9, "minimum_gain": 0.01])
        #expect(jobs[8].spec["candidates"]?.array?.count == 5)
    }

    @Test func embeddingsAreAStageWhereTheyCanBeTrained() throws {
        let stages = try SweepStages.make(try draft(), embeddingsLeftOut: nil)
        #expect(stages.allSatisfy { $0.leftOut == nil })
        let targets = stages.map { $0.candidate.recipe.value(of: "target_modules") }
        #expect(targets[0] == "attention" && targets[1] == ["attention", "embeddings"])
        #expect(targets[2...].allSatisfy { $0 == ["all-linear", "embeddings"] })
    }

    @Test func whatTheStagesDecideIsNotTheRecipes() {
        #expect(throws: ToolError.self) { try SweepStages.make(try draft(["target_modules=mlp"])) }
        #expect(throws: ToolError.self) { try SweepStages.make(try draft(["r=2048"])) }
    }
}
