import JSONModel
import LoraqClient
import WireProtocol

/// The jobs of a sweep: a fine-tune and an evaluation each, and one that chooses, which comes after all of them.
///
/// The whole decision lies in `after` and in the spec of the last job, so nothing depends on the client that submitted it.
struct SweepGraph {
    /// `M` or `M@2`.
    let model: String
    /// The winner's name.
    let name: String
    /// As `evaluate` calls it.
    let metric: String
    let train: JobRequest.Input
    let evaluation: JobRequest.Input
    /// Id, priority, tenant, label, `after` for all of them; the id is that of the job that chooses.
    let common: JobRequest

    private var base: String { String(model.prefix { $0 != "@" && $0 != "#" }) }
    private var goal: ChooseSpec.Goal { metric == "loss" ? .min : .max }

    /// Fields by which a fine-tune itself asks for the held-out rows.
    private static let evaluatingFields: Set<String> = [
        "eval_steps", "load_best_model_at_end", "early_stopping_patience",
        "early_stopping_threshold", "metric_for_best_model",
    ]

    /// `best.3f9a2c.4`: no other sweep makes an adapter of that name.
    static func adapterName(_ name: String, sweep id: String, place: Int) -> String {
        "\(name).\(id.suffix(6)).\(place)"
    }

    /// Every combination on its own: in order fine-tune, evaluation, and so on; last the job that chooses.
    func jobs(_ candidates: [SweepCandidate]) throws -> [JobRequest] {
        var jobs: [JobRequest] = []
        var entries: [ChooseSpec.Candidate] = []
        for (index, candidate) in candidates.enumerated() {
            let finetune = try self.finetune(candidate, place: index + 1, draft: candidate.recipe)
            let evaluation = try self.evaluation(of: index + 1, over: nil, after: finetune)
            jobs += [finetune, evaluation]
            entries.append(try entry(candidate, index + 1, finetune, evaluation))
        }
        return jobs + [try choose(entries, stages: nil)]
    }

    /// One after the other, each begun from the one before, as long as that is worth it.
    func jobs(_ stages: [SweepStages.Stage], _ rule: StageRule) throws -> [JobRequest] {
        var jobs: [JobRequest] = []
        var entries: [ChooseSpec.Candidate] = []
        var before: (place: Int, evaluation: JobRequest)?
        for (index, stage) in stages.enumerated() {
            if let reason = stage.leftOut {
                entries.append(
                    ChooseSpec.Candidate(title: stage.candidate.title, leftOut: reason))
                continue
            }
            var draft = stage.candidate.recipe
            if let before {
                let start = Self.adapterName(name, sweep: common.id, place: before.place)
                try draft.apply(setting: "adapter=\(base):\(start)", option: "--progressive")
            }
            var finetune = try self.finetune(stage.candidate, place: index + 1, draft: draft)
            if let before {
                finetune.after = rule.conditions(isFirst: before.place == 1).map {
                    JobRequest.Dependency(
                        job: before.evaluation.id, condition: Self.json($0))
                }
            }
            let evaluation = try self.evaluation(
                of: index + 1, over: before?.place, after: finetune)
            jobs += [finetune, evaluation]
            entries.append(try entry(stage.candidate, index + 1, finetune, evaluation))
            before = (index + 1, evaluation)
        }
        let stages = ChooseSpec.Stages(target: rule.target, minimumGain: rule.minimumGain)
        return jobs + [try choose(entries, stages: stages)]
    }

    private static func json(_ condition: Dependency.Condition) -> JSONValue {
        [
            "metric": .string(condition.metric), "op": .string(condition.op.rawValue),
            "value": .number(condition.value),
        ]
    }

    private func request(_ kind: String, place: Int, _ spec: JSONValue) throws -> JobRequest {
        var request = common
        request.kind = kind
        request.spec = spec
        request.id = try JobRequest.id(common.id, place: place)
        return request
    }

    private func finetune(
        _ candidate: SweepCandidate, place: Int, draft: RecipeDraft
    ) throws -> JobRequest {
        var request = try request(
            "finetune", place: 2 * place - 1,
            [
                "model": .string(model),
                "name": .string(Self.adapterName(name, sweep: common.id, place: place)),
                "recipe": try draft.checked(model: model),
            ])
        request.inputs = [train]
        // A recipe that holds back rows of the training file has its own.
        let names = Set(draft.values.map(\.name))
        if !names.isDisjoint(with: Self.evaluatingFields), !names.contains("val_set_size") {
            request.inputs.append(evaluation)
        }
        return request
    }

    /// Beside the stage before (or the model without adapter) in stages; alone in a grid.
    private func evaluation(
        of place: Int, over other: Int?, after finetune: JobRequest
    ) throws -> JobRequest {
        func adapter(_ place: Int) -> JSONValue {
            .string("\(base):\(Self.adapterName(name, sweep: common.id, place: place))")
        }
        var models = [adapter(place)]
        if let other { models.append(adapter(other)) }
        var request = try request(
            "evaluate", place: 2 * place,
            [
                "models": .array(models),
                "metrics": .array(
                    (metric == "loss" ? [metric] : [metric, "loss"]).map { .string($0) }),
            ])
        request.inputs = [evaluation]
        request.after = [JobRequest.Dependency(job: finetune.id)]
        return request
    }

    private func entry(
        _ candidate: SweepCandidate, _ place: Int, _ finetune: JobRequest,
        _ evaluation: JobRequest
    ) throws -> ChooseSpec.Candidate {
        ChooseSpec.Candidate(
            adapter: ArtifactReference(
                text: "\(base):\(Self.adapterName(name, sweep: common.id, place: place))"),
            finetune: JobID(text: finetune.id), evaluation: JobID(text: evaluation.id),
            title: candidate.title, settings: .object(candidate.settings))
    }

    private func choose(
        _ candidates: [ChooseSpec.Candidate], stages: ChooseSpec.Stages?
    ) throws -> JobRequest {
        let spec = ChooseSpec(
            name: try WireName(checking: name), metric: metric, goal: goal, candidates: candidates,
            stages: stages)
        let encoded = try WireEncoder.encode(spec)
        _ = try BuiltInSpec(kind: .choose, spec: encoded)
        var request = try request("choose", place: 0, encoded)
        request.after = candidates.flatMap { candidate in
            [
                (candidate.finetune, ChooseSpec.trainingMetrics),
                (candidate.evaluation, ChooseSpec.evaluationMetrics(metric)),
            ].compactMap { job, metrics in
                job.map { JobRequest.Dependency(job: $0.text, on: "finish", tell: metrics) }
            }
        }
        return request
    }
}
