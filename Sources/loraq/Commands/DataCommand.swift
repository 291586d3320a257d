import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient

struct DataCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "data", abstract: "Look at training data.", subcommands: [Check.self])

    struct Check: SessionCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Check a training file: rows, turns, labels, lengths, duplicates, what is trained.",
            discussion: """
                Renders the first rows through the model's template; what is trained on stands out in green, \
                or between ⟦ and ⟧ without colors. Ends with exit code 5 if rows were refused.
                """)

        @Argument(help: ArgumentHelp("Training data, JSONL.", valueName: "file")) var file: String
        @Option(help: "The model to be trained.") var model: String
        @Option(
            parsing: .unconditional, help: "Show so many rows (default: 3).",
            transform: Quantity.whole(0...1000))
        var rows = 3
        @Flag(
            help:
                "Show each token of these rows on a line of its own: whether it is trained, its id, its text."
        )
        var tokens = false
        @Option(help: ArgumentHelp("As for finetune.", valueName: "file")) var recipe: String?
        @Option(
            name: .customLong("set"),
            help: ArgumentHelp("As for finetune.", valueName: "name=value"))
        var settings: [String] = []
        @Option(
            parsing: .unconditional,
            help: ArgumentHelp("Give up after this long (exit code 4).", valueName: "seconds"),
            transform: Quantity.seconds)
        var timeout: Double?
        @Flag(name: .shortAndLong, help: "No progress.") var quiet = false
        @OptionGroup var submit: SubmitOptions
        @OptionGroup var common: CommonOptions

        func run(_ session: Session) throws {
            try NameCheck.checkReference(model, what: "--model")
            let recipe = try RecipeDraft(file: recipe, settings: settings)
            var waiting = WaitOptions()
            waiting.wait = true
            waiting.timeout = timeout
            waiting.quiet = quiet
            var submitting = Submitting(session: session, waiting: waiting)
            submitting.outputIsTaken = true
            var spec: JSONObject = [
                "action": "data", "model": .string(model), "rows": .integer(Int64(rows)),
            ]
            if !recipe.values.isEmpty { spec["recipe"] = try recipe.checked(model: model) }
            var request = JobRequest(kind: "check", spec: .object(spec))
            try submit.apply(to: &request, session)
            request.inputs.append(try submitting.input("data", file: file))
            guard let job = try submitting.run(request, title: "check \(FilePath.name(of: file))")
            else { return }
            guard let result = job.result else { return try submitting.conclude(job) }
            if session.json {
                try session.print(json: result)
            } else {
                try session.print(
                    DataReport.text(
                        result, file: file, byToken: tokens, style: session.style), terminator: "")
            }
            try JobWaiter.finish([job])
            if !(result["refused"]?.array ?? []).isEmpty {
                throw ExitCode(ExitStatus.someLinesFailed.rawValue)
            }
        }
    }
}
