/// What a worker must do, as docs/protocol.md says; in the order in which it is tried.
enum WorkerRules {
    static let hello = Rule(
        "hello",
        "says HELLO with a request_id, the instance and plugin that it was given, its kinds, and nothing held"
    )
    static let helloAgain = Rule(
        "hello-again", "says HELLO again, with a new request_id, when none is answered")
    static let staleWelcome = Rule("stale-welcome", "ignores a WELCOME to an older HELLO")
    static let credit = Rule(
        "credit",
        "states its credit under the session: totals by resource class, at most 256 in all")
    static let beat = Rule("beat", "sends BEATs about as often as WELCOME says, with its memory")
    static let robust = Rule(
        "robust",
        "goes on after unknown verbs, frames that are no message, and stops of what it does not hold"
    )
    static let foreignSession = Rule(
        "foreign-session", "ignores a TASK of a session that is not its own")
    static let result = Rule(
        "result",
        "answers each task with one RESULT under its task, attempt and lease; fields that it does not know do not disturb it"
    )
    static let body = Rule(
        "body",
        "a result's body is one JSON object without line break; of a line it has the line's custom_id"
    )
    static let sequence = Rule(
        "sequence", "counts RESULT, PROGRESS and LOG of a session from 1 without gaps")
    static let keeps = Rule("keeps", "names what has ended and is not acknowledged in its BEATs")
    static let sessionLost = Rule(
        "session-lost",
        "says HELLO anew when its session is unknown, with what it holds as finished")
    static let resends = Rule(
        "resends", "sends results again under a new session until they are acknowledged")
    static let forgets = Rule("forgets", "forgets what was acknowledged and what BEAT_ACK drops")
    static let creditGrows = Rule(
        "credit-grows", "raises its credit when results are taken, so that work goes on")
    static let unknownKind = Rule(
        "unknown-kind", "answers a task of a kind that it does not know with an error of class user"
    )
    static let cancel = Rule(
        "cancel",
        "ends a running task soon after CANCEL, as cancelled; a second CANCEL is nothing new")
    static let preempt = Rule("preempt", "gives way soon after PREEMPT, as preempted")
    static let drain = Rule(
        "drain", "after DRAIN finishes what it holds, says BYE and exits with status 0")
    static let terminate = Rule("terminate", "after SIGTERM says BYE and exits with status 0")
    static let finalError = Rule(
        "final-error", "exits when its HELLO is refused with an error of class user")

    static let all = [
        hello, helloAgain, staleWelcome, credit, beat, robust, foreignSession, result, body,
        sequence, keeps, sessionLost,
        resends, forgets, creditGrows, unknownKind, cancel, preempt, drain, terminate, finalError,
    ]
}
