import ArgumentParser
import JSONModel

struct Generate: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Answer one prompt, with or without an adapter.",
        discussion: """
            The prompt goes through the model's chat template; --raw continues the text as it stands.
            """)

    @Argument(help: "M, M:A or M:A@3.") var model: String
    @Argument(help: "The prompt (`-`: standard input).") var prompt: String
    @Flag(help: "No chat template: continue the text.") var raw = false
    @Option(parsing: .unconditional, help: "A system message before the prompt.") var system:
        String?
    @OptionGroup var sampling: SamplingOptions
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Give up after this long (exit code 4).", valueName: "seconds"),
        transform: Quantity.seconds)
    var timeout: Double?
    @Option(help: ArgumentHelp("Ask the workers of this plugin.", valueName: "plugin"))
    var worker: String?
    @OptionGroup var common: CommonOptions

    mutating func validate() throws {
        if raw, system != nil { throw ValidationError("--system has no place with --raw") }
    }

    func run(_ session: Session) throws {
        try NameCheck.checkReference(model, what: "the model")
        if let worker { try NameCheck.check(worker, what: "--worker") }
        let text = prompt == "-" ? try Generate.standardInput() : prompt
        var body: JSONObject = ["model": .string(model)]
        if raw {
            body["prompt"] = .string(text)
        } else {
            var messages: [JSONValue] = []
            if let system { messages.append(["role": "system", "content": .string(system)]) }
            messages.append(["role": "user", "content": .string(text)])
            body["messages"] = .array(messages)
        }
        sampling.apply(to: &body)
        let completion = Completion(session: session, timeout: timeout, worker: worker)
        let answer = try completion.run(
            body, isChat: !raw, streams: session.terminal.outputIsTerminal)
        if session.json { return try session.print(json: answer.line) }
        if !answer.wasStreamed { try session.print(answer.text) }
    }

    private static func standardInput() throws -> String {
        let bytes = try ByteInput.standard.readAll(limit: 3 << 20)
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw ToolError.usage("the prompt is not UTF-8 text")
        }
        return text
    }
}
