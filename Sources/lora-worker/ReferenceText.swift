import ChatTemplate
import Datasets
import JSONModel
import LinuxSystem
import ModelFiles
import Tokenization

/// Tokenizer and chat template of a Hugging Face folder, as reference cases are read with them.
struct ReferenceText {
    let tokenizer: Tokenizer
    let renderer: TemplateRenderer

    init(model: String) throws {
        tokenizer = try Tokenizer(contentsOf: model + "/tokenizer.json")
        let path = model + "/tokenizer_config.json"
        let settings = try JSONValue.parse(FilePath.read(path))
        guard let source = settings["chat_template"]?.string else {
            throw ModelFileError(.malformed, file: path, item: "chat_template", "is missing")
        }
        var special: [(name: String, text: String)] = []
        for name in ["bos_token", "eos_token", "pad_token"] {
            if let text = settings[name]?.string { special.append((name, text)) }
        }
        renderer = TemplateRenderer(
            template: try ConversationTemplate(source: source), specialTokens: special,
            now: .now())
    }

    func builder(_ config: ModelConfig) -> ExampleBuilder {
        ExampleBuilder(
            tokenizer: tokenizer, renderer: renderer,
            options: ExampleOptions(
                maximumLength: config.maximumPositions,
                endTokens: Set(config.specialTokens.end.map { Int32(clamping: $0) }),
                endOfText: nil, vocabularySize: config.vocabularySize))
    }

    func render(_ messages: JSONValue) throws -> String {
        try renderer.renderConversation(
            messages, tools: nil, addGenerationPrompt: true, variables: JSONObject()
        ).text
    }
}
