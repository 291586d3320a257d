import LoraqClient

/// Prints streamed pieces as they come. Pieces are not kept by anybody, so the final answer decides: what
/// was printed is completed to it, or it is printed anew.
final class ChunkPrinter {
    private let write: (String) -> Void
    private var printed = ""
    private var attempt: Int?
    private var lastIndex = -1

    init(write: @escaping (String) -> Void) { self.write = write }

    func take(_ event: BrokerEvent) {
        guard event.type == "chunk", event.json["choice"]?.integer ?? 0 == 0,
            let text = event.json["text"]?.string
        else { return }
        let number = event.json["attempt"]?.integer ?? 1
        if let attempt, number != attempt {
            // Another attempt begins from the start.
            if !printed.isEmpty { write("\n") }
            printed = ""
            lastIndex = -1
        }
        attempt = number
        let index = event.json["token_index"]?.integer ?? lastIndex + 1
        guard index > lastIndex else { return }
        lastIndex = index
        let safe = Terminal.safe(text)
        printed += safe
        write(safe)
    }

    func finish(with answer: String) {
        if answer.utf8.starts(with: printed.utf8) {
            let rest = answer.utf8.dropFirst(printed.utf8.count)
            write(String(decoding: rest, as: UTF8.self) + "\n")
        } else {
            write("\n" + answer + "\n")
        }
    }
}

extension Terminal {
    /// Text from a model without control characters other than newline and tab.
    static func safe(_ text: String) -> String {
        var cleaned = String.UnicodeScalarView()
        for scalar in text.unicodeScalars
        where scalar == "\n" || scalar == "\t" || !TextTable.isControl(scalar) {
            cleaned.append(scalar)
        }
        return String(cleaned)
    }
}
