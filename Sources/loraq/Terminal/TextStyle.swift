/// Colors and weights as ANSI escapes, or nothing at all (`NO_COLOR`, pipes, dumb terminals).
struct TextStyle: Sendable, Equatable {
    let usesEscapes: Bool

    static let plain = TextStyle(usesEscapes: false)
    static let colored = TextStyle(usesEscapes: true)

    func bold(_ text: String) -> String { wrap(text, "1") }
    func dim(_ text: String) -> String { wrap(text, "2") }
    func red(_ text: String) -> String { wrap(text, "31") }
    func green(_ text: String) -> String { wrap(text, "32") }
    func yellow(_ text: String) -> String { wrap(text, "33") }
    func cyan(_ text: String) -> String { wrap(text, "36") }

    /// A job's or task's state in the color of its meaning.
    func state(_ state: String) -> String {
        switch state {
        case "succeeded", "done", "ready", "ok": green(state)
        case "failed", "dead", "dependency_failed", "lost": red(state)
        case "running", "splitting", "leased": cyan(state)
        case "cancelled", "skipped", "held", "backoff": yellow(state)
        default: state
        }
    }

    private func wrap(_ text: String, _ code: String) -> String {
        usesEscapes && !text.isEmpty ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text
    }
}
