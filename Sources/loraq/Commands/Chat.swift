import ArgumentParser
import JSONModel
import LoraqClient

struct Chat: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Talk with a model, with or without an adapter.",
        discussion: """
            In the chat: /reset forgets what was said, /system TEXT, /exit or Ctrl-D ends. Ctrl-C breaks an answer off, \
            and ends the chat at its prompt. With --json each answer is the OpenAI output line.
            """)

    @Argument(help: "M, M:A or M:A@3.") var model: String
    @Option(parsing: .unconditional, help: "A system message.") var system: String?
    @OptionGroup var sampling: SamplingOptions
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        try NameCheck.checkReference(model, what: "the model")
        // What is not there is better told before the first question.
        let type = model.contains(":") ? "adapter" : "model"
        if try session.client.artifacts(type: type, name: model).isEmpty {
            throw ArtifactText.missing(model, type)
        }
        let completion = Completion(session: session, timeout: nil)
        var history = ChatHistory(system: system)
        session.note("talking with \(model); /exit or Ctrl-D ends")
        var lines = LineInput(.standard)
        while let input = try read(&lines, session) {
            switch history.command(input) {
            case .exit: return
            case .note(let text):
                session.note(text)
                continue
            case .nothing: continue
            case .say: break
            }
            var body: JSONObject = ["model": .string(model), "messages": history.json]
            sampling.apply(to: &body)
            do {
                let answer = try completion.run(
                    body, isChat: true, streams: session.terminal.outputIsTerminal)
                if session.json {
                    try session.print(answer.line.text())
                } else if !answer.wasStreamed {
                    try session.print(answer.text)
                }
                history.add("assistant", answer.text)
            } catch let error as ToolError {
                history.dropLast()
                if error.status == .interrupted {
                    Interrupts.clear()
                    session.note("\ninterrupted")
                    continue
                }
                guard session.terminal.inputIsTerminal else { throw error }
                EntryPoint.show(error, asJSON: session.json)
            }
        }
        if session.terminal.inputIsTerminal { session.note("") }
    }

    /// The next input, or nil at its end. A line that ends in `\` goes on in the next.
    private func read(_ lines: inout LineInput, _ session: Session) throws -> String? {
        let prompt = session.terminal.inputIsTerminal && !session.json
        var text = ""
        while true {
            if prompt {
                StandardStreams.writeError(
                    session.terminal.errorStyle.bold(text.isEmpty ? "> " : "… "))
            }
            let next: String?
            do {
                next = try lines.next()
            } catch {
                // The terminal shows ^C behind the prompt.
                if prompt, error.status == .interrupted { session.note("") }
                throw error
            }
            guard let line = next else { return text.isEmpty ? nil : text }
            guard line.hasSuffix("\\") else { return text + line }
            text += line.dropLast() + "\n"
        }
    }
}
