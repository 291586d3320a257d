import ArgumentParser
import JSONModel
import LoraqClient
import WireProtocol

struct Chat: SessionCommand {
    static let configuration = CommandConfiguration(
        abstract: "Talk with a model, with or without an adapter.",
        discussion: "In the chat: /reset forgets what was said, /system TEXT, /exit or Ctrl-D ends."
    )

    @Argument(help: "M, M:A or M:A@3.") var model: String
    @Option(parsing: .unconditional, help: "A system message.") var system: String?
    @OptionGroup var sampling: SamplingOptions
    @OptionGroup var common: CommonOptions

    func run(_ session: Session) throws {
        try NameCheck.checkReference(model, what: "the model")
        // A broker that is not there is better told before the first question.
        try session.call(.ping)
        let completion = Completion(session: session, timeout: nil)
        var history = ChatHistory(system: system)
        session.note("talking with \(model); /exit or Ctrl-D ends")
        while let input = try read(session) {
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
                if !answer.wasStreamed { try session.print(answer.text) }
                history.add("assistant", answer.text)
            } catch let error as ToolError {
                history.dropLast()
                if error.status == .interrupted {
                    Interrupts.clear()
                    session.note("\ninterrupted")
                    continue
                }
                session.note(session.terminal.errorStyle.red("error: ") + error.message)
                if !session.terminal.inputIsTerminal { throw ExitCode(error.status.rawValue) }
            }
        }
        if session.terminal.inputIsTerminal { session.note("") }
    }

    /// The next input, or nil at its end. A line that ends in `\` goes on in the next.
    private func read(_ session: Session) throws -> String? {
        let prompt = session.terminal.inputIsTerminal
        var text = ""
        while true {
            if prompt {
                StandardStreams.writeError(
                    session.terminal.errorStyle.bold(text.isEmpty ? "> " : "… "))
            }
            guard let line = readLine(strippingNewline: true) else {
                if Interrupts.isInterrupted { throw ToolError(.interrupted, "interrupted") }
                return text.isEmpty ? nil : text
            }
            guard line.hasSuffix("\\") else { return text + line }
            text += line.dropLast() + "\n"
        }
    }
}
