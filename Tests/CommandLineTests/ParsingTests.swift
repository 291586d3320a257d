import ArgumentParser
import LoraqClient
import Testing

@testable import loraq

@Suite struct ParsingTests {
    private func parse<Command: ParsableCommand>(_ type: Command.Type, _ line: String) throws
        -> Command
    {
        let words = line.split(separator: " ").map(String.init)
        let command = try Loraq.parseAsRoot(EntryPoint.hoistingHome(words))
        return try #require(command as? Command)
    }

    @Test func theCommandsOfTheDesign() throws {
        let finetune = try parse(
            Finetune.self,
            "finetune tiny train.jsonl --name a --eval e.jsonl --recipe r.yaml --set r=8 "
                + "--set learning_rate=1e-4 --after last --after X:finish --priority -3 --tenant t "
                + "--label nightly --wait --home /h --json")
        #expect(finetune.model == "tiny")
        #expect(finetune.train == "train.jsonl")
        #expect(finetune.name == "a")
        #expect(finetune.evaluation == "e.jsonl")
        #expect(finetune.settings == ["r=8", "learning_rate=1e-4"])
        #expect(finetune.submit.after == ["last", "X:finish"])
        #expect(finetune.submit.priority == -3)
        #expect(finetune.waiting.wait)
        #expect(finetune.common.home == "/h")
        #expect(finetune.common.json)

        let batch = try parse(
            Batch.self, "batch in.jsonl --model tiny:a --strict --wait -o out.jsonl")
        #expect(batch.model == "tiny:a")
        #expect(batch.strict)
        #expect(batch.output == "out.jsonl")

        #expect(try parse(Models.Add.self, "models add tiny ./m --no-wait").options.noWait)
        #expect(try parse(Models.Remove.self, "models remove tiny").name == "tiny")
        #expect(try parse(Adapters.Add.self, "adapters add a ./a --model tiny").model == "tiny")
        #expect(try parse(Adapters.Export.self, "adapters export tiny:a@2 out").folder == "out")
        let merge = try parse(
            Adapters.Merge.self, "adapters merge tiny:a:0.7 b@2:-0.3 --name ab --rank 4")
        #expect(merge.parts == ["tiny:a:0.7", "b@2:-0.3"] && merge.reduction.rank == 4)
        #expect(
            try parse(Adapters.Truncate.self, "adapters truncate ab --energy 0.9 --name c")
                .reduction.energy
                == 0.9)
        #expect(
            try parse(Adapters.Scale.self, "adapters scale tiny:a -1 --name not-a").factor() == -1)
        let wrong = #expect(throws: (any Error).self) {
            try Loraq.parseAsRoot(["adapters", "scale", "tiny:a", "-1", "--name", "b", "--nowait"])
        }
        #expect(wrong.map { Loraq.fullMessage(for: $0) }?.contains("option '--nowait'") == true)
        #expect(
            try parse(Adapters.Scale.self, "adapters scale --name b tiny:a 0.5 -q").factor() == 0.5)
        #expect(
            try parse(Generate.self, "generate tiny hello --temperature 0.5 --stop a --stop b")
                .sampling.stop == ["a", "b"])
        #expect(try parse(Chat.self, "chat tiny:a").model == "tiny:a")
        #expect(
            try parse(DataCommand.Check.self, "data check t.jsonl --model tiny").file == "t.jsonl")
        #expect(
            try parse(Submit.self, "submit mykind spec.json --input data=x").input == ["data=x"])
        #expect(try parse(Results.self, "results last --ordered -o x").ordered)
        #expect(try parse(Status.self, "status").jobs == ["last"])
        #expect(try parse(Wait.self, "wait a b --timeout 3").jobs == ["a", "b"])
        #expect(try parse(Cancel.self, "cancel all").jobs == ["all"])
        #expect(try parse(Logs.self, "logs -f").follow)
        #expect(try parse(Workers.Scale.self, "workers scale lora 3").instances == 3)
        #expect(try parse(Workers.Drain.self, "workers drain lora-1").instance == "lora-1")
        #expect(try parse(Workers.List.self, "workers").common.json == false)
        for name in ["up", "down", "ping", "doctor", "jobs", "errors", "explain", "events"] {
            #expect(throws: Never.self) { try Loraq.parseAsRoot([name]) }
        }
        for name in ["retry x", "hold x", "release x"] {
            #expect(throws: Never.self) {
                try Loraq.parseAsRoot(name.split(separator: " ").map(String.init))
            }
        }
    }

    @Test func homeMayStandBeforeTheSubcommand() throws {
        #expect(try parse(Jobs.self, "--home /h jobs").common.home == "/h")
        #expect(try parse(Jobs.self, "--home=/h jobs --all").common.home == "/h")
        #expect(try parse(Models.List.self, "--home /h models list").common.home == "/h")
        #expect(try parse(Models.List.self, "--home /h models").common.home == "/h")
        #expect(try parse(Jobs.self, "--json --home /h jobs").common.json)
    }

    @Test(arguments: [
        "finetune tiny train.jsonl", "batch", "frobnicate", "jobs --state sleeping",
        "jobs --limit 0", "wait --timeout 0", "retry x --numerics all", "logs a --worker b",
        "workers scale lora -1", "models add tiny", "generate tiny x --raw --system y",
        "batch in --priority 101", "batch in --id 123", "batch in --label last",
        "batch in --tenant a/b",
    ])
    func wrongArgumentsAreUsageErrors(line: String) {
        do {
            _ = try Loraq.parseAsRoot(line.split(separator: " ").map(String.init))
            Issue.record("accepted: \(line)")
        } catch {
            #expect(Loraq.exitCode(for: error) == .validationFailure)
        }
    }

    @Test func theRateOfABatchIsThatOfItsAnswers() throws {
        let batch = try parse(Batch.self, "batch in.jsonl -o out.jsonl")
        let job = try JobSnapshot([
            "job": "j", "state": "succeeded", "started_at_ms": 1000, "finished_at_ms": 3000,
            "counts": ["total": 60_001, "done": 1, "failed": 60_000],
        ])
        #expect(
            batch.summary(job) == """
                1 of 60,001 lines answered in 2.0s, 0.5 lines/s; results in out.jsonl
                60,000 lines failed: loraq errors j
                """)
    }

    @Test func helpNamesTheExitCodes() {
        let help = Loraq.helpMessage(columns: 100)
        for status in ExitStatus.allCases { #expect(help.contains(status.explanation)) }
    }
}
