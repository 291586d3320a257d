import ArgumentParser
import JSONModel
import LoraqClient

struct Finetune: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Train an adapter on a JSONL file.",
        discussion: """
            Lines are chat `messages`, `prompt`/`completion`, `text`, Alpaca or ShareGPT. Hyperparameters \
            have PEFT's and TRL's names, in a YAML recipe or by --set: \
            loraq finetune tiny train.jsonl --name a --set r=8 --set learning_rate=5e-4
            """)

    @Argument(help: "The base model.") var model: String
    @Argument(help: ArgumentHelp("Training data, JSONL.", valueName: "train.jsonl"))
    var train: String
    @Option(help: "The adapter's name, unique within its model.") var name: String
    @Option(
        name: .customLong("eval"), help: ArgumentHelp("Held-out data, JSONL.", valueName: "file"))
    var evaluation: String?
    @Option(help: ArgumentHelp("Hyperparameters, YAML.", valueName: "file")) var recipe: String?
    @Option(
        name: .customLong("set"),
        help: ArgumentHelp(
            "One hyperparameter, over the recipe's (repeatable).", valueName: "name=value"))
    var settings: [String] = []
    @OptionGroup var submit: SubmitOptions
    @OptionGroup var waiting: WaitOptions
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        try NameCheck.checkReference(model, what: "the model")
        let adapter = try adapterName()
        let recipe = try RecipeDraft(file: recipe, settings: settings)
        try InputFile.check(train, what: "training file")
        if let evaluation { try InputFile.check(evaluation, what: "evaluation file") }
        try recipe.checkEvaluation(hasFile: evaluation != nil)
        let submitting = Submitting(session: session, waiting: waiting)
        var request = JobRequest(
            kind: "finetune",
            spec: .object([
                "model": .string(model), "name": .string(adapter),
                "recipe": try recipe.checked(model: model),
            ]))
        try submit.apply(to: &request, session)
        request.inputs.append(try submitting.input("train", file: train))
        if let evaluation { request.inputs.append(try submitting.input("eval", file: evaluation)) }
        guard let job = try submitting.run(request, title: "finetune \(adapter)") else { return }
        try submitting.conclude(
            job, summary: FinetuneSummary.text(job, name: "\(model):\(adapter)"))
    }

    /// `--name A`; `M:A` is understood where M is the model.
    private func adapterName() throws(ToolError) -> String {
        let plain = name.hasPrefix(model + ":") ? String(name.dropFirst(model.count + 1)) : name
        try NameCheck.check(plain, what: "--name")
        return plain
    }
}
