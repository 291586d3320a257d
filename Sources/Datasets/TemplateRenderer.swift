import ChatTemplate
import Foundation
import JSONModel
import Tokenization

/// A chat template alone, without the model that it came with.
public struct TemplateRenderer: ConversationRenderer {
    private let template: ConversationTemplate
    private let specialTokens: [(name: String, text: String)]
    private let now: LocalTime

    /// - Parameter specialTokens: What `bos_token`, `eos_token` … are in the template.
    /// - Parameter now: What `strftime_now` shows.
    public init(
        template: ConversationTemplate, specialTokens: [(name: String, text: String)] = [],
        now: LocalTime
    ) {
        self.template = template
        self.specialTokens = specialTokens
        self.now = now
    }

    public func renderConversation(
        _ messages: JSONValue, tools: JSONValue?, addGenerationPrompt: Bool, variables: JSONObject
    ) throws -> RenderedConversation {
        let rendered = try template.render(
            messages: messages, tools: tools, addGenerationPrompt: addGenerationPrompt,
            variables: variables, specialTokens: specialTokens, now: now)
        return RenderedConversation(
            text: rendered.text, generationSpans: rendered.generationSpans)
    }
}

extension Tokenizer: TrainingTokenizer {
    public func tokenSpans(_ text: String, addSpecialTokens: Bool) throws -> TokenSpans {
        let encoded = try encodeWithRanges(text, addSpecialTokens: addSpecialTokens)
        return TokenSpans(ids: encoded.ids, ranges: encoded.ranges)
    }

    public func isSpecialToken(_ id: Int32) -> Bool { isSpecial(id) }
}
