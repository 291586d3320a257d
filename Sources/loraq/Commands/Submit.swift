import ArgumentParser
import JSONModel
import LoraqClient

struct Submit: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Submit a job of any kind.",
        discussion: "For example: loraq submit check spec.json --input data=train.jsonl --wait")

    @Argument(help: "The kind: infer, finetune, prepare, adapter, check, or a plugin's own.")
    var kind: String
    @Argument(
        help: ArgumentHelp("The spec, a JSON object (`-`: standard input).", valueName: "spec.json")
    )
    var spec: String
    @Option(
        help: ArgumentHelp(
            "A file of data under the name the kind gives it (repeatable).", valueName: "name=file")
    )
    var input: [String] = []
    @OptionGroup var submit: SubmitOptions
    @OptionGroup var waiting: WaitOptions
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        try NameCheck.check(kind, what: "the kind")
        var files: [(name: String, path: String)] = []
        for text in input {
            guard let equals = text.firstIndex(of: "=") else {
                throw ToolError.usage("--input \(text): expected name=file")
            }
            let name = String(text[..<equals])
            try NameCheck.check(name, what: "--input \(text): the name")
            let path = String(text[text.index(after: equals)...])
            try InputFile.check(path, what: "\(name) file")
            files.append((name, path))
        }
        var request = JobRequest(kind: kind, spec: .object(try SpecFile.read(spec)))
        let submitting = Submitting(session: session, waiting: waiting)
        try submit.apply(to: &request, session)
        for file in files {
            request.inputs.append(try submitting.input(file.name, file: file.path))
        }
        guard let job = try submitting.run(request, title: submit.label == nil ? kind : nil) else {
            return
        }
        try submitting.conclude(job, summary: JobText.flat(job.result))
    }
}
