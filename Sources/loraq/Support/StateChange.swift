import JSONModel
import WireProtocol

/// `cancel`, `hold` and `release` differ in their verb only.
enum StateChange {
    static func run(
        _ verb: Verb, _ jobs: [String], reason: String? = nil, _ session: Session
    ) throws {
        var header: JSONObject = ["jobs": .array(jobs.map { .string($0) })]
        header["reason"] = reason.map { .string($0) }
        let reply = try session.call(verb, header)
        if session.json { return try session.print(json: reply.header) }
        let changed = reply.header["jobs"]?.array ?? []
        for job in changed {
            let state = job["state"]?.string ?? ""
            try session.print("\(job["job"]?.string ?? "?")  \(session.style.state(state))")
        }
        if changed.isEmpty { session.note("no jobs") }
    }
}
