import JSONModel
import LoraqClient
import WireProtocol

/// How far a sweep has come: from the result of the job that chooses, or, as long as there is none, from its spec and the
/// state of the jobs before it.
struct SweepView {
    let job: JobSnapshot
    /// The name that the winner gets, `M:best`.
    let name: String
    let metric: String
    let goal: ChooseSpec.Goal
    let isStages: Bool
    let rows: [Choice.Row]
    let best: Int?
    let conclusion: String?

    /// - Parameter selector: The id that `sweep` printed, or its label.
    /// - Throws: A usage error when it names no sweep, or several.
    static func load(_ selector: String, _ session: Session) throws -> SweepView {
        let jobs = try session.client.status([selector], withSpecs: true)
            .filter { $0.kind == "choose" }
        guard jobs.count == 1 else {
            throw ToolError.usage(
                jobs.isEmpty
                    ? "`\(TextTable.oneLine(selector))` is no sweep"
                    : "`\(TextTable.oneLine(selector))` names \(jobs.count) sweeps",
                hint:
                    "give the id that `loraq sweep` printed; `loraq jobs --kind choose` lists sweeps"
            )
        }
        return try SweepView(jobs[0], session)
    }

    init(_ job: JobSnapshot, _ session: Session) throws {
        var job = job
        if job.spec == nil {
            job = try session.client.status([job.id], withSpecs: true).first ?? job
        }
        guard let spec = try? WireDecoder.decode(ChooseSpec.self, from: job.spec ?? .null) else {
            throw ToolError(.failure, "the broker does not tell what job \(job.id) chooses among")
        }
        let made = job.result.flatMap { try? WireDecoder.decode(ChooseResult.self, from: $0) }
        let choice = made == nil ? Choice(spec, outcomes: try Self.outcomes(spec, session)) : nil
        let rows = made?.candidates ?? choice?.rows ?? []
        let model = spec.candidates.compactMap(\.adapter).first?.model.text ?? ""
        self.job = job
        name = "\(model):\(spec.name)"
        metric = spec.metric ?? ""
        goal = spec.goal ?? .max
        isStages = spec.stages != nil
        self.rows = rows
        best =
            made.map { made in
                rows.firstIndex { $0.adapter?.adapter == made.chosen.adapter }
            } ?? choice?.best
        conclusion = made?.conclusion ?? choice?.conclusion
    }

    private static func outcomes(
        _ spec: ChooseSpec, _ session: Session
    ) throws -> [JobID: TaskEnvelope.Outcome] {
        let ids = spec.candidates.flatMap { [$0.finetune, $0.evaluation] }.compactMap { $0?.text }
        guard !ids.isEmpty else { return [:] }
        var outcomes: [JobID: TaskEnvelope.Outcome] = [:]
        for job in try session.client.status(ids) {
            guard let id = JobID(text: job.id), let state = JobState(rawValue: job.state) else {
                continue
            }
            outcomes[id] = TaskEnvelope.Outcome(
                job: id, state: state, metrics: job.metrics, error: job.error)
        }
        return outcomes
    }

    /// The document of `sweep show --json`.
    func json() throws -> JSONValue {
        var object: JSONObject = [
            "job": .string(job.id), "state": .string(job.state), "name": .string(name),
            "metric": .string(metric), "goal": .string(goal.rawValue),
            "candidates": .array(try rows.map { try WireEncoder.encode($0) }),
        ]
        object["label"] = job.label.map { .string($0) }
        object["best"] = best.flatMap { rows[$0].adapter }.map { .string($0.text) }
        object["conclusion"] = conclusion.map { .string($0) }
        object["adapter"] = job.result?["adapter"]
        return .object(object)
    }
}
