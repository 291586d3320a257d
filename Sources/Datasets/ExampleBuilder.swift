import JSONModel

/// Makes training examples of rows, by the same template and tokenizer as inference.
///
/// - A conversation is rendered as a whole and tokenized once, without added special tokens. Labels are the tokens
///   of each trained answer, from the first character of its content to its end-of-turn token, which is included.
/// - `prompt` + `completion` are tokenized as one text with the tokenizer's own special tokens, then the end token.
///   Labels are the tokens that reach into the completion, and the end token.
/// - `text` is tokenized with the tokenizer's own special tokens, then the end token; all of it is labelled.
public struct ExampleBuilder: Sendable {
    let tokenizer: any TrainingTokenizer
    /// Nil if the model has no chat template.
    let renderer: (any ConversationRenderer)?
    public let options: ExampleOptions

    public init(
        tokenizer: any TrainingTokenizer, renderer: (any ConversationRenderer)?,
        options: ExampleOptions
    ) {
        self.tokenizer = tokenizer
        self.renderer = renderer
        self.options = options
    }

    /// Things worth telling that are no reason to refuse a row.
    struct Remarks {
        /// Trained answers after which the template puts no end-of-turn token.
        var answersWithoutEnd = 0
        /// Tokens that end answers but are not among the model's end tokens.
        var unknownEnds: Set<Int32> = []
        /// Messages, and assistant messages among them that are trained.
        var turns = 0
        var trainedAnswers = 0
        /// Answers left untrained by `weight` 0 or `train_on`.
        var untrainedAnswers = 0
        /// A token joins the end of a prompt with the beginning of its completion.
        var joinedBoundary = false
        /// No end token is known to put after the text.
        var lacksEndOfText = false
    }

    /// - Throws: `RefusedRow` without a line number.
    func example(
        _ row: TrainingRow, line: Int, remarks: inout Remarks
    ) throws(RefusedRow) -> TrainingExample {
        let example: TrainingExample
        switch row {
        case .conversation(let messages, let tools, let variables, let firstTrained):
            example = try conversation(
                messages, tools: tools, variables: variables, firstTrained: firstTrained,
                line: line, remarks: &remarks)
        case .completion(let prompt, let completion):
            example = try plain(
                prompt + completion, labelsFrom: options.completionOnly ? prompt.utf8.count : 0,
                line: line, remarks: &remarks)
        case .text(let text):
            example = try plain(text, labelsFrom: 0, line: line, remarks: &remarks)
        }
        guard example.tokens.count <= options.maximumLength else {
            throw RefusedRow(
                .tooLong,
                "has \(example.tokens.count) tokens, more than max_length \(options.maximumLength)")
        }
        if let id = example.tokens.first(where: { $0 < 0 || Int($0) >= options.vocabularySize }) {
            throw RefusedRow(
                .badLine,
                "holds token \(id), but the model's embedding has \(options.vocabularySize) rows")
        }
        guard example.labelCount > 0 else {
            throw RefusedRow(.noLabels, "has nothing to learn: no token of it is a label")
        }
        return example
    }

    private func tokens(
        _ body: (any TrainingTokenizer) throws -> TokenSpans
    ) throws(RefusedRow) -> TokenSpans {
        do { return try body(tokenizer) } catch {
            throw RefusedRow(.badLine, "cannot be tokenized: \(error)")
        }
    }

    // MARK: Plain text

    private func plain(
        _ text: String, labelsFrom start: Int, line: Int, remarks: inout Remarks
    ) throws(RefusedRow) -> TrainingExample {
        var spans = try tokens { try $0.plainSpans(text) }
        var first = spans.ids.count
        for (index, range) in spans.ranges.enumerated()
        where range.upperBound > start && !range.isEmpty {
            first = index
            remarks.joinedBoundary = remarks.joinedBoundary || range.lowerBound < start
            break
        }
        if let end = options.endOfText {
            if spans.ids.last != end { spans.ids.append(end) }
        } else {
            remarks.lacksEndOfText = true
        }
        if start == 0 { first = 0 }
        let labelled = first < spans.ids.count ? [first..<spans.ids.count] : []
        return TrainingExample(line: line, tokens: spans.ids, labelled: labelled)
    }

    // MARK: Conversations

    private func conversation(
        _ messages: [ConversationMessage], tools: JSONValue?, variables: JSONObject,
        firstTrained: Int, line: Int, remarks: inout Remarks
    ) throws(RefusedRow) -> TrainingExample {
        guard let renderer else {
            throw RefusedRow(
                .noTemplate,
                "holds messages, but the model has no chat template; add one to the model "
                    + "(chat_template.jinja) or use prompt and completion")
        }
        let assistants = messages.indices.filter { messages[$0].role == "assistant" }
        let trained: [Int]
        switch options.trainedPart {
        case .assistant, .all:
            trained = assistants.filter { messages[$0].isTrained && $0 >= firstTrained }
        case .last:
            trained = assistants.suffix(1).filter {
                messages[$0].isTrained && $0 >= firstTrained
            }
        }
        remarks.turns += messages.count
        remarks.trainedAnswers += trained.count
        remarks.untrainedAnswers += assistants.count - trained.count
        guard !trained.isEmpty || options.trainedPart == .all else {
            throw RefusedRow(
                .noLabels,
                assistants.isEmpty
                    ? "has no assistant message, so there is nothing to learn"
                    : "no assistant message of it is to be trained (weight 0)")
        }
        let locator = AnswerLocator(renderer: renderer, tools: tools, variables: variables)
        // With `all` only the answers that are not to be learned need to be found.
        let wanted =
            options.trainedPart == .all
            ? assistants.filter { !messages[$0].isTrained } : trained
        let located = try locator.locate(messages, answers: wanted)
        let text = String(decoding: located.text, as: UTF8.self)
        let spans = try tokens { try $0.tokenSpans(text, addSpecialTokens: false) }
        var ranges: [Range<Int>] = []
        for index in wanted {
            guard let answer = located.answers[index] else { continue }
            let labelled = labels(
                of: answer, in: spans, text: located.text, remarks: &remarks)
            if !labelled.isEmpty { ranges.append(labelled) }
        }
        if options.trainedPart == .all {
            ranges = Self.complement(of: ranges, count: spans.ids.count)
        }
        return TrainingExample(line: line, tokens: spans.ids, labelled: Self.merged(ranges))
    }

    /// The tokens that reach into `answer`, and the end-of-turn token after it with the white space between.
    private func labels(
        of answer: Range<Int>, in spans: TokenSpans, text: [UInt8], remarks: inout Remarks
    ) -> Range<Int> {
        let ranges = spans.ranges
        let start =
            ranges.firstIndex { $0.upperBound > answer.lowerBound && !$0.isEmpty } ?? ranges.count
        var end = start
        while end < ranges.count, ranges[end].lowerBound < answer.upperBound { end += 1 }
        // A span found otherwise than by the content may already hold the end of the turn, and white space after it.
        var last = end
        while last > start, isBlank(ranges[last - 1], text) { last -= 1 }
        if last > start, isEnd(spans.ids[last - 1], &remarks) { return start..<last }
        var next = end
        while next < ranges.count {
            if isEnd(spans.ids[next], &remarks) { return start..<(next + 1) }
            guard text[ranges[next]].allSatisfy({ $0 == 32 || (9...13).contains($0) }) else {
                break
            }
            next += 1
        }
        remarks.answersWithoutEnd += 1
        return start..<end
    }

    private func isBlank(_ range: Range<Int>, _ text: [UInt8]) -> Bool {
        text[range].allSatisfy { $0 == 32 || (9...13).contains($0) }
    }

    private func isEnd(_ id: Int32, _ remarks: inout Remarks) -> Bool {
        if options.endTokens.contains(id) { return true }
        guard tokenizer.isSpecialToken(id) else { return false }
        remarks.unknownEnds.insert(id)
        return true
    }

    private static func merged(_ ranges: [Range<Int>]) -> [Range<Int>] {
        var result: [Range<Int>] = []
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = result.last, range.lowerBound <= last.upperBound {
                result[result.count - 1] =
                    last.lowerBound..<max(last.upperBound, range.upperBound)
            } else {
                result.append(range)
            }
        }
        return result
    }

    private static func complement(of ranges: [Range<Int>], count: Int) -> [Range<Int>] {
        var result: [Range<Int>] = []
        var position = 0
        for range in merged(ranges) {
            if position < range.lowerBound { result.append(position..<range.lowerBound) }
            position = range.upperBound
        }
        if position < count { result.append(position..<count) }
        return result
    }
}
