import JSONModel
import Testing

@testable import WireProtocol

private func read(_ text: String, model: String? = nil) -> Result<BatchLine, WireError> {
    let reference = model.flatMap(ArtifactReference.init(text:))
    return Array(text.utf8).withUnsafeBytes { buffer in
        do throws(WireError) {
            return .success(try BatchLine(bytes: buffer, isInfer: true, defaultModel: reference))
        } catch {
            return .failure(error)
        }
    }
}

private func refusal(_ text: String) -> WireError? {
    if case .failure(let error) = read(text) { error } else { nil }
}

@Test func aLineNamesItsModelOrTakesTheDefault() throws {
    let line = #"{"custom_id":"a","url":"/v1/completions","body":{"prompt":"x"}}"#
    #expect(try read(line, model: "M:A").get().model?.text == "M:A")
    let own = #"{"custom_id":"a","url":"/v1/completions","body":{"model":"N@2"}}"#
    #expect(try read(own, model: "M:A").get().model?.text == "N@2")
    #expect(refusal(line)?.key == "body.model")
}

@Test func everyFaultOfALineIsNamed() {
    #expect(refusal("")?.code == .badLine)
    #expect(refusal("{\"custom_id\": \"a\"")?.message.contains("not JSON") == true)
    #expect(refusal("[1]")?.code == .badLine)
    #expect(refusal(#"{"custom_id":null}"#)?.key == "custom_id")
    #expect(refusal(#"{"custom_id":"a","custom_id":"b"}"#)?.code == .badLine)
    #expect(refusal(#"{"custom_id":"a","url":"/v1/chat/completions","body":null}"#)?.key == "body")
    #expect(
        refusal(#"{"custom_id":"a","url":"/v1/chat/completions","body":{"model":7}}"#)?.key
            == "body.model")
}

@Test func aPluginsOwnLineNeedsOnlyItsID() throws {
    let line = try BatchLine(.parse(#"{"custom_id":"a","anything":1}"#), isInfer: false)
    #expect(line.customID == "a")
    #expect(line.model == nil)
}

@Test func aSubmissionOfABuiltInKindIsCheckedWithItsInputs() throws {
    let job = JobID(timestampMs: 1, random: (1, 1))
    func submission(_ kind: String, _ spec: JSONValue, _ inputs: [String] = []) -> Submission {
        Submission(
            id: job, kind: WireName(known: kind), spec: spec,
            inputs: inputs.map {
                .init(name: WireName(known: $0), source: .body(WireName(known: $0)))
            })
    }
    let finetune = try BuiltInSpec(
        submission(
            "finetune", ["model": "tiny", "name": "a", "recipe": ["adapter": "tiny:b"]], ["train"]))
    #expect(finetune?.product?.text == "tiny:a")
    #expect(finetune?.references.map(\.text) == ["tiny", "tiny:b"])
    #expect(try BuiltInSpec(submission("mine", ["any": "thing"])) == nil)
    let missing = #expect(throws: WireError.self) {
        try BuiltInSpec(submission("finetune", ["model": "tiny", "name": "a"]))
    }
    #expect(missing?.key == "inputs")
    let extra = #expect(throws: WireError.self) {
        try BuiltInSpec(submission("infer", [:], ["lines", "train"]))
    }
    #expect(extra?.key == "inputs[1].name")
    let typo = #expect(throws: WireError.self) {
        try BuiltInSpec(
            submission(
                "finetune", ["model": "tiny", "name": "a", "recipe": ["learning-rate": 1]],
                ["train"]))
    }
    #expect(typo?.key == "spec.recipe.learning-rate")
    #expect(typo?.code == .invalidSpec)
    #expect(typo?.message.contains("learning_rate") == true)
}
