import ArgumentParser
import JSONModel
import LoraqClient

struct Submit: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Submit a job of any kind.",
        discussion: """
            For example: loraq submit check spec.json --input data=train.jsonl --wait

            With --array the file holds a spec per line: each becomes a job of its own, all with one label, which \
            commands take in place of an id (loraq wait LABEL; --after LABEL waits for all of them).
            """)

    @Argument(
        help: "The kind: infer, finetune, prepare, adapter, check, evaluate, or a plugin's own.")
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
    @Flag(help: "A spec per line: one job each.") var array = false
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
        if array { return try submitArray(files, session) }
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

    private func submitArray(_ files: [(name: String, path: String)], _ session: Session) throws {
        let specs = try SpecFile.readLines(spec)
        let submitting = Submitting(session: session, waiting: waiting)
        let inputs = try files.map { try submitting.input($0.name, file: $0.path) }
        var first = JobRequest(kind: kind, spec: .object(JSONObject()))
        try submit.apply(to: &first, session)
        first.inputs = inputs
        first.label = submit.label ?? "array-" + String(first.id.suffix(12))
        var requests: [JobRequest] = []
        for (place, spec) in specs.enumerated() {
            var request = first
            request.spec = .object(spec)
            request.id = try JobRequest.id(first.id, place: place)
            requests.append(request)
        }
        let ids = try session.client.submit(requests).map(\.job)
        if !session.json {
            for id in ids { try session.print(id) }
            session.note(
                "\(HumanText.plural(ids.count, "job")) with the label \(first.label ?? "")")
        }
        guard waiting.wait else {
            guard session.json else { return }
            return try session.print(
                json: .object([
                    "label": .string(first.label ?? ""), "jobs": .array(ids.map { .string($0) }),
                ]))
        }
        var waiter = JobWaiter(session: session, options: waiting)
        waiter.selectors = first.label.map { [$0] } ?? []
        let jobs = try waiter.wait(for: ids)
        if session.json {
            try session.print(
                json: .object([
                    "label": .string(first.label ?? ""), "jobs": .array(jobs.map(\.json)),
                ]))
        }
        try JobWaiter.finish(jobs)
    }
}
