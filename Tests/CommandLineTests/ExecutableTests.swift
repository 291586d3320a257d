import JSONModel
import LinuxSystem
import Testing

@Suite struct ExecutableTests {
    @Test func withoutABrokerTheExitCodeIsThree() throws {
        let tool = try Tool()
        for command in ["ping", "jobs", "status", "workers", "explain"] {
            let outcome = try tool.run(command)
            #expect(outcome.status == 3)
            #expect(outcome.output.isEmpty)
            #expect(
                outcome.errors == """
                    error: no broker at ipc://\(tool.home)/run/control
                           start one with `loraq up`

                    """)
        }
    }

    @Test func machinesGetErrorsAsJSON() throws {
        let tool = try Tool()
        let outcome = try tool.run("jobs", "--json")
        #expect(outcome.status == 3)
        let error = try JSONValue.parse(outcome.errors)["error"]
        #expect(error?["code"]?.string == "UNREACHABLE")
        #expect(error?["hint"]?.string == "start one with `loraq up`")
    }

    @Test func wrongArgumentsAreTwo() throws {
        let tool = try Tool()
        let outcome = try tool.run("finetune", "tiny")
        #expect(outcome.status == 2)
        #expect(outcome.errors.contains("train.jsonl"))
        #expect(try tool.run("frobnicate").status == 2)
    }

    @Test func inputsAreCheckedBeforeAnythingIsSent() throws {
        let tool = try Tool()
        let data = tool.home + "/in.jsonl"
        try DurableFile.write("{}\n", to: data)
        let recipe = tool.home + "/r.yaml"
        try DurableFile.write("r: 8\nlearning_rat: 1\n", to: recipe)
        let cases: [([String], String)] = [
            (["batch", tool.home + "/no.jsonl"], "No such file or directory"),
            (["batch", tool.home], "is a folder"),
            (["batch", data, "-o", data, "--force"], "is the input itself"),
            (["batch", data, "-o", recipe], "exists already"),
            (["batch", data, "--model", "../x"], "must be an artifact reference"),
            (["finetune", "tiny", data, "--name", "a/b"], "--name must be a name"),
            (
                ["finetune", "tiny", data, "--name", "a", "--recipe", recipe],
                "r.yaml:2: unknown recipe field"
            ),
            (["models", "add", "tiny", tool.home + "/nothing"], "there is no"),
            (["models", "add", "tiny", tool.home], "holds no config.json"),
            (["models", "add", "tiny", data], "neither a folder nor a .gguf file"),
            (["adapters", "add", "a", tool.home, "--model", "m"], "holds no adapter_config.json"),
            (["submit", "kind", recipe], "not JSON"),
        ]
        for (arguments, message) in cases {
            let outcome = try tool.run(["--home", tool.home] + arguments)
            #expect(outcome.status == 2, "\(arguments)")
            #expect(outcome.errors.contains(message), "\(arguments): \(outcome.errors)")
            #expect(outcome.errors.hasPrefix("error: "))
        }
        #expect(try FilePath.read(data) == Array("{}\n".utf8))
    }

    @Test func helpVersionAndCompletionGoToStandardOutput() throws {
        let tool = try Tool()
        let help = try tool.run("--help")
        #expect(help.status == 0)
        #expect(help.output.contains("loraq up"))
        #expect(help.output.contains("130"))
        #expect(try tool.run("--version").output == "0.1.0\n")
        let bash = try tool.run("--generate-completion-script", "bash")
        #expect(bash.status == 0)
        #expect(bash.output.contains("complete"))
        #expect(try tool.run("models", "--help").output.contains("remove"))
    }

    @Test func downWithoutABrokerIsNoFailure() throws {
        let tool = try Tool()
        let outcome = try tool.run("down")
        #expect(outcome.status == 0)
        #expect(outcome.output == "no broker runs at \(tool.home)\n")
    }

    @Test func doctorWarnsThatNoBrokerRuns() throws {
        let tool = try Tool()
        let outcome = try tool.run("doctor", "--json")
        let checks = try JSONValue.parse(outcome.output)["checks"]?.array ?? []
        let broker = checks.first { $0["name"]?.string == "broker" }
        #expect(broker?["status"]?.string == "warn")
        #expect(broker?["hint"]?.string == "start one with `loraq up`")
    }
}
