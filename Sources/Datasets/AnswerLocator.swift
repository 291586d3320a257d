import JSONModel

/// Finds where the answers stand in a rendered conversation, whatever the template.
///
/// Three ways, in this order: `{% generation %}` spans, where the template has them; a second rendering in which one
/// answer is replaced by a mark that no text holds, so that what stands before and after it is known; and the
/// rendering of the messages before the answer with the prompt for the next one. Each is checked against the
/// full text; when none fits, the row is refused.
struct AnswerLocator {
    let renderer: any ConversationRenderer
    let tools: JSONValue?
    let variables: JSONObject

    struct Located {
        /// The whole conversation, rendered without a prompt for a next answer.
        var text: [UInt8]
        /// By message index: the content of an answer, in bytes of `text`.
        var answers: [Int: Range<Int>]
    }

    func locate(
        _ messages: [ConversationMessage], answers: [Int]
    ) throws(RefusedRow) -> Located {
        let full = try render(messages[...], prompt: false)
        let text = Array(full.text.utf8)
        if !full.generationSpans.isEmpty {
            return Located(
                text: text, answers: try generationSpans(full.generationSpans, messages, text))
        }
        var result: [Int: Range<Int>] = [:]
        for index in answers {
            var found = try byMark(messages, index, text)
            if found == nil { found = try byPrefix(messages, index, text) }
            guard let found else {
                throw RefusedRow(
                    .template,
                    "cannot tell where the answer messages[\(index)] stands in what the chat template "
                        + "makes of it; mark it with {% generation %} in the template")
            }
            result[index] = found
        }
        return Located(text: text, answers: result)
    }

    private func generationSpans(
        _ spans: [Range<Int>], _ messages: [ConversationMessage], _ text: [UInt8]
    ) throws(RefusedRow) -> [Int: Range<Int>] {
        let assistants = messages.indices.filter { messages[$0].role == "assistant" }
        guard spans.count == assistants.count else {
            throw RefusedRow(
                .template,
                "the template marks \(spans.count) spans with {% generation %} for "
                    + "\(assistants.count) assistant messages")
        }
        guard spans.allSatisfy({ $0.lowerBound >= 0 && $0.upperBound <= text.count }) else {
            throw RefusedRow(.template, "a {% generation %} span lies outside the text")
        }
        return Dictionary(uniqueKeysWithValues: zip(assistants, spans))
    }

    /// The text before and after the mark must be the beginning and the end of the full text.
    private func byMark(
        _ messages: [ConversationMessage], _ index: Int, _ text: [UInt8]
    ) throws(RefusedRow) -> Range<Int>? {
        let mark = Self.unusedMark(text)
        var changed = messages
        switch messages[index].fields["content"] {
        case .string: changed[index].fields["content"] = .string(mark)
        case .array:
            changed[index].fields["content"] = [["type": "text", "text": .string(mark)]]
        default: return nil
        }
        // A template may refuse the mark where it accepts the content; that is no fault of the row.
        guard let marked = try? render(changed[...], prompt: false) else { return nil }
        let bytes = Array(marked.text.utf8)
        let places = Self.occurrences(of: Array(mark.utf8), in: bytes)
        guard places.count == 1 else { return nil }
        let before = bytes[..<places[0]]
        let after = bytes[(places[0] + mark.utf8.count)...]
        guard before.count + after.count <= text.count, text.starts(with: before),
            text.suffix(after.count).elementsEqual(after)
        else { return nil }
        return before.count..<(text.count - after.count)
    }

    /// The rendering up to the answer, with the prompt for it, must be the beginning of the full text.
    private func byPrefix(
        _ messages: [ConversationMessage], _ index: Int, _ text: [UInt8]
    ) throws(RefusedRow) -> Range<Int>? {
        guard index > 0,
            let before = try? render(messages[..<index], prompt: true),
            let through = try? render(messages[...index], prompt: false)
        else { return nil }
        let prefix = Array(before.text.utf8)
        let whole = Array(through.text.utf8)
        guard text.starts(with: prefix) else { return nil }
        // What follows the last turn may differ from what follows an inner one: keep what both share.
        var end = 0
        while end < min(whole.count, text.count), whole[end] == text[end] { end += 1 }
        guard end >= prefix.count, whole.count - end <= 16 else { return nil }
        return prefix.count..<end
    }

    private func render(
        _ messages: ArraySlice<ConversationMessage>, prompt: Bool
    ) throws(RefusedRow) -> RenderedConversation {
        let value = JSONValue.array(messages.map { .object($0.fields) })
        do {
            return try renderer.renderConversation(
                value, tools: tools, addGenerationPrompt: prompt, variables: variables)
        } catch {
            throw RefusedRow(.template, "the chat template refuses it: \(error)")
        }
    }

    /// A word of letters that the text does not hold, so that trimming, splitting and case filters leave it alone.
    private static func unusedMark(_ text: [UInt8]) -> String {
        var mark = "zqanswermarkqz"
        while !occurrences(of: Array(mark.utf8), in: text).isEmpty { mark += "qz" }
        return mark
    }

    static func occurrences(of word: [UInt8], in text: [UInt8]) -> [Int] {
        guard !word.isEmpty, text.count >= word.count else { return [] }
        var result: [Int] = []
        var at = 0
        while at <= text.count - word.count {
            if text[at] == word[0], text[at..<(at + word.count)].elementsEqual(word) {
                result.append(at)
                at += word.count
            } else {
                at += 1
            }
        }
        return result
    }
}
