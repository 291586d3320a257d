import ArgumentParser
import ChatTemplate
import Foundation
import JSONModel
import LinuxSystem
import ModelFiles
import Tokenization

/// Runs a text through a tokenizer, for debugging.
struct TokenizeSubcommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tokenize",
        abstract: "Turns text into token ids and back.",
        discussion: """
            Reads standard input: a text, or with --jsonl one question per line: {"text", "add_special_tokens"} gives \
            {"ids"}; {"ids", "skip_special_tokens"} gives {"text"}; {"ids", "stream": true} gives {"pieces"}.
            """)

    @Option(help: "A tokenizer.json, a model folder, or a GGUF file.")
    var tokenizer: String

    @Flag(help: "One JSON question per line in, one answer per line out.")
    var jsonl = false

    @Option(
        help:
            "With --jsonl: encode all the texts so many times and print how long each time took, in place of ids."
    )
    var rounds: Int?

    mutating func validate() throws {
        if let rounds, !jsonl || !(1...1000).contains(rounds) {
            throw ValidationError("--rounds must be from 1 to 1000, with --jsonl")
        }
    }

    func run() throws {
        let tokenizer = try Self.load(tokenizer)
        let command = TokenizeCommand(tokenizer: tokenizer)
        if let rounds {
            LineAnswers.write(try Self.measure(tokenizer, rounds: rounds).serialized())
        } else if jsonl {
            LineAnswers.run(command.answer)
        } else {
            let text = String(
                decoding: FileHandle.standardInput.readDataToEndOfFile(), as: UTF8.self)
            let question: JSONValue = ["text": .string(text)]
            LineAnswers.write(command.answer(question.serialized()))
        }
    }

    /// Encodes the texts of standard input on this thread; seconds of each round, without reading and writing.
    private static func measure(_ tokenizer: Tokenizer, rounds: Int) throws -> JSONValue {
        var texts: [String] = []
        while let line = readLine(strippingNewline: true) {
            guard let text = try JSONValue.parse(Array(line.utf8))["text"]?.string else {
                throw ValidationError("line \(texts.count + 1) has no \"text\"")
            }
            texts.append(text)
        }
        var seconds: [JSONValue] = []
        var ids = 0
        for _ in 0..<rounds {
            ids = 0
            let clock = ContinuousClock()
            let time = try clock.measure {
                for text in texts {
                    ids += try tokenizer.encode(text, addSpecialTokens: false).count
                }
            }
            seconds.append(.number(time / .seconds(1)))
        }
        return [
            "bytes": .integer(Int64(texts.reduce(0) { $0 + $1.utf8.count })),
            "ids": .integer(Int64(ids)), "seconds": .array(seconds),
        ]
    }

    private static func load(_ path: String) throws -> Tokenizer {
        if !FilePath.isDirectory(path), path.hasSuffix(".gguf") {
            guard let data = try GGUFTokenizerData(file: GGUFFile(path: path)) else {
                throw ValidationError("\(path) holds no tokenizer")
            }
            return try Tokenizer(gguf: data)
        }
        return try Tokenizer(contentsOf: path)
    }
}

/// Renders conversations with a chat template, for debugging.
struct RenderSubcommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "render",
        abstract: "Renders conversations with a chat template.",
        discussion: """
            Reads one JSON object per line: {"messages", "tools", "add_generation_prompt", "special_tokens", "now", …}, or \
            {"template", "context"} for a template of its own. Without "special_tokens" those of the folder or the GGUF file \
            are taken. Answers {"text", "generation"?} or {"error": {"type", "message"}}.
            """)

    @Option(help: "A template file, a model folder, or a GGUF file with a template in it.")
    var template: String?

    @Flag(help: "One JSON question per line in, one answer per line out (always so).")
    var jsonl = false

    func run() throws {
        let source = try template.map { try TemplateSource(path: $0) }
        LineAnswers.run(
            RenderCommand(
                template: source?.template, specialTokens: source?.specialTokens ?? []
            ).answer)
    }
}

/// One line in, one line out.
private enum LineAnswers {
    static func run(_ answer: ([UInt8]) -> [UInt8]) {
        while let line = readLine(strippingNewline: true) {
            if line.isEmpty { continue }
            write(answer(Array(line.utf8)))
        }
    }

    static func write(_ bytes: [UInt8]) { FileHandle.standardOutput.write(Data(bytes + [10])) }
}
