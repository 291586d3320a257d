import JSONModel

/// Which candidate of a `choose` is the best, as far as the jobs before it have come, and the table of all.
///
/// A function of the spec and the jobs' ends alone, so that the worker that chooses and a client that looks on agree.
public struct Choice: Sendable, Equatable {
    public struct Row: Codable, Sendable, Equatable {
        public enum State: String, Codable, Sendable, CaseIterable, WireEnumeration {
            case waiting, training, evaluating
            case evaluated, failed, skipped
            /// It was never to be tried.
            case leftOut = "left_out"
        }

        public var adapter: ArtifactReference?
        public var title: String?
        public var settings: JSONValue?
        public var state: State
        /// The metric that decides.
        public var value: Double?
        /// Of the evaluation.
        public var metrics: [String: Double]?
        /// Of the fine-tune.
        public var training: [String: Double]?
        /// Why it was not evaluated.
        public var reason: String?

        public init(state: State, adapter: ArtifactReference? = nil, title: String? = nil) {
            self.state = state
            self.adapter = adapter
            self.title = title
        }
    }

    /// In the order of the candidates.
    public let rows: [Row]
    /// The row of the best one that has been evaluated; nil: none has.
    public let best: Int?
    /// Why it is the best, and what ended the stages; nil: nothing to say yet.
    public let conclusion: String?

    /// - Parameter outcomes: How far the jobs have come that the candidates name; one that is not there waits.
    public init(_ spec: ChooseSpec, outcomes: [JobID: TaskEnvelope.Outcome]) {
        let rows = spec.candidates.map { Choice.row($0, spec.metric, outcomes) }
        let best = rows.indices.filter { rows[$0].state == .evaluated }
            .reduce(nil as Int?) { best, index in
                guard let best else { return index }
                return Choice.isBetter(rows[index], than: rows[best], spec) ? index : best
            }
        self.rows = rows
        self.best = best
        conclusion =
            spec.stages.map { StageRule($0, spec).conclusion(rows, best: best) }
            ?? best.map { Choice.conclusion(rows, best: $0, spec) }
    }

    /// Whether every candidate has come to its end.
    public var isComplete: Bool {
        rows.allSatisfy { ![.waiting, .training, .evaluating].contains($0.state) }
    }

    private static func row(
        _ candidate: ChooseSpec.Candidate, _ metric: String?,
        _ outcomes: [JobID: TaskEnvelope.Outcome]
    ) -> Row {
        var row = Row(state: .leftOut, adapter: candidate.adapter, title: candidate.title)
        row.settings = candidate.settings
        if let reason = candidate.leftOut {
            row.reason = reason
            return row
        }
        let finetune = candidate.finetune.flatMap { outcomes[$0] }
        row.training = finetune?.metrics
        guard let metric, let job = candidate.evaluation else {
            row.state = .evaluated
            return row
        }
        guard let evaluation = outcomes[job] else {
            row.state = .waiting
            return row
        }
        row.metrics = evaluation.metrics
        if evaluation.state == .succeeded {
            row.value = evaluation.metrics[metric]
            row.state = row.value == nil ? .failed : .evaluated
            if row.value == nil { row.reason = "job \(job) gave no metric `\(metric)`" }
            return row
        }
        // The fine-tune's own end is the cause, where it has come to a bad one.
        let lame = [finetune, evaluation].compactMap { $0 }.first {
            $0.state.isFinal && $0.state != .succeeded
        }
        if let lame {
            row.state = lame.state == .skipped ? .skipped : .failed
            row.reason = lame.error?.message ?? "job \(lame.job) ended as \(lame.state.rawValue)"
        } else if finetune?.state == .running {
            row.state = .training
        } else {
            let isTrained = finetune.map { $0.state == .succeeded } ?? true
            row.state = isTrained ? .evaluating : .waiting
        }
        return row
    }

    private static func isBetter(_ row: Row, than other: Row, _ spec: ChooseSpec) -> Bool {
        guard let a = row.value, let b = other.value, !a.isNaN else { return false }
        if b.isNaN { return true }
        if a != b { return spec.goal == .min ? a < b : a > b }
        if let a = row.metrics?["loss"], let b = other.metrics?["loss"] { return a < b }
        return false
    }

    private static func conclusion(_ rows: [Row], best: Int, _ spec: ChooseSpec) -> String {
        guard let metric = spec.metricTitle, let value = rows[best].value else {
            return "it is the only candidate"
        }
        let evaluated = rows.count { $0.state == .evaluated }
        let others = rows.count - evaluated
        let extreme = spec.goal == .min ? "lowest" : "highest"
        return "\(rows[best].name) has the \(extreme) \(metric) of \(evaluated), \(shown(value))"
            + (others > 0 ? "; \(others) could not be compared" : "")
    }

    /// A figure in a sentence: four decimals at most.
    static func shown(_ value: Double) -> String {
        guard value.isFinite, value.magnitude < 1e9 else { return "\(value)" }
        let rounded = (value * 10_000).rounded() / 10_000
        return rounded == rounded.rounded() ? "\(Int(rounded))" : "\(rounded)"
    }
}

extension Choice.Row {
    /// What a person calls it.
    public var name: String { title ?? adapter?.text ?? "?" }
}

/// What ends stages of which each begins from the one before.
public struct StageRule: Sendable, Equatable {
    public let metric: String
    public let goal: ChooseSpec.Goal
    public let target: Double
    public let minimumGain: Double

    init(_ stages: ChooseSpec.Stages, _ spec: ChooseSpec) {
        metric = spec.metric ?? ""
        goal = spec.goal ?? .max
        target = stages.target
        minimumGain = stages.minimumGain
    }

    public init(metric: String, goal: ChooseSpec.Goal, target: Double, minimumGain: Double) {
        self.metric = metric
        self.goal = goal
        self.target = target
        self.minimumGain = minimumGain
    }

    /// Under which the next stage begins, of the evaluation of this one, in this order: the target is not met, and (from the
    /// second stage on) this one gained enough over the one before.
    public func conditions(isFirst: Bool) -> [Dependency.Condition] {
        let open = Dependency.Condition(
            metric: metric, op: goal == .max ? .less : .greater, value: target)
        let pays = Dependency.Condition(
            metric: metric + "_gain", op: .greaterOrEqual, value: minimumGain)
        return isFirst ? [open] : [open, pays]
    }

    func isMet(_ value: Double) -> Bool { goal == .max ? value >= target : value <= target }

    /// Why the stages ended where they did; nil while they go on.
    func conclusion(_ rows: [Choice.Row], best: Int?) -> String? {
        let title = metric == "loss" ? "eval_loss" : metric
        let shown = Choice.shown
        if let met = rows.firstIndex(where: { $0.value.map(isMet) ?? false }),
            let value = rows[met].value
        {
            let rest = rows[(met + 1)...].contains { $0.state == .skipped }
            return "\(rows[met].name) meets the target: \(title) \(shown(value)), "
                + "\(goal == .max ? "at least" : "at most") \(shown(target))"
                + (rest ? "; the stages after it were not needed" : "")
        }
        let tried = rows.indices.filter { rows[$0].state != .leftOut }
        guard let end = tried.first(where: { rows[$0].state != .evaluated }) else {
            guard let best, let value = rows[best].value else { return nil }
            return "every stage ran; the best, \(rows[best].name), has \(title) \(shown(value)), "
                + "\(goal == .max ? "below" : "above") the target \(shown(target))"
        }
        switch rows[end].state {
        case .failed: return "\(rows[end].name) failed: \(rows[end].reason ?? "")"
        case .skipped:
            guard let last = tried.last(where: { $0 < end }) else { return rows[end].reason }
            guard let gain = rows[last].metrics?[metric + "_gain"], gain < minimumGain else {
                return rows[end].reason
            }
            return
                "\(rows[last].name) no longer pays: it gained \(shown(gain)) in \(title) over the stage before, "
                + "less than \(shown(minimumGain)); the stages after it were skipped"
        default: return nil
        }
    }
}
