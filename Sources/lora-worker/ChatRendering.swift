import ChatTemplate
import Datasets
import JSONModel
import WireProtocol

/// The one path from messages to text, for inference and training alike.
enum ChatRendering {
    /// - Parameter now: What `strftime_now` shows: the job's own time, so that a retry asks the same.
    /// - Throws: `NO_TEMPLATE` when the model has none or it is not understood; the template's own errors.
    static func render(
        _ model: LoadedModel, messages: [JSONValue], tools: JSONValue?, variables: JSONObject,
        addGenerationPrompt: Bool, now: LocalTime
    ) throws -> RenderedConversation {
        let template: ConversationTemplate
        switch model.template {
        case nil:
            throw TaskFailure.user(
                .noTemplate, "the model has no chat template",
                hint:
                    "give `prompt` instead of `messages`, or add chat_template.jinja to the model's folder and add it again"
            )
        case .failure(let error):
            throw TaskFailure.user(
                .noTemplate, "the model's chat template is not understood: \(error)")
        case .success(let known): template = known
        }
        do {
            let rendered = try template.render(
                messages: .array(messages), tools: tools, addGenerationPrompt: addGenerationPrompt,
                variables: variables, specialTokens: model.templateTokens, now: now)
            return RenderedConversation(
                text: rendered.text, generationSpans: rendered.generationSpans)
        } catch {
            throw TaskFailure.user("TEMPLATE", "\(error)", field: "body.messages")
        }
    }
}

/// A model's template as the training data sees it.
struct TrainingRenderer: ConversationRenderer {
    let model: LoadedModel
    let now: LocalTime

    func renderConversation(
        _ messages: JSONValue, tools: JSONValue?, addGenerationPrompt: Bool, variables: JSONObject
    ) throws -> RenderedConversation {
        try ChatRendering.render(
            model, messages: messages.array ?? [], tools: tools, variables: variables,
            addGenerationPrompt: addGenerationPrompt, now: now)
    }
}

extension TaskEnvelope {
    /// When the job was made: a UUIDv7 begins with it, in milliseconds. The same for every attempt.
    var jobTime: LocalTime { LocalTime(secondsSince1970: Int(job.high >> 16) / 1000) }
}
