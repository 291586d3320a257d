import JSONModel

/// A text's token ids, each with the UTF-8 bytes of the text that it stands for.
public struct TokenSpans: Sendable, Equatable {
    public var ids: [Int32]
    /// Empty ranges for tokens put around the text.
    public var ranges: [Range<Int>]

    public init(ids: [Int32], ranges: [Range<Int>]) {
        self.ids = ids
        self.ranges = ranges
    }
}

/// The tokenizer as inference uses it.
public protocol TrainingTokenizer: Sendable {
    func tokenSpans(_ text: String, addSpecialTokens: Bool) throws -> TokenSpans
    /// Whether the token is a special one: an end of turn, a role's tag.
    func isSpecialToken(_ id: Int32) -> Bool
}

extension TrainingTokenizer {
    /// A plain text's tokens with the tokenizer's own special tokens around it, for training and inference alike.
    ///
    /// Exactly one beginning: where the text brings its own, none is put before it.
    public func plainSpans(_ text: String) throws -> TokenSpans {
        var spans = try tokenSpans(text, addSpecialTokens: true)
        if spans.ids.count > 1, spans.ids[0] == spans.ids[1], spans.ranges[0].isEmpty,
            isSpecialToken(spans.ids[0])
        {
            spans.ids.removeFirst()
            spans.ranges.removeFirst()
        }
        return spans
    }
}

/// What a template made of a conversation.
public struct RenderedConversation: Sendable, Equatable {
    public var text: String
    /// What stands inside `{% generation %}`, in UTF-8 bytes of `text`.
    public var generationSpans: [Range<Int>]

    public init(text: String, generationSpans: [Range<Int>] = []) {
        self.text = text
        self.generationSpans = generationSpans
    }
}

/// The chat template as inference uses it.
public protocol ConversationRenderer: Sendable {
    /// - Parameters:
    ///   - messages: An array of message objects.
    ///   - variables: Further template variables (`chat_template_kwargs`).
    func renderConversation(
        _ messages: JSONValue, tools: JSONValue?, addGenerationPrompt: Bool, variables: JSONObject
    ) throws -> RenderedConversation
}
