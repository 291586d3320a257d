import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient

struct Batch: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a JSONL file of requests, each line with its own model and adapter.",
        discussion: """
            Lines are OpenAI batch lines: {"custom_id", "method", "url", "body"}, with body.model = "M" or \
            "M:A". Lines that cannot be understood fail alone; --strict refuses the whole file.
            """)

    @Argument(help: ArgumentHelp("Requests, JSONL (`-`: standard input).", valueName: "in.jsonl"))
    var input: String
    @Option(help: ArgumentHelp("For lines without a model of their own.", valueName: "M[:A]"))
    var model: String?
    @Option(help: "Lines of a plugin's own kind.") var kind = "infer"
    @Option(
        help: ArgumentHelp("With --kind: the spec for all lines, a JSON file.", valueName: "file"))
    var spec: String?
    @Flag(help: "Refuse the file if any line is bad.") var strict = false
    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            "Write the results here when the job has ended (waits).", valueName: "file"))
    var output: String?
    @Option(
        help: ArgumentHelp("Write the lines that failed here (waits).", valueName: "file"))
    var errorOutput: String?
    @Flag(help: "With -o: in the order of the input.") var ordered = false
    @Flag(help: "Replace output files that exist.") var force = false
    @OptionGroup var submit: SubmitOptions
    @OptionGroup var waiting: WaitOptions
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        if let model { try NameCheck.checkReference(model, what: "--model") }
        try NameCheck.check(kind, what: "--kind")
        try checkOutputs()
        let source = try InputSource(input, what: "batch file", takesStandardInput: true)
        var waiting = self.waiting
        waiting.wait = waiting.wait || output != nil || errorOutput != nil
        var submitting = Submitting(session: session, waiting: waiting)
        submitting.outputIsTaken = output == "-" || errorOutput == "-"
        var request = JobRequest(kind: kind, spec: try jobSpec())
        try submit.apply(to: &request, session)
        request.inputs.append(try submitting.input("lines", source))
        guard let job = try submitting.run(request, title: "batch \(FilePath.name(of: input))")
        else { return }
        try write(job, session)
        try submitting.conclude(job, summary: summary(job))
    }

    /// Refuses before anything is sent what could not be written after hours.
    private func checkOutputs() throws {
        for target in [output, errorOutput].compactMap({ $0 }) where target != "-" {
            try OutputFile.check(target, replaces: force, inputs: [input])
        }
        if let output, let errorOutput, output != "-",
            InputFile.wouldBeOneFile(output, errorOutput)
        {
            throw ToolError.usage(
                "-o and --error-output name one file, \(output)",
                hint:
                    "choose another for the lines that fail, or leave it out: `loraq errors` shows them"
            )
        }
    }

    private func jobSpec() throws -> JSONValue {
        var object = JSONObject()
        if let spec { object = try SpecFile.read(spec) }
        if let model { object["model"] = .string(model) }
        if strict { object["strict"] = true }
        return .object(object)
    }

    private func write(_ job: JobSnapshot, _ session: Session) throws {
        let writer = ResultWriter(session: session)
        if let output {
            _ = try writer.write(
                job, stream: .results, ordered: ordered, to: output, replaces: force,
                inputs: [input])
        }
        if let errorOutput {
            _ = try writer.write(
                job, stream: .errors, ordered: ordered, to: errorOutput, replaces: force,
                inputs: [input])
        }
    }

    /// What came of it, in words. The rate is that of the answers: lines that were refused took no time.
    func summary(_ job: JobSnapshot) -> String {
        var text =
            "\(HumanText.count(job.count("done"))) of \(HumanText.plural(job.total ?? 0, "line"))"
        text += " answered"
        if let start = job.startedAtMs, let end = job.finishedAtMs, end > start {
            let seconds = Double(end - start) / 1000
            text += " in \(HumanText.span(seconds: seconds))"
            text += ", " + HumanText.rate(Double(job.count("done")) / seconds, unit: "lines")
            if let tokens = job.usage?["completion_tokens"]?.double {
                text += ", " + HumanText.rate(tokens / seconds, unit: "tokens")
            }
        }
        if let cached = job.usage?["cached_tokens"]?.double, cached > 0,
            let prompts = job.usage?["prompt_tokens"]?.double, prompts > 0
        {
            text +=
                ", \(HumanText.fixed(100 * cached / prompts, digits: 0))% of prompt tokens from memory"
        }
        if let output, output != "-" { text += "; results in \(output)" }
        if job.lost > 0, errorOutput == nil {
            text += "\n\(HumanText.plural(job.lost, "line")) failed: loraq errors \(job.id)"
        }
        return text
    }
}
