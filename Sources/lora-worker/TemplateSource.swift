import ArgumentParser
import ChatTemplate
import JSONModel
import LinuxSystem
import ModelFiles

/// A chat template and the special tokens that it may name, from wherever they are kept.
struct TemplateSource {
    let template: ConversationTemplate
    /// `bos_token`, `eos_token`, …; none for a template file alone.
    let specialTokens: [(name: String, text: String)]

    static let tokenNames = ["bos_token", "eos_token", "pad_token", "unk_token"]

    /// - Parameter path: A template file, a model folder, or a GGUF file with a template in it.
    /// - Throws: When there is no template, or it is no Jinja (with line and column).
    init(path: String) throws {
        if FilePath.isDirectory(path) {
            let settingsPath = path + "/" + PreparedFileName.tokenizerConfig
            let settings =
                FilePath.exists(settingsPath)
                ? try JSONValue.parse(FilePath.read(settingsPath, limit: 16 << 20)) : nil
            guard
                let source = try ChatTemplateFile.read(folder: path, tokenizerConfig: settings)
            else { throw ValidationError("\(path) holds no chat template") }
            template = try ConversationTemplate(source: source)
            specialTokens = Self.specialTokens(of: settings)
        } else if path.hasSuffix(".gguf") {
            let file = try GGUFFile(path: path)
            guard let value = file.value("tokenizer.chat_template") else {
                throw ValidationError("\(path) holds no chat template (tokenizer.chat_template)")
            }
            guard let source = value.string else {
                throw ValidationError("\(path): tokenizer.chat_template is no UTF-8 text")
            }
            template = try ConversationTemplate(source: source)
            specialTokens = Self.specialTokens(of: try GGUFTokenizerData(file: file))
        } else {
            let source = String(decoding: try FilePath.read(path, limit: 16 << 20), as: UTF8.self)
            template = try ConversationTemplate(source: source)
            specialTokens = []
        }
    }

    /// From a `tokenizer_config.json`: either the text, or an added token's description.
    static func specialTokens(of settings: JSONValue?) -> [(name: String, text: String)] {
        tokenNames.compactMap { name in
            let value = settings?[name]
            return (value?.string ?? value?["content"]?.string).map { (name, $0) }
        }
    }

    private static func specialTokens(
        of data: GGUFTokenizerData?
    ) -> [(name: String, text: String)] {
        guard let data else { return [] }
        return zip(tokenNames, [data.beginning, data.end, data.padding, data.unknown]).compactMap {
            name, id in
            id.flatMap { String(validating: data.tokens[$0], as: UTF8.self) }.map { (name, $0) }
        }
    }
}
