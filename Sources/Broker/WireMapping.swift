import BrokerCore
import JSONModel
import LinuxSystem
import WireProtocol

// From the core's words to the wire's, and back. Both sides check their own values, so what cannot
// be mapped is a fault of loraq and shows as such.

extension BrokerError {
    var wire: ErrorObject {
        var values: [(key: String, value: JSONValue)] = details.sorted { $0.key < $1.key }.map {
            ($0.key, $0.value.json)
        }
        if let opaqueDetails, let value = try? JSONValue.parse(opaqueDetails) {
            if values.isEmpty { return wire(details: value) }
            values.append(("worker", value))
        }
        return wire(details: values.isEmpty ? nil : .object(JSONObject(values)))
    }

    private func wire(details: JSONValue?) -> ErrorObject {
        ErrorObject(
            Wire.ErrorCode(code.rawValue),
            Wire.ErrorClass(rawValue: errorClass.rawValue) ?? .internal,
            message, hint: hint, retryAfterMs: retryAfterMilliseconds, details: details)
    }

    init(_ error: ErrorObject) {
        self.init(
            ErrorCode(rawValue: error.code.rawValue),
            ErrorClass(rawValue: error.class.rawValue) ?? .internal, error.message,
            hint: error.hint, retryAfterMilliseconds: error.retryAfterMs,
            opaqueDetails: error.details?.serialized())
    }
}

extension DetailValue {
    var json: JSONValue {
        switch self {
        case .text(let text): .string(text)
        case .integer(let value): .integer(value)
        case .number(let value): value.isFinite ? .number(value) : .null
        case .list(let items): .array(items.map(JSONValue.string))
        }
    }
}

extension [String: DetailValue] {
    var json: JSONValue? {
        isEmpty
            ? nil : .object(JSONObject(sorted { $0.key < $1.key }.map { ($0.key, $0.value.json) }))
    }
}

extension JobID {
    init(_ id: Wire.JobID) { self.init(high: id.high, low: id.low) }

    func wire() throws(WireError) -> Wire.JobID { try Wire.JobID(checking: text) }
}

extension TaskID {
    init(_ id: Wire.TaskID) { self.init(job: JobID(id.job), index: id.index) }

    func wire() throws(WireError) -> Wire.TaskID {
        Wire.TaskID(job: try job.wire(), index: index)
    }
}

extension AttemptKey {
    init(_ reference: AttemptReference) {
        self.init(
            task: TaskID(reference.task), attempt: reference.attempt,
            lease: Token(high: reference.lease.high, low: reference.lease.low))
    }

    func wire() throws(WireError) -> AttemptReference {
        AttemptReference(
            task: try task.wire(), attempt: attempt,
            lease: LeaseToken(high: lease.high, low: lease.low))
    }
}

extension Digest {
    init?(_ digest: BlobDigest) { self.init(hex: digest.hex) }
    init?(_ digest: ContentDigest) { self.init(hex: digest.hex) }

    func wire() throws(WireError) -> BlobDigest { try BlobDigest(checking: text) }

    /// Always there: both are 64 hexadecimal digits.
    var content: ContentDigest? { ContentDigest(text: text) }
}

extension JobState {
    func wire() throws(WireError) -> Wire.JobState {
        guard let state = Wire.JobState(rawValue: rawValue) else {
            throw WireError(.internalError, "the state \(rawValue) has no wire form")
        }
        return state
    }
}

extension JobCounts {
    var wire: Wire.JobCounts {
        Wire.JobCounts(
            total: total, ready: total == nil ? 0 : ready, leased: leased, backoff: backoff,
            done: done, failed: failed, cancelled: cancelled, dead: dead)
    }
}

extension ProgressReport {
    var wire: ProgressObject {
        ProgressObject(
            counter: Int(counter), done: done, total: total, unit: unit,
            metrics: metrics.isEmpty ? nil : metrics.filter(\.value.isFinite), message: message)
    }
}

extension Explanation {
    var wire: ReasonObject {
        ReasonObject(code: code, message: message, details: details.json)
    }
}

extension Dependency {
    init(_ dependency: Wire.Dependency) {
        self.init(
            job: JobID(dependency.job), mode: dependency.on == .success ? .success : .finish,
            condition: dependency.if.flatMap { condition in
                ComparisonOperator(rawValue: condition.op.rawValue).map {
                    DependencyCondition(
                        metric: condition.metric, comparison: $0, value: condition.value)
                }
            }, told: dependency.tell)
    }

    func wire() throws(WireError) -> Wire.Dependency {
        var wire = Wire.Dependency(
            job: try job.wire(), on: mode == .success ? .success : .finish, tell: told)
        if let condition,
            let op = Wire.Dependency.Comparison(rawValue: condition.comparison.rawValue)
        {
            wire.if = .init(metric: condition.metric, op: op, value: condition.value)
        }
        return wire
    }
}

extension JobRecord {
    func wire(
        progress: ProgressReport? = nil, explanation: Explanation? = nil, result: JSONValue? = nil
    ) throws(WireError) -> JobObject {
        var after: [Wire.Dependency] = []
        for dependency in submission.after { after.append(try dependency.wire()) }
        var object = JobObject(
            job: try id.wire(), kind: try WireName(checking: submission.kind),
            state: try status.state.wire(), label: submission.label,
            tenant: try WireName(checking: submission.tenant), priority: submission.priority,
            createdAtMs: Int(createdAt), counts: status.counts.wire, after: after,
            usage: status.usage.filter(\.value.isFinite), numerics: status.numerics)
        object.startedAtMs = status.startedAt.map(Int.init)
        object.finishedAtMs = status.finishedAt.map(Int.init)
        object.progress = progress?.wire
        object.error = status.error?.wire
        object.reason = explanation?.wire
        object.result = result
        object.metrics = status.metrics.isEmpty ? nil : status.metrics.filter(\.value.isFinite)
        return object
    }
}

extension ArtifactRecord {
    func wire() throws(WireError) -> ArtifactObject {
        guard let type = ArtifactType(rawValue: type) else {
            throw WireError(.internalError, "the artifact type \(type) has no wire form")
        }
        var names: [WireName] = []
        for tag in tags { names.append(try WireName(checking: tag)) }
        return ArtifactObject(
            type: type, name: try Wire.ArtifactReference(checking: name), version: version,
            digest: try digest.wire(), bytes: Int(bytes), createdAtMs: Int(createdAt),
            job: try job?.wire(), tags: names,
            meta: (try? JSONValue.parse(meta)) ?? .object(JSONObject()))
    }
}

extension BrokerEvent {
    /// - Parameter last: The number of the last event that was kept, for those that are not.
    func wire(last: Int64) throws(WireError) -> EventObject {
        var fields: [(key: String, value: JSONValue)] = []
        if let attempt { fields.append(("attempt", .integer(Int64(attempt)))) }
        if let artifact { fields.append(("artifact", .string(artifact))) }
        if let code { fields.append(("code", .string(code))) }
        if let message { fields.append(("message", .string(message))) }
        if let progress, let value = try? WireEncoder.encode(progress.wire) {
            fields.append(("progress", value))
        }
        var taskID: Wire.TaskID?
        if let job, let task { taskID = Wire.TaskID(job: try job.wire(), index: task) }
        return EventObject(
            event: Int(number ?? last), type: type, atMs: Int(at), job: try job?.wire(),
            task: taskID, worker: worker, fields: JSONObject(fields))
    }
}
