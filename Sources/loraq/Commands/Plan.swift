import ArgumentParser
import JSONModel
import LinuxSystem
import LoraqClient

struct Plan: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What a job would take, before it is submitted.", subcommands: [PlanFinetune.self]
    )

    struct PlanFinetune: SessionCommand {
        static let configuration = CommandConfiguration(
            commandName: "finetune",
            abstract: "Matrices, parameters, learning rate, time, memory and disk of a fine-tune.",
            discussion: """
                Takes the arguments of `loraq finetune`. A worker counts, runs the first few steps to measure their \
                rate, and throws them away.
                """)

        @Argument(help: "The base model.") var model: String
        @Argument(help: ArgumentHelp("Training data, JSONL.", valueName: "train")) var train: String
        @Option(
            name: .customLong("eval"), help: ArgumentHelp("As for finetune.", valueName: "file"))
        var evaluation: String?
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
            try NameCheck.checkReference(model, what: "the model")
            let recipe = try RecipeDraft(file: recipe, settings: settings)
            try recipe.checkEvaluation(hasFile: evaluation != nil)
            var waiting = WaitOptions()
            waiting.wait = true
            waiting.timeout = timeout
            waiting.quiet = quiet
            var submitting = Submitting(session: session, waiting: waiting)
            submitting.outputIsTaken = true
            var spec: JSONObject = ["action": "plan", "model": .string(model)]
            if !recipe.values.isEmpty { spec["recipe"] = try recipe.checked(model: model) }
            var request = JobRequest(kind: "check", spec: .object(spec))
            try submit.apply(to: &request, session)
            request.inputs.append(try submitting.input("data", file: train))
            if let evaluation {
                request.inputs.append(try submitting.input("eval", file: evaluation))
            }
            guard let job = try submitting.run(request, title: "plan \(FilePath.name(of: train))")
            else { return }
            guard let result = job.result else { return try submitting.conclude(job) }
            if session.json {
                try session.print(json: result)
            } else {
                try session.print(PlanText.text(result, style: session.style), terminator: "")
            }
            try JobWaiter.finish([job])
        }
    }
}
