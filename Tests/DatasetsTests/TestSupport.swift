import Foundation
import JSONModel

@testable import Datasets

/// A tokenizer with one token a byte, but for the special tokens and "ab".
struct ByteTokenizer: TrainingTokenizer {
    static let special: [(text: String, id: Int32)] = [
        ("<|im_start|>", 256), ("<|im_end|>", 257), ("<s>", 258), ("</s>", 259), ("<|user|>", 260),
    ]
    /// Two bytes that are one token, as merges make them.
    static let pair: Int32 = 300
    var addsBeginning = false

    func tokenSpans(_ text: String, addSpecialTokens: Bool) throws -> TokenSpans {
        let bytes = Array(text.utf8)
        var result = TokenSpans(ids: [], ranges: [])
        if addSpecialTokens, addsBeginning {
            result.ids.append(258)
            result.ranges.append(0..<0)
        }
        var at = 0
        while at < bytes.count {
            let rest = bytes[at...]
            let found = Self.special.first { rest.starts(with: $0.text.utf8) }
            let isPair = rest.starts(with: "ab".utf8)
            let length = found?.text.utf8.count ?? (isPair ? 2 : 1)
            result.ids.append(found?.id ?? (isPair ? Self.pair : Int32(bytes[at])))
            result.ranges.append(at..<(at + length))
            at += length
        }
        return result
    }

    func isSpecialToken(_ id: Int32) -> Bool { (256..<300).contains(id) }

    /// The text of some tokens.
    static func text(_ ids: some Sequence<Int32>) -> String {
        var bytes: [UInt8] = []
        for id in ids {
            if let found = special.first(where: { $0.id == id }) {
                bytes += Array(found.text.utf8)
            } else if id == pair {
                bytes += Array("ab".utf8)
            } else {
                bytes.append(UInt8(truncatingIfNeeded: id))
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// A template written in Swift.
struct Template: ConversationRenderer {
    struct Refused: Error, CustomStringConvertible {
        var description: String
    }
    typealias Message = (role: String, content: String, fields: JSONValue)

    /// Text and `{% generation %}` spans of messages.
    let body: @Sendable ([Message], Bool) throws -> RenderedConversation

    func renderConversation(
        _ messages: JSONValue, tools: JSONValue?, addGenerationPrompt: Bool, variables: JSONObject
    ) throws -> RenderedConversation {
        let list = (messages.array ?? []).map { message -> Message in
            let parts = message["content"]?.array?.compactMap { $0["text"]?.string }
            let content = message["content"]?.string ?? parts?.joined() ?? ""
            return (message["role"]?.string ?? "", content, message)
        }
        if list.isEmpty { throw Refused(description: "no messages") }
        return try body(list, addGenerationPrompt)
    }

    private static func plain(
        _ body: @escaping @Sendable ([Message], Bool) throws -> String
    ) -> Template {
        Template { RenderedConversation(text: try body($0, $1)) }
    }

    /// ChatML, with a system message of its own where there is none, as SmolLM2 has it.
    static let chatML = plain { messages, prompt in
        var text = ""
        if messages[0].role != "system" { text += "<|im_start|>system\nHelp.<|im_end|>\n" }
        for message in messages {
            text += "<|im_start|>\(message.role)\n\(message.content)<|im_end|>\n"
        }
        return prompt ? text + "<|im_start|>assistant\n" : text
    }

    /// Llama 2's form: answers trimmed, a space before the end token.
    static let llama2 = plain { messages, _ in
        var text = ""
        for message in messages {
            let content = message.content.trimmingCharacters(in: .whitespacesAndNewlines)
            text += message.role == "user" ? "<s>[INST] \(content) [/INST]" : " \(content) </s>"
        }
        return text
    }

    /// Alpaca's form: nothing ends an answer.
    static let headings = plain { messages, prompt in
        messages.map { "### \($0.role):\n\($0.content)\n\n" }.joined()
            + (prompt ? "### assistant:\n" : "")
    }

    /// Drops what stands before `</think>`, but in the last message, and puts empty thoughts where there are none.
    static let thinking = plain { messages, prompt in
        var text = ""
        for (index, message) in messages.enumerated() {
            var content = message.content
            if message.role == "assistant", let range = content.range(of: "</think>") {
                let thoughts = content[..<range.upperBound]
                content = String(content[range.upperBound...])
                if index == messages.count - 1 { content = thoughts + content }
            } else if message.role == "assistant", index == messages.count - 1 {
                content = "<think></think>" + content
            }
            text += "<|im_start|>\(message.role)\n\(content)<|im_end|>\n"
        }
        return prompt ? text + "<|im_start|>assistant\n" : text
    }

    /// ChatML with `{% generation %}` around the answers, end token included or not.
    static func marked(includingEnd: Bool) -> Template {
        Template { messages, _ in
            var result = RenderedConversation(text: "")
            for message in messages {
                result.text += "<|im_start|>\(message.role)\n"
                let start = result.text.utf8.count
                result.text += message.content
                if includingEnd { result.text += "<|im_end|>" }
                if message.role == "assistant" {
                    result.generationSpans.append(start..<result.text.utf8.count)
                }
                if !includingEnd { result.text += "<|im_end|>" }
                result.text += "\n"
            }
            return result
        }
    }

    /// Says every answer twice after a count of all, so that no place of it can be told.
    static let echo = plain { messages, _ in
        "\(messages.count) messages"
            + messages.map { "<|im_start|>\($0.role)\n\($0.content)|\($0.content)<|im_end|>" }
            .joined()
    }
}

/// What came of some lines.
struct Outcome {
    var dataset: TrainingDataset
    var report: DatasetReport { dataset.report }

    /// The labelled text of an example, ranges joined by "|".
    func labelled(_ index: Int) -> String {
        let example = dataset.examples[index]
        return example.labelled.map { ByteTokenizer.text(example.tokens[$0]) }
            .joined(separator: "|")
    }

    func text(_ index: Int) -> String { ByteTokenizer.text(dataset.examples[index].tokens) }
}

func read(
    _ lines: String, template: Template? = .chatML, tokenizer: ByteTokenizer = ByteTokenizer(),
    _ change: (inout ExampleOptions) -> Void = { _ in }
) throws -> Outcome {
    let path = NSTemporaryDirectory() + "loraq-datasets-\(UUID().uuidString).jsonl"
    try Data(lines.utf8).write(to: URL(fileURLWithPath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    var options = ExampleOptions(
        maximumLength: 4096, endTokens: [257, 259], endOfText: 257, vocabularySize: 512)
    change(&options)
    return Outcome(
        dataset: try TrainingDataset.read(
            path: path,
            builder: ExampleBuilder(tokenizer: tokenizer, renderer: template, options: options)))
}
