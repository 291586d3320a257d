import Testing

@testable import Datasets

@Suite struct ExampleBuilderTests {
    static let twoTurns = #"""
        {"messages":[{"role":"user","content":"one"},{"role":"assistant","content":"eins"},{"role":"user","content":"two"},{"role":"assistant","content":"zwei"}]}
        """#

    @Test("KINDS 3: the end of turn is a label") func labelsReachFromContentToEndOfTurn() throws {
        let outcome = try read(Self.twoTurns)
        #expect(outcome.labelled(0) == "eins<|im_end|>|zwei<|im_end|>")
        #expect(
            outcome.text(0).hasPrefix("<|im_start|>system\nHelp.<|im_end|>\n<|im_start|>user\none"))
        #expect(outcome.report.labels == 10 && outcome.report.warnings.isEmpty)
    }

    @Test("KINDS 1: answers that are left untrained are counted") func weightZeroIsNotTrained()
        throws
    {
        let outcome = try read(
            #"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"bad","weight":0},{"role":"user","content":"q"},{"role":"assistant","content":"good","weight":1}]}"#
        )
        #expect(outcome.labelled(0) == "good<|im_end|>")
        #expect(outcome.report.untrainedAnswers == 1)
        let none = try read(
            #"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a","weight":0}]}"#
        )
        #expect(none.report.refused.first?.code == .noLabels)
        #expect(none.report.refused.first?.line == 1)
    }

    @Test func trainedPartIsChosen() throws {
        #expect(try read(Self.twoTurns) { $0.trainedPart = .last }.labelled(0) == "zwei<|im_end|>")
        let all = try read(Self.twoTurns) { $0.trainedPart = .all }
        #expect(all.labelled(0) == all.text(0))
        #expect(all.dataset.examples[0].labelCount == all.dataset.examples[0].tokens.count - 1)
        let mixed = try read(
            #"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"bad","weight":0},{"role":"user","content":"r"}]}"#
        ) { $0.trainedPart = .all }
        #expect(mixed.labelled(0).contains("q<|im_end|>"))
        #expect(!mixed.labelled(0).contains("bad"))
    }

    @Test func trimmedContentIsFound() throws {
        let outcome = try read(
            #"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"  a b \n"},{"role":"user","content":"r"},{"role":"assistant","content":"c"}]}"#,
            template: .llama2)
        // The space before the end token is the template's, and taught.
        #expect(outcome.labelled(0) == "a b </s>|c </s>")
    }

    @Test("KINDS 3: answers that nothing ends are told") func missingEndOfTurnIsReported() throws {
        let outcome = try read(Self.twoTurns, template: .headings)
        #expect(outcome.labelled(0) == "eins|zwei")
        #expect(outcome.report.warnings.contains { $0.contains("no end-of-turn token after 2") })
    }

    @Test("KINDS 3: an end token that generation does not know is told")
    func endTokenOutsideTheSetIsReported() throws {
        let outcome = try read(Self.twoTurns) { $0.endTokens = [259] }
        #expect(outcome.labelled(0) == "eins<|im_end|>|zwei<|im_end|>")
        #expect(outcome.report.warnings.contains { $0.contains("257") && $0.contains("259") })
    }

    @Test(arguments: [true, false])
    func generationSpansAreFollowed(includingEnd: Bool) throws {
        let outcome = try read(Self.twoTurns, template: .marked(includingEnd: includingEnd))
        #expect(outcome.labelled(0) == "eins<|im_end|>|zwei<|im_end|>")
    }

    @Test func templatesThatDropThoughtsAreFollowed() throws {
        let outcome = try read(
            #"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"<think>x</think>a"},{"role":"user","content":"r"},{"role":"assistant","content":"<think>y</think>b"}]}"#,
            template: .thinking)
        #expect(outcome.labelled(0) == "a<|im_end|>|<think>y</think>b<|im_end|>")
        // Without thoughts of its own the template's empty ones are prompt.
        let plain = try read(Self.twoTurns, template: .thinking)
        #expect(plain.labelled(0) == "eins<|im_end|>|zwei<|im_end|>")
    }

    @Test func answersThatCannotBeFoundAreRefused() throws {
        let outcome = try read(Self.twoTurns, template: .echo)
        #expect(outcome.report.refused.first?.code == .template)
        #expect(outcome.report.refused.first?.message.contains("messages[1]") == true)
    }

    @Test func refusalsOfTheTemplateAreTold() throws {
        let refusing = Template { _, _ in
            throw Template.Refused(description: "roles must alternate")
        }
        let outcome = try read(Self.twoTurns, template: refusing)
        #expect(outcome.report.refused.first?.message.contains("roles must alternate") == true)
    }

    @Test("KINDS 3: a missing template is an error, not a guess")
    func messagesWithoutTemplateAreRefused() throws {
        let outcome = try read(Self.twoTurns, template: nil)
        #expect(outcome.report.refused.first?.code == .noTemplate)
        #expect(throws: DatasetError.self) { try outcome.dataset.requireLabels() }
    }

    @Test func toolCallsAreTrained() throws {
        let calls = Template { messages, prompt in
            var text = ""
            for message in messages {
                let call = message.fields["tool_calls"].map { $0.text() } ?? ""
                text += "<|im_start|>\(message.role)\n\(message.content)\(call)<|im_end|>\n"
            }
            return RenderedConversation(text: prompt ? text + "<|im_start|>assistant\n" : text)
        }
        let outcome = try read(
            #"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"tool_calls":[{"name":"f"}]},{"role":"tool","content":"42"},{"role":"assistant","content":"a"}]}"#,
            template: calls)
        #expect(outcome.labelled(0) == #"[{"name":"f"}]<|im_end|>|a<|im_end|>"#)
    }

    @Test func contentPartsAreJoined() throws {
        let outcome = try read(
            #"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}"#
        )
        #expect(outcome.labelled(0) == "ab<|im_end|>")
    }

    @Test func emptyAnswerTeachesItsEnd() throws {
        let outcome = try read(
            #"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":""}]}"#)
        #expect(outcome.labelled(0) == "<|im_end|>")
    }

    @Test func completionIsLabelledWithItsEnd() throws {
        let outcome = try read(#"{"prompt":"2+2=","completion":"4"}"#)
        #expect(outcome.text(0) == "2+2=4<|im_end|>" && outcome.labelled(0) == "4<|im_end|>")
        let whole = try read(#"{"prompt":"2+2=","completion":"4"}"#) { $0.completionOnly = false }
        #expect(whole.labelled(0) == "2+2=4<|im_end|>")
        let joined = try read(#"{"prompt":"xa","completion":"b"}"#)
        #expect(joined.labelled(0) == "ab<|im_end|>")
        #expect(joined.report.warnings.contains { $0.contains("joins") })
        let messages = try read(
            #"{"prompt":[{"role":"user","content":"q"},{"role":"assistant","content":"old"},{"role":"user","content":"r"}],"completion":[{"role":"assistant","content":"new"}]}"#
        )
        #expect(messages.labelled(0) == "new<|im_end|>")
    }

    @Test("KINDS 3: a plain text has one beginning and one end") func textIsLabelledWhole() throws {
        let outcome = try read(#"{"text":"hello"}"#)
        #expect(outcome.text(0) == "hello<|im_end|>")
        #expect(outcome.dataset.examples[0].labelCount == 5)
        let begun = try read(
            #"{"text":"<s>hello<|im_end|>"}"#, tokenizer: ByteTokenizer(addsBeginning: true))
        // One beginning, one end.
        #expect(begun.text(0) == "<s>hello<|im_end|>")
        let endless = try read(#"{"text":"hello"}"#) { $0.endOfText = nil }
        #expect(endless.text(0) == "hello" && endless.report.warnings.count == 1)
        #expect(try read(#"{"text":""}"#).report.refused.first?.code == .noLabels)
    }

    @Test func alpacaAndShareGPTBecomeConversations() throws {
        let alpaca = try read(
            #"{"instruction":"Add.","input":"1, 2","output":"3","system":"S"}"#)
        #expect(alpaca.text(0).contains("system\nS<|im_end|>"))
        #expect(alpaca.text(0).contains("user\nAdd.\n\n1, 2<|im_end|>"))
        #expect(alpaca.labelled(0) == "3<|im_end|>")
        let share = try read(
            #"{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]}"#)
        #expect(share.labelled(0) == "a<|im_end|>")
    }

    @Test func longRowsAreRefusedNeverCut() throws {
        let outcome = try read(#"{"text":"0123456789"}"#) { $0.maximumLength = 10 }
        #expect(outcome.report.refused.first?.code == .tooLong)
        #expect(outcome.report.refused.first?.message.contains("11 tokens") == true)
        #expect(try read(#"{"text":"012345678"}"#) { $0.maximumLength = 10 }.report.usableRows == 1)
    }

    @Test func idsBeyondTheEmbeddingAreRefused() throws {
        let outcome = try read(#"{"text":"a"}"#) { $0.vocabularySize = 257 }
        #expect(outcome.report.refused.first?.message.contains("token 257") == true)
    }
}
