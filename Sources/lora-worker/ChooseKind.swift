import JSONModel
import LinuxSystem
import WireProtocol
import WorkerRuntime

/// `choose`: registers the best of several adapters under another name.
///
/// It follows from the spec and from how the jobs before it ended, so an attempt that was killed is simply done again.
enum ChooseKind {
    static func run(_ context: JobContext) throws -> JobOutcome {
        guard case .choose(let spec) = try context.spec() else {
            throw TaskFailure.user(.invalidSpec, "this is no spec of `choose`")
        }
        let choice = Choice(spec, outcomes: try outcomes(spec, context))
        guard let place = choice.best, let wanted = choice.rows[place].adapter else {
            let reason = choice.rows.compactMap(\.reason).first ?? "nothing was evaluated"
            throw TaskFailure.user(
                "NO_CANDIDATE",
                "none of the \(choice.rows.count) candidates can be chosen; the first: \(reason)",
                hint: "`loraq sweep show \(context.envelope.job)` tells of each")
        }
        guard let artifact = context.envelope.artifact(wanted.text) else {
            throw TaskFailure.user(.unknownArtifact, "the best, \(wanted), is not there any more")
        }
        let folder = try context.workdir() + "/adapter"
        try DurableFile.removeTree(folder)
        try DurableFile.createDirectories(folder)
        let bytes = try FilePath.entries(of: artifact.path).reduce(0) {
            $0 + (try DurableFile.copy("\(artifact.path)/\($1)", to: "\(folder)/\($1)"))
        }
        let reference = ArtifactReference(model: artifact.name.model, adapter: spec.name)
        let pinned = artifact.name.pinned(to: artifact.version)
        let conclusion = choice.conclusion ?? ""
        let result = ChooseResult(
            adapter: reference, digest: artifact.digest, bytes: bytes, chosen: pinned,
            metric: spec.metric, goal: spec.goal, candidates: choice.rows, conclusion: conclusion)
        let made = TaskResult.Artifact(
            type: .adapter, name: reference, digest: artifact.digest, path: "adapter", bytes: bytes,
            meta: meta(artifact, pinned, choice.rows[place].value, spec, context))
        return JobOutcome(
            result: try WireEncoder.encode(result),
            metrics: spec.metric.flatMap { metric in
                choice.rows[place].value.map { [metric: $0] }
            }, artifacts: [made])
    }

    private static func outcomes(
        _ spec: ChooseSpec, _ context: JobContext
    ) throws -> [JobID: TaskEnvelope.Outcome] {
        var outcomes: [JobID: TaskEnvelope.Outcome] = [:]
        for outcome in context.envelope.outcomes ?? [] { outcomes[outcome.job] = outcome }
        for (index, candidate) in spec.candidates.enumerated() {
            for job in [candidate.finetune, candidate.evaluation].compactMap({ $0 })
            where outcomes[job] == nil {
                throw TaskFailure.user(
                    .invalidSpec,
                    "spec.candidates[\(index)]: job \(job) is not in `after` with `tell`",
                    hint: #"submit it with after: {"job": …, "on": "finish", "tell": [metrics]}"#)
            }
        }
        return outcomes
    }

    /// What is known of the chosen one, and where it comes from.
    private static func meta(
        _ artifact: TaskEnvelope.Artifact, _ pinned: ArtifactReference, _ value: Double?,
        _ spec: ChooseSpec, _ context: JobContext
    ) -> JSONValue {
        var meta = artifact.meta?.object ?? JSONObject()
        meta["job"] = .string(context.envelope.job.text)
        meta["parents"] = [
            [
                "adapter": .string(pinned.text), "digest": .string(artifact.digest.text),
                "weight": 1,
            ]
        ]
        if let metric = spec.metric, let value {
            meta["chosen_by"] = ["metric": .string(metric), "value": .number(value)]
        }
        return .object(meta)
    }
}
