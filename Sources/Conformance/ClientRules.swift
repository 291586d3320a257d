/// What a client must do, as docs/protocol.md says.
enum ClientRules {
    static let message = Rule(
        "message",
        "sends only messages of LQP/1: frames, verb, a JSON header whose fields have their types, bodies as it names them"
    )
    static let requestID = Rule(
        "request-id", "gives each request a request_id of its own, of at most 64 bytes")
    static let submits = Rule("submits", "submits a job (SUBMIT or SUBMIT_BATCH)")
    static let jobID = Rule(
        "job-id", "chooses a job's id itself: a UUIDv7 in lower case, of about now")
    static let upload = Rule(
        "upload",
        "uploads blobs in pieces of at most 4 MiB at the offset that the broker asks for, under their digest"
    )
    static let resends = Rule(
        "resends", "sends a request that got no answer again: the same request_id, the same content"
    )
    static let unknownFields = Rule(
        "unknown-fields",
        "is not disturbed by fields that it does not know, by a second answer, or by an answer to no request of its own"
    )
    static let pages = Rule(
        "pages",
        "reads all pages of a job's lines: sends each `next` back as `after`, until `complete`")
    static let output = Rule(
        "output", "prints something of each line that was answered: its custom_id")
    static let success = Rule("success", "exits with status 0 when its job has succeeded")
    static let refusal = Rule(
        "refusal", "exits with another status than 0 when the broker refuses its job")
    static let silence = Rule(
        "silence", "gives up, with another status than 0, where there is no broker")

    static let all = [
        message, requestID, submits, jobID, upload, resends, unknownFields, pages, output, success,
        refusal, silence,
    ]
}
