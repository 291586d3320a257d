import Foundation
import JSONModel

/// What was said so far, and the chat's own commands.
struct ChatHistory {
    enum Turn: Equatable {
        case say, exit, nothing
        case note(String)
    }

    private(set) var messages: [(role: String, content: String)] = []
    private var system: String?

    init(system: String?) { self.system = system }

    var json: JSONValue {
        let all = (system.map { [(role: "system", content: $0)] } ?? []) + messages
        return .array(all.map { ["role": .string($0.role), "content": .string($0.content)] })
    }

    /// Takes a line of input: a command, or something said.
    mutating func command(_ input: String) -> Turn {
        let trimmed = input.trimmingCharacters(in: .whitespaces)
        if trimmed.isEmpty { return .nothing }
        guard trimmed.hasPrefix("/") else {
            add("user", input)
            return .say
        }
        let words = trimmed.split(separator: " ", maxSplits: 1)
        switch words[0] {
        case "/exit", "/quit": return .exit
        case "/reset":
            messages.removeAll()
            return .note("forgotten")
        case "/system":
            system = words.count > 1 ? String(words[1]) : nil
            return .note(system == nil ? "no system message" : "system message set")
        default:
            return .note("unknown command \(words[0]); there are /reset, /system TEXT and /exit")
        }
    }

    mutating func add(_ role: String, _ content: String) { messages.append((role, content)) }

    mutating func dropLast() { if !messages.isEmpty { messages.removeLast() } }
}
