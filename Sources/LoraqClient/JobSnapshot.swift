import JSONModel
import WireProtocol

/// A job object as the broker sent it, with views of what a client looks at.
///
/// Reads leniently: a field that is absent or of another form is nil, and `json` keeps everything, so a
/// newer broker's fields reach the person who asked for `--json`.
public struct JobSnapshot: Sendable, Equatable {
    public let json: JSONValue
    public let id: String
    public let state: String

    /// - Throws: `.badAnswer` when the object names no job or no state.
    public init(_ json: JSONValue) throws(ClientError) {
        guard let id = json["job"]?.string, let state = json["state"]?.string else {
            throw ClientError(.badAnswer, "the broker sent a job without `job` or `state`")
        }
        self.json = json
        self.id = id
        self.state = state
    }

    public static let finalStates: Set<String> = [
        "succeeded", "failed", "cancelled", "skipped", "dependency_failed",
    ]

    public var isFinal: Bool { JobSnapshot.finalStates.contains(state) }
    public var kind: String { json["kind"]?.string ?? "" }
    public var label: String? { json["label"]?.string }
    public var tenant: String { json["tenant"]?.string ?? "default" }
    public var priority: Int { json["priority"]?.integer ?? 0 }
    public var createdAtMs: Int? { json["created_at_ms"]?.integer }
    public var startedAtMs: Int? { json["started_at_ms"]?.integer }
    public var finishedAtMs: Int? { json["finished_at_ms"]?.integer }
    public var progress: JSONValue? { present("progress") }
    public var result: JSONValue? { present("result") }
    public var usage: JSONValue? { present("usage") }
    /// Where it was asked for.
    public var spec: JSONValue? { present("spec") }
    /// What `after … if` reads.
    public var metrics: [String: Double] {
        var metrics: [String: Double] = [:]
        for entry in json["metrics"]?.object?.entries ?? [] {
            metrics[entry.key] = entry.value.double
        }
        return metrics
    }
    public var error: ErrorObject? { present("error").flatMap(JobSnapshot.errorObject) }
    public var reason: (code: String, message: String)? {
        guard let reason = present("reason"), let message = reason["message"]?.string else {
            return nil
        }
        return (reason["code"]?.string ?? "", message)
    }

    /// Tasks in one of the `counts`; 0 where the broker does not say.
    public func count(_ name: String) -> Int { json["counts"]?[name]?.integer ?? 0 }
    /// All tasks of the job, or nil while its file is being split.
    public var total: Int? { json["counts"]?["total"]?.integer }
    /// Tasks that will not change any more.
    public var finished: Int {
        count("done") + count("failed") + count("cancelled") + count("dead")
    }
    /// Tasks that ended without a result.
    public var lost: Int { count("failed") + count("dead") }

    private func present(_ key: String) -> JSONValue? {
        json[key].flatMap { $0.isNull ? nil : $0 }
    }

    static func errorObject(_ value: JSONValue) -> ErrorObject? {
        if let exact = try? WireDecoder.decode(ErrorObject.self, from: value) { return exact }
        guard let message = value["message"]?.string else { return nil }
        return ErrorObject(
            ErrorCode(value["code"]?.string ?? "INTERNAL"), .internal, message,
            hint: value["hint"]?.string)
    }
}
