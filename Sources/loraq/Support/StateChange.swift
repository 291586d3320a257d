import ArgumentParser
import JSONModel
import LoraqClient
import WireProtocol

/// `cancel`, `hold` and `release` differ in their verb only.
enum StateChange {
    static func run(
        _ verb: Verb, _ jobs: [String], reason: String? = nil, _ session: Session
    ) throws {
        // `all` stands for those that can be changed; of jobs that are named each one counts.
        let named = jobs.contains("all") ? [] : try session.client.status(jobs)
        var header: JSONObject = ["jobs": .array(jobs.map { .string($0) })]
        header["reason"] = reason.map { .string($0) }
        let reply = try session.call(verb, header)
        let changed = reply.header["jobs"]?.array ?? []
        let ids = Set(changed.compactMap { $0["job"]?.string })
        let left = named.filter { !ids.contains($0.id) }
        if session.json {
            try session.print(json: document(reply.header, left))
        } else {
            try show(changed, left, verb, session)
        }
        // Of a label's jobs some may have ended before the others.
        if left.contains(where: { job in !(job.label.map(jobs.contains) ?? false) }) {
            throw ExitCode(ExitStatus.failure.rawValue)
        }
    }

    private static func document(_ reply: JSONValue, _ left: [JobSnapshot]) -> JSONValue {
        guard !left.isEmpty, var object = reply.object else { return reply }
        object["unchanged"] = .array(
            left.map { ["job": .string($0.id), "state": .string($0.state)] })
        return .object(object)
    }

    private static func show(
        _ changed: [JSONValue], _ left: [JobSnapshot], _ verb: Verb, _ session: Session
    ) throws {
        for job in changed {
            let state = job["state"]?.string ?? ""
            try session.print("\(job["job"]?.string ?? "?")  \(session.style.state(state))")
        }
        for job in left {
            session.note(
                "\(job.id) has ended (\(job.state)): there is nothing to \(verb.rawValue.lowercased())"
            )
        }
        if changed.isEmpty, left.isEmpty { session.note("no jobs") }
    }
}
