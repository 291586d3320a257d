import JSONModel
import LinuxSystem
import LoraqClient
import WireProtocol

/// All that a report tells of a fine-tune, gathered from the broker.
struct ReportData {
    var job: JobSnapshot
    /// As it was submitted; nil where the broker does not say.
    var spec: JSONValue?
    /// The adapter as it is registered, and the base that it was made for; nil where they are not there (any more).
    var adapter: JSONValue?
    var model: JSONValue?
    /// `training.json` beside the adapter.
    var training: JSONValue?
    var course = TrainingCourse()
    /// The lines of `metrics.jsonl`.
    var metrics: [JSONValue] = []
    var samples = ReportSamples.none("")
    var madeAtMs: Int
    /// What the report lacks, and why.
    var notes: [String] = []

    init(job: JobSnapshot, madeAtMs: Int) {
        self.job = job
        self.madeAtMs = madeAtMs
    }

    /// Everything but the samples.
    static func gather(_ job: JobSnapshot, _ session: Session) throws -> ReportData {
        var job = job
        if job.state == "succeeded", job.result == nil, var object = job.json.object {
            // Too long to stand in the job's object.
            object["result"] = try Evaluate.fetched(job, session)
            job = try JobSnapshot(.object(object))
        }
        var data = ReportData(job: job, madeAtMs: WallClock.milliseconds())
        var feed = MetricsFeed(session: session, job: job.id)
        try feed.refresh()
        data.course = feed.course
        data.metrics = feed.fresh
        if feed.course.isEmpty { data.notes.append("The worker's measurements are not there.") }
        data.spec = try optional {
            try session.call("INPUT", ["job": .string(job.id)]).header["spec"]
        }
        try data.findAdapter(session)
        return data
    }

    /// Nil for what the broker refuses, as what it does not have or know.
    private static func optional<T>(_ question: () throws -> T?) throws -> T? {
        do { return try question() } catch let error as ClientError {
            guard case .refused = error.kind else { throw error }
            return nil
        }
    }

    private mutating func findAdapter(_ session: Session) throws {
        guard let product = job.result?["adapter"], let name = product["name"]?.string else {
            return
        }
        let found = try session.client.artifacts(type: "adapter", name: name)
        adapter =
            found.first {
                $0["digest"] == product["digest"] && $0["meta"]?["job"]?.string == job.id
            }
            ?? found.last { $0["digest"] == product["digest"] }
        guard let adapter else {
            return notes.append("The adapter is not registered any more.")
        }
        let base = adapter["meta"]?["base"]
        let modelName = String(name.prefix { $0 != ":" && $0 != "@" })
        model = try session.client.artifacts(type: "model", name: modelName)
            .last { $0["meta"]?["base"] == base }
        if model == nil { notes.append("The base model is not registered any more.") }
        guard let pinned = Self.pinned(adapter) else { return }
        training = try Self.optional { try Self.file("training.json", of: pinned, session) }
            .flatMap { try? JSONValue.parse($0) }
    }

    /// `M:A@3`
    static func pinned(_ artifact: JSONValue) -> String? {
        guard let name = artifact["name"]?.string, let version = artifact["version"]?.integer else {
            return nil
        }
        return "\(name)@\(version)"
    }

    private static let maximumFileBytes = 64 << 20

    private static func file(_ name: String, of artifact: String, _ session: Session) throws
        -> [UInt8]
    {
        var bytes: [UInt8] = []
        while true {
            let reply = try session.call(
                .get,
                [
                    "artifact": .string(artifact), "file": .string(name),
                    "offset": .integer(Int64(bytes.count)),
                ])
            let piece = reply.body("piece") ?? []
            bytes += piece
            let size = min(reply.header["size"]?.integer ?? 0, maximumFileBytes)
            if piece.isEmpty || bytes.count >= size { return bytes }
        }
    }

    // MARK: Views

    /// Every field with its effective value, or those that were given.
    var recipe: [(key: String, value: JSONValue)] {
        let fields = training?["recipe"]?.object ?? spec?["recipe"]?.object ?? JSONObject()
        return fields.entries.filter { !$0.value.isNull }.map { ($0.key, $0.value) }
    }

    func wasGiven(_ field: String) -> Bool { spec?["recipe"]?[field] != nil }

    /// Digests of what was trained and evaluated.
    var inputs: [(name: String, digest: String)] {
        (job.result?["inputs"]?.object?.entries ?? []).compactMap { entry in
            entry.value.string.map { (String(entry.key), $0) }
        }
    }

    /// The document of `--json`.
    var json: JSONValue {
        var object = JSONObject([(key: "job", value: job.json)])
        object["spec"] = spec
        object["adapter"] = adapter
        object["model"] = model
        object["training"] = training
        object["metrics"] = .array(metrics)
        object["samples"] = samples.json
        object["notes"] = .array(notes.map { .string($0) })
        return .object(object)
    }
}
