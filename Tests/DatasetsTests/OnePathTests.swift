import ChatTemplate
import Foundation
import JSONModel
import Testing
import Tokenization

@testable import Datasets

/// Training and inference turn text into ids on one path, here with a real tokenizer that puts a beginning.
@Suite struct OnePathTests {
    private static let tokenizerPath = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "TokenizationTests/Fixtures/llama2/tokenizer.json").path

    @Test("KINDS 3: exactly one beginning, also where the text brings its own")
    func oneBeginning() throws {
        let tokenizer = try Tokenizer(contentsOf: Self.tokenizerPath)
        let begin = try #require(tokenizer.tokenID(of: "<s>"))
        let plain = try tokenizer.plainSpans("queue")
        #expect(plain.ids.filter { $0 == begin }.count == 1 && plain.ids.first == begin)
        let brought = try tokenizer.plainSpans("<s>queue")
        #expect(brought.ids.filter { $0 == begin }.count == 1 && brought.ids.first == begin)
        #expect(brought.ids.count == brought.ranges.count)
        // Two that the text itself holds are the text's own business.
        let twice = try tokenizer.plainSpans("<s><s>queue")
        #expect(twice.ids.filter { $0 == begin }.count == 2)
        #expect(try tokenizer.plainSpans("").ids == [begin])
    }

    @Test("KINDS 3: the template's text is tokenized as it stands") func templateText() throws {
        let tokenizer = try Tokenizer(contentsOf: Self.tokenizerPath)
        let template = try ConversationTemplate(
            source: "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}"
                + "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}")
        let renderer = TemplateRenderer(
            template: template, specialTokens: [("bos_token", "<s>"), ("eos_token", "</s>")],
            now: LocalTime(year: 2026, month: 3, day: 5))
        let end = try #require(tokenizer.tokenID(of: "</s>"))
        let builder = ExampleBuilder(
            tokenizer: tokenizer, renderer: renderer,
            options: ExampleOptions(
                maximumLength: 100, endTokens: [end], endOfText: end,
                vocabularySize: tokenizer.idCount))
        var remarks = ExampleBuilder.Remarks()
        let row = try TrainingRowReader.read(
            [
                "messages": [
                    ["role": "user", "content": "queue"],
                    ["role": "assistant", "content": "keeps"],
                ]
            ], unknownKey: { _ in })
        let example = try builder.example(row, line: 1, remarks: &remarks)
        // As a request would ask it, and the answer after it.
        let whole = try tokenizer.encode(
            "<s>[user] queue[assistant] keeps</s>", addSpecialTokens: false)
        #expect(example.tokens == whole)
        #expect(whole.filter { $0 == tokenizer.tokenID(of: "<s>") }.count == 1)
        #expect(example.labels.last == end)
        #expect(remarks.turns == 2 && remarks.trainedAnswers == 1)
    }

    @Test("KINDS 3: strftime_now shows the time that is given") func givenTime() throws {
        let template = try ConversationTemplate(source: "{{ strftime_now('%d %b %Y') }}")
        let time = LocalTime(secondsSince1970: 1_772_719_629)
        let renderer = TemplateRenderer(template: template, now: time)
        for _ in 0..<2 {
            let rendered = try renderer.renderConversation(
                [["role": "user", "content": "x"]], tools: nil, addGenerationPrompt: true,
                variables: JSONObject())
            #expect(rendered.text == "05 Mar 2026")
        }
    }
}
